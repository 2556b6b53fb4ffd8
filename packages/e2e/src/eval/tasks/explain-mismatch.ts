import { z } from "zod";
import { finding } from "../findings.ts";
import { createCustomers, fillProducts, loadBefore, productColumns } from "../products.ts";
import type { Task } from "../task.ts";

const changed = ["P000000017", "P000000123"];
const gone = "P000000042";

export const explainMismatch: Task = {
  name: "explain-mismatch",
  level: "medium",
  wish:
    "The index {products} was loaded into the table shop.products by {load}. Somebody may have worked on the table since. Is it " +
    "still what was loaded? Tell me which rows differ in what, and change nothing.",
  indices: ["products"],
  mayChange: [],
  async prepare(place) {
    await createCustomers(place);
    await fillProducts(place, { count: 150, seed: 12 });
    await place.sql(`CREATE TABLE shop.products (${productColumns})`);
    await loadBefore(place, "shop.products");
    await place.sql("UPDATE shop.products SET price = price + 1 WHERE id = ANY ($1)", [changed]);
    await place.sql("DELETE FROM shop.products WHERE id = $1", [gone]);
  },
  async check(place, { calls }) {
    const documents = await place.documents("products");
    const table = new Map((await place.sql("SELECT id, price FROM shop.products")).map(([id, price]) => [id, price]));
    const missing = documents.filter(({ id }) => !table.has(id)).length;
    const different = documents.filter(
      ({ id, source }) => table.has(id) && Number(table.get(id)) !== Number(source["price"]),
    ).length;
    const told = z.looseObject({ verdict: z.literal("different"), missing: z.number(), different: z.number() });
    const verdicts = calls.flatMap(({ tool, answer }) => {
      const read = told.safeParse(answer.data);
      return tool === "verify_load" && read.success ? [read.data] : [];
    });
    const texts = calls.map(({ answer }) => answer.text);
    const unnamed = [...changed, gone].filter((id) => !texts.some((text) => text.includes(id)));
    return [
      finding(
        "the comparison counted what differs",
        missing === 1 &&
          different === 2 &&
          verdicts.some((verdict) => verdict.missing === missing && verdict.different === different),
        verdicts.map((verdict) => `${verdict.missing} missing, ${verdict.different} different`).join("; ") ||
          "no comparison",
      ),
      finding("the rows that differ were named to the model", unnamed.length === 0, `not named: ${unnamed.join(", ")}`),
    ];
  },
  recording: [
    [
      ["get_load", { load_id: "{load}" }],
      ["verify_load", { load_id: "{load}" }],
    ],
    "Two rows have another price, and one is gone.",
  ],
};
