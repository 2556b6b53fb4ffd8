import { rowsAre } from "../findings.ts";
import { createCustomers, fillProducts, productColumns, productRow, selectProducts } from "../products.ts";
import type { Task } from "../task.ts";

/** Products that are in the table already, with what only the table knows of them. */
const known = ["prod-001", "prod-002", "prod-003"];

export const addColumn: Task = {
  name: "add-column",
  level: "medium",
  wish:
    "Bring the index {products} into the table shop.products. The table has no column for the brand yet: add it, I agree. " +
    "What the table knows in its own column shelf must stay.",
  reply: "Yes, add the column brand; nothing else.",
  indices: ["products"],
  mayChange: ["shop.products"],
  async prepare(place) {
    await createCustomers(place);
    await fillProducts(place);
    await place.sql(`CREATE TABLE shop.products (${productColumns}, shelf text)`);
    await place.sql("ALTER TABLE shop.products DROP COLUMN brand");
    await place.sql(
      "INSERT INTO shop.products (id, name, price, shelf) SELECT id, 'an old name', 1, 'shelf of ' || id FROM unnest($1::text[]) AS id",
      [known],
    );
  },
  async check(place) {
    const products = await place.documents("products");
    return [
      await rowsAre(place, {
        claim: "the table holds the fifteen products with their brands",
        sql: selectProducts("shop.products"),
        rows: products.map(productRow),
      }),
      await rowsAre(place, {
        claim: "the shelves of the old rows are there, and no others",
        sql: "SELECT id, shelf FROM shop.products WHERE shelf IS NOT NULL",
        rows: known.map((id) => ({ id, shelf: `shelf of ${id}` })),
      }),
    ];
  },
  recording: [
    [
      ["get_mapping", { index: "{products}" }],
      ["get_schema", { table: "shop.products" }],
    ],
    [["bulk_export", { index: "{products}" }]],
    [["propose_mapping", { export_id: "$.export_id", table: "shop.products" }]],
    [
      [
        "create_table",
        {
          table: "shop.products",
          mapping: { id: "$.mapping_id", changes: { columns: [{ column: "brand", from: "brand", type: "text" }] } },
          add_columns: true,
        },
      ],
    ],
    [["propose_mapping", { export_id: "$.export_id", table: "shop.products" }]],
    [["bulk_insert", { table: "shop.products", export_id: "$.export_id", mapping: "$.mapping_id" }]],
    [["verify_load", { load_id: "$.load_id" }]],
    "The brand is in, and the shelves are where they were.",
  ],
};
