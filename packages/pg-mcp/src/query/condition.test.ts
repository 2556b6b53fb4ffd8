import { describe, expect, it } from "vitest";
import type { Table } from "../postgres/index.ts";
import { conditionSql, parseCondition } from "./condition.ts";

const column = (name: string, baseType: string) => ({
  name,
  type: baseType,
  typeOid: "0",
  baseType,
  typmod: -1,
  collation: null,
  comparedIn: null,
  notNull: false,
  default: null,
  generated: null,
  identity: null,
  comment: null,
});

const table: Table = {
  oid: "1",
  schema: "public",
  table: "t",
  kind: "table",
  persistence: "permanent",
  rowSecurity: false,
  rowsEstimate: null,
  comment: null,
  partitionOf: null,
  partitionKey: null,
  partitions: 0,
  columns: [column("price", "numeric"), column('odd"name', "text"), column("details", "jsonb")],
  primaryKey: null,
  uniques: [],
  checks: [],
  foreignKeys: [],
  indexes: [],
  triggers: [],
  rules: [],
};

function sql(given: unknown): { text: string; params: (string | null)[] } {
  const params: (string | null)[] = [];
  return { text: conditionSql(parseCondition(given), table, params), params };
}

describe("a structured condition", () => {
  it("understands other names of its members, and one value for a list", () => {
    expect(sql({ field: "price", operator: "gt", value: 1 })).toEqual(sql({ column: "price", op: ">", value: 1 }));
    expect(sql({ column: "price", op: "in", value: 1 })).toEqual(sql({ column: "price", op: "in", value: [1] }));
  });

  it("becomes SQL with quoted names and its values apart", () => {
    expect(
      sql({
        and: [
          { column: "price", op: ">=", value: "9007199254740993" },
          {
            or: [
              { column: 'odd"name', op: "in", value: ["a", "b'; --"] },
              { column: "price", op: "is_null" },
            ],
          },
          { not: { column: "price", op: "between", value: [1, 2] } },
        ],
      }),
    ).toEqual({
      text: '("price" >= $1 AND ("odd""name" = ANY($2) OR "price" IS NULL) AND NOT ("price" BETWEEN $3 AND $4))',
      params: ["9007199254740993", '{"a","b\'; --"}', "1", "2"],
    });
  });

  it("writes JSON for a JSON column", () => {
    expect(sql({ column: "details", op: "contains", value: { a: [1] } })).toEqual({
      text: '"details" @> $1',
      params: ['{"a":[1]}'],
    });
  });

  it("compares patterns with the text of any column", () => {
    expect(sql({ column: "price", op: "LIKE", value: "1%" }).text).toBe('"price"::text LIKE $1');
  });

  it.each([
    ["an unknown operator", { column: "price", op: "=>", value: 1 }],
    ["a missing value", { column: "price", op: "=" }],
    ["null as a value", { column: "price", op: "=", value: null }],
    ["a list that is none", { column: "price", op: "in", value: { low: 1 } }],
    ["a list of nothing said", { column: "price", op: "in", value: null }],
    ["a comparison that says its column twice", { column: "price", field: "price", op: "=", value: 1, and: [] }],
    ["a misspelt field", { colum: "price", op: "=", value: 1 }],
    ["two conditions in one", { and: [{ column: "price", op: "is_null" }], or: [] }],
    ["an empty list", { and: [] }],
    ["a list at the top", [{ column: "price", op: "is_null" }]],
  ])("refuses %s", (_, given) => {
    expect(() => sql(given)).toThrow(expect.objectContaining({ code: "invalid_arguments" }));
  });

  it("names the nearest column", () => {
    expect(() => sql({ column: "prize", op: "is_null" })).toThrow(
      expect.objectContaining({ code: "column_not_found", details: { column: "prize", nearest: ["price"] } }),
    );
  });

  it("refuses a nesting that no person writes", () => {
    let given: unknown = { column: "price", op: "is_null" };
    for (let depth = 0; depth < 30; depth++) given = { not: given };
    expect(() => sql(given)).toThrow(expect.objectContaining({ code: "invalid_arguments" }));
  });
});
