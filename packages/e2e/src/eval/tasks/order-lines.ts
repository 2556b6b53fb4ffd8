import { rowsAre } from "../findings.ts";
import type { EvalDocument } from "../place.ts";
import { createCustomers } from "../products.ts";
import type { Task } from "../task.ts";

interface Line {
  sku: string;
  quantity: number;
  unit_price: number;
}

/** Orders of one to four lines; the seventh and each further tenth has none. */
function* orders(): Generator<EvalDocument> {
  for (let number = 1; number <= 90; number++) {
    const lines = Array.from(
      { length: number % 10 === 7 ? 0 : 1 + (number % 4) },
      (_, at): Line => ({
        sku: `SKU-${(number * 13 + at * 7) % 100}`,
        quantity: 1 + ((number + at) % 5),
        unit_price: (100 + ((number * 37 + at * 11) % 900)) / 100,
      }),
    );
    const id = `O${String(number).padStart(4, "0")}`;
    const note = `Leave the parcel of order ${id} with the neighbour.`;
    yield { id, source: { order_id: id, customer: number % 12, note, lines } };
  }
}

export const orderLines: Task = {
  name: "order-lines",
  level: "hard",
  wish:
    "Copy the index {orders} to the table shop.orders with its fields order_id (the key), customer and note. The nested lines " +
    "go to a table of their own, shop.order_lines: order_id, position (1 for the first line), sku, quantity and unit_price.",
  indices: ["orders"],
  mayChange: ["shop.orders", "shop.order_lines"],
  async prepare(place) {
    await createCustomers(place);
    await place.createIndex(
      "orders",
      {
        order_id: { type: "keyword" },
        customer: { type: "integer" },
        note: { type: "text" },
        lines: {
          type: "nested",
          properties: {
            sku: { type: "keyword" },
            quantity: { type: "integer" },
            unit_price: { type: "double" },
          },
        },
      },
      orders(),
    );
  },
  async check(place) {
    const documents = await place.documents("orders");
    return [
      await rowsAre(place, {
        claim: "each order is a row",
        sql: "SELECT order_id, customer::bigint, note FROM shop.orders",
        rows: documents.map(({ source: { order_id, customer, note } }) => ({ order_id, customer, note })),
      }),
      await rowsAre(place, {
        claim: "each line of an order is a row at its position",
        sql: "SELECT order_id, position::bigint, sku, quantity::bigint, unit_price::numeric FROM shop.order_lines",
        rows: documents.flatMap(({ source: { order_id, lines } }) =>
          Array.isArray(lines) ? lines.map((line: Line, at) => ({ order_id, position: at + 1, ...line })) : [],
        ),
      }),
    ];
  },
  recording: [
    [
      ["get_mapping", { index: "{orders}" }],
      ["profile_index", { index: "{orders}" }],
      ["list_tables", { schema: "shop" }],
    ],
    [["bulk_export", { index: "{orders}" }]],
    [["propose_mapping", { export_id: "$.export_id", table: "shop.orders" }]],
    [["create_table", { table: "shop.orders", mapping: { id: "$.mapping_id", changes: lineChanges() } }]],
    [
      [
        "bulk_insert",
        { table: "shop.orders", export_id: "$.export_id", mapping: { id: "$.mapping_id", changes: lineChanges() } },
      ],
    ],
    [
      ["verify_load", { load_id: "$.load_id" }],
      ["count_rows", { table: "shop.order_lines" }],
    ],
    "Orders and their lines are in their tables.",
  ],
};

/** What the recording makes of the proposal: the lines leave the parent and become a table. */
function lineChanges(): object {
  return {
    remove: ["lines"],
    children: [
      {
        from: "lines",
        table: "shop.order_lines",
        parent_key: ["order_id"],
        ordinal: "position",
        columns: [
          { column: "sku", from: "sku", type: "text" },
          { column: "quantity", from: "quantity", type: "integer" },
          { column: "unit_price", from: "unit_price", type: "numeric(10,2)" },
        ],
      },
    ],
  };
}
