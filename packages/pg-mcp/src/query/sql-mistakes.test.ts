import { ToolError } from "@es-to-pg/mcp-kit";
import { expect, test } from "vitest";
import { explained, mistakeOf } from "./sql-mistakes.ts";

test.each([
  ["INSERT INTO t VALUES (1)", "insert_data"],
  ["  update t set a = 1", "on_conflict"],
  ["DELETE FROM t", "mode replace"],
  ["COPY t FROM stdin", "bulk_insert"],
  ["CREATE TABLE t (id int)", "create_table"],
  ["ALTER TABLE t ADD c int", "add_columns:true"],
])("names what writes in place of %s", (sql, named) => {
  expect(mistakeOf(sql)).toMatchObject({ code: "read_only", next: expect.stringContaining(named) });
});

test.each([
  ["SHOW TABLES;", { tool: "list_tables", arguments: {} }],
  ["\\dt", { tool: "list_tables", arguments: {} }],
  ["\\d+ shop.orders", { tool: "get_schema", arguments: { table: "shop.orders" } }],
  ['DESC "Orders"', { tool: "get_schema", arguments: { table: '"Orders"' } }],
  ["show columns from orders", { tool: "get_schema", arguments: { table: "orders" } }],
  ["SELECT `a b` FROM `t`", { arguments: { sql: 'SELECT "a b" FROM "t"' } }],
  [
    "SELECT DISTINCT TOP (3) a FROM t ORDER BY a;",
    { arguments: { sql: "SELECT DISTINCT a FROM t ORDER BY a LIMIT 3" } },
  ],
  ["SELECT a FROM t LIMIT 20, 10", { arguments: { sql: "SELECT a FROM t LIMIT 10 OFFSET 20" } }],
  ["```sql\nSELECT `a`\n```", { arguments: { sql: "SELECT `a`" } }],
  [
    "SELECT a::text, ':b' FROM t WHERE a > :low AND b < :high OR a = :low",
    { arguments: { sql: "SELECT a::text, ':b' FROM t WHERE a > $1 AND b < $2 OR a = $1" } },
  ],
  ["SELECT a FROM t WHERE a = %s AND b = %s", { arguments: { sql: "SELECT a FROM t WHERE a = $1 AND b = $2" } }],
  [
    "SELECT '?' FROM t WHERE a = ? AND b IN (?, ?)",
    { arguments: { sql: "SELECT '?' FROM t WHERE a = $1 AND b IN ($2, $3)" } },
  ],
])("writes %s as it is written here", (sql, instead) => {
  expect(mistakeOf(sql)?.instead).toEqual(instead);
});

test.each(["SELECT 1", "SELECT updated FROM t", "WITH a AS (SELECT 1) SELECT * FROM a", "SELEC 1"])(
  "sees nothing of the kind in %s",
  (sql) => {
    expect(mistakeOf(sql)).toBeUndefined();
  },
);

test("names no tool that writes where there is none", () => {
  const refusal = new ToolError("syntax_error", "PostgreSQL: syntax error.");
  const next = explained("INSERT INTO t VALUES (1)", refusal, { isWritable: false })?.next;
  expect(next).toBe("Read with SELECT; this server has no tool that writes.");
});

test("keeps what the server said of the statement", () => {
  const refusal = new ToolError("syntax_error", "PostgreSQL: syntax error.", { details: { sqlstate: "42601" } });
  expect(explained("SELECT a FROM t WHERE b = ?", refusal)).toMatchObject({
    code: "syntax_error",
    message: "Parameters are numbered.",
    details: { sqlstate: "42601" },
  });
  expect(explained("SELECT (1", refusal)).toBeUndefined();
});
