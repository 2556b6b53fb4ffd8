import { finding, rowsAre } from "../findings.ts";
import { createCustomers, fillProducts, productColumns, productRow, selectProducts } from "../products.ts";
import type { Run, Task } from "../task.ts";

export const replaceTable: Task = {
  name: "replace-table",
  level: "medium",
  wish:
    "Make the table shop.products equal to the index {products}: rows that are not in the index have to go. Tell me how " +
    "many would go before you do it.",
  reply: "Yes, delete them.",
  indices: ["products"],
  mayChange: ["shop.products"],
  async prepare(place) {
    await createCustomers(place);
    await fillProducts(place);
    await place.sql(`CREATE TABLE shop.products (${productColumns})`);
    await place.sql(
      "INSERT INTO shop.products (id, name) SELECT 'prod-' || lpad(n::text, 3, '0'), 'an old name' FROM generate_series(8, 20) AS n",
    );
  },
  async check(place, run) {
    const loads = await place.sql(
      "SELECT dry_run, deleted FROM data_transformer.loads WHERE mode = 'replace' AND status = 'completed' ORDER BY created_at",
    );
    const states = loads.map(([dry, deleted]) => `${dry === "true" || dry === "t" ? "dry run" : "load"} of ${deleted}`);
    return [
      await rowsAre(place, {
        claim: "the table holds the fifteen products and nothing else",
        sql: selectProducts("shop.products"),
        rows: (await place.documents("products")).map(productRow),
      }),
      finding(
        "a dry run counted the five rows before a load deleted them",
        states[0] === "dry run of 5" && states.at(-1) === "load of 5",
        states.join(", ") || "no load replaced anything",
      ),
      finding("the user was asked in between", wasAskedBefore(run), "the load came without an answer of the user"),
    ];
  },
  recording: [
    [
      ["get_schema", { table: "shop.products" }],
      ["bulk_export", { index: "{products}" }],
    ],
    [["propose_mapping", { export_id: "$.export_id", table: "shop.products" }]],
    [
      [
        "bulk_insert",
        {
          table: "shop.products",
          export_id: "$.export_id",
          mapping: "$.mapping_id",
          mode: "replace",
          dry_run: true,
        },
      ],
    ],
    "Five rows of the table are not in the index and would be deleted. Shall I?",
    [
      [
        "bulk_insert",
        {
          table: "shop.products",
          export_id: "$.export_id",
          mapping: "$.mapping_id",
          mode: "replace",
          confirm: "$.confirm",
        },
      ],
    ],
    [["verify_load", { load_id: "$.load_id", extra: true }]],
    "The table equals the index; five rows are gone.",
  ],
};

/** Whether the user had the word between the dry run and the load that deleted. */
function wasAskedBefore({ transcript }: Run): boolean {
  const isReplace = (dryRun: boolean): number =>
    transcript.findIndex(
      (entry) =>
        entry.role === "tools" &&
        entry.calls.some(
          ({ tool, args, answer }) =>
            tool === "bulk_insert" &&
            args["mode"] === "replace" &&
            (args["dry_run"] === true) === dryRun &&
            !answer.isError,
        ),
    );
  const [dry, real] = [isReplace(true), isReplace(false)];
  return dry >= 0 && transcript.slice(dry, Math.max(dry, real)).some(({ role }) => role === "user");
}
