import { finding, rowsAre } from "../findings.ts";
import { createCustomers, fillProducts } from "../products.ts";
import type { Task } from "../task.ts";

export const renameAndSelect: Task = {
  name: "rename-and-select",
  level: "easy",
  wish:
    "Make a price list of the index {products}: a table shop.price_list with exactly three columns, sku (the product's id, " +
    "which is the key), title (its name) and price_eur (its price, with two decimals).",
  indices: ["products"],
  mayChange: ["shop.price_list"],
  async prepare(place) {
    await createCustomers(place);
    await fillProducts(place, { count: 200, seed: 2 });
  },
  async check(place) {
    const columns = await place.sql(
      "SELECT column_name FROM information_schema.columns WHERE table_schema = 'shop' AND table_name = 'price_list' ORDER BY 1",
    );
    const key = await place.sql(`SELECT a.attname FROM pg_index AS i JOIN pg_attribute AS a ON a.attrelid = i.indrelid
      AND a.attnum = ANY (i.indkey) WHERE i.indrelid = to_regclass('shop.price_list') AND i.indisprimary`);
    return [
      finding(
        "the table has the three columns and no other",
        columns.flat().join() === "price_eur,sku,title",
        columns.flat().join(", ") || "no such table",
      ),
      finding("sku is the primary key", key.flat().join() === "sku", key.flat().join(", ") || "no primary key"),
      await rowsAre(place, {
        claim: "each product is there under its new names",
        sql: "SELECT sku, title, price_eur::numeric FROM shop.price_list",
        rows: (await place.documents("products")).map(({ source }) => ({
          sku: source["id"],
          title: source["name"],
          price_eur: source["price"],
        })),
      }),
    ];
  },
  recording: [
    [
      ["get_mapping", { index: "{products}" }],
      ["get_schema", { table: "shop.price_list" }],
    ],
    [["bulk_export", { index: "{products}", fields: ["id", "name", "price"] }]],
    [["propose_mapping", { export_id: "$.export_id", table: "shop.price_list" }]],
    [["create_table", { table: "shop.price_list", mapping: { id: "$.mapping_id", changes: changes() } }]],
    [
      [
        "bulk_insert",
        { table: "shop.price_list", export_id: "$.export_id", mapping: { id: "$.mapping_id", changes: changes() } },
      ],
    ],
    [["verify_load", { load_id: "$.load_id" }]],
    "The price list holds 200 products.",
  ],
};

/** What the recording makes of the proposal: three columns under new names. */
function changes(): object {
  return {
    key: ["sku"],
    // The proposal has a column for each field that was exported.
    remove: ["id", "name", "price"],
    columns: [
      { column: "sku", from: "id", type: "text" },
      { column: "title", from: "name", type: "text" },
      { column: "price_eur", from: "price", type: "numeric(10,2)" },
    ],
  };
}
