import { rowsAre } from "../findings.ts";
import { createCustomers, fillProducts, productRow, selectProducts } from "../products.ts";
import type { Task } from "../task.ts";

export const copyProducts: Task = {
  name: "copy-products",
  level: "easy",
  wish: "Copy the index {products} to the table shop.products.",
  indices: ["products"],
  mayChange: ["shop.products"],
  async prepare(place) {
    await createCustomers(place);
    await fillProducts(place);
  },
  check: async (place) => [
    await rowsAre(place, {
      claim: "the table holds the fifteen products, field by field",
      sql: selectProducts("shop.products"),
      rows: (await place.documents("products")).map(productRow),
    }),
  ],
  recording: [
    [
      ["list_indices", { pattern: "{products}" }],
      ["list_tables", { schema: "shop" }],
    ],
    [
      ["get_mapping", { index: "{products}" }],
      ["profile_index", { index: "{products}" }],
      ["get_schema", { table: "shop.products" }],
    ],
    [["bulk_export", { index: "{products}" }]],
    [["propose_mapping", { export_id: "$.export_id", table: "shop.products" }]],
    [["create_table", { table: "shop.products", mapping: "$.mapping_id" }]],
    [["bulk_insert", { table: "shop.products", export_id: "$.export_id", mapping: "$.mapping_id" }]],
    [
      ["verify_load", { load_id: "$.load_id" }],
      ["count_rows", { table: "shop.products" }],
    ],
    "All fifteen products are in shop.products.",
  ],
};
