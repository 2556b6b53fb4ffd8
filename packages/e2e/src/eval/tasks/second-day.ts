import { generateDocument } from "@es-to-pg/seed";
import { finding, rowsAre } from "../findings.ts";
import { createCustomers, fillProducts, loadBefore, productColumns, productRow, selectProducts } from "../products.ts";
import type { Task } from "../task.ts";

const firstDay = 300;
/** Numbers of the products that the second day brings: new ones, and known ones as another seed makes them. */
const added = [300, 301, 302, 303, 304, 305, 306];
const changed = [5, 50, 77, 120, 299];

export const secondDay: Task = {
  name: "second-day",
  level: "medium",
  wish:
    "Yesterday the index {products} was exported as {export} and loaded into the table shop.products. Bring over what was " +
    "written to the index since then, without moving everything again.",
  indices: ["products"],
  mayChange: ["shop.products"],
  async prepare(place) {
    await createCustomers(place);
    await fillProducts(place, { count: firstDay, seed: 6 });
    await place.sql(`CREATE TABLE shop.products (${productColumns})`);
    await loadBefore(place, "shop.products");
    const written = [...added, ...changed].map((number) => generateDocument(number, { dirty: false, seed: 66 }));
    await place.write(
      "products",
      written.map(({ id, source }) => ({ id, source: source.toString() })),
    );
  },
  async check(place) {
    const delta = added.length + changed.length;
    const [[expected, staged, rejected] = []] = await place.sql(
      "SELECT expected, staged, rejected FROM data_transformer.loads WHERE NOT dry_run ORDER BY created_at DESC LIMIT 1",
    );
    // The first day's load wrote all of its rows in one transaction.
    const [[old] = []] = await place.sql(
      "SELECT count(*) FROM shop.products WHERE xmin::text = (SELECT min(xmin::text::bigint)::text FROM shop.products)",
    );
    return [
      await rowsAre(place, {
        claim: "the table equals the index as it is today",
        sql: selectProducts("shop.products"),
        rows: (await place.documents("products")).map(productRow),
      }),
      finding(
        "only the documents of the second day were moved",
        [expected, staged, rejected].join() === `${delta},${delta},0`,
        `the last load expected ${expected} for ${delta}`,
      ),
      finding(
        "rows without a change were not written",
        Number(old) === firstDay - changed.length,
        `${old} rows are as the first day left them`,
      ),
    ];
  },
  recording: [
    [
      ["get_export", { export_id: "{export}" }],
      ["get_schema", { table: "shop.products" }],
    ],
    [["bulk_export", { index: "{products}", since: "{export}" }]],
    [["propose_mapping", { export_id: "$.export_id", table: "shop.products" }]],
    [["bulk_insert", { table: "shop.products", export_id: "$.export_id", mapping: "$.mapping_id" }]],
    [
      ["verify_load", { load_id: "$.load_id" }],
      ["count_rows", { table: "shop.products" }],
    ],
    "Seven products are new and five have changed.",
  ],
};
