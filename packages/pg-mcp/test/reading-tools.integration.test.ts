import { Cursors, createLogger, Jobs, readSettings, type ToolCall } from "@es-to-pg/mcp-kit";
import { afterAll, beforeAll, describe, expect, inject, it } from "vitest";
import { z } from "zod";
import { pgSettings } from "../src/config.ts";
import { everything, type TablePolicy } from "../src/postgres/index.ts";
import { countRows } from "../src/tools/count-rows.ts";
import { executeQuery } from "../src/tools/execute-query.ts";
import { getSchema } from "../src/tools/get-schema.ts";
import { listTablesTool } from "../src/tools/list-tables.ts";
import type { PgContext } from "../src/tools/tool.ts";
import { createDatabase, type TestDatabase } from "./support.ts";

const setup = `
CREATE SCHEMA shop;
CREATE SCHEMA other;
CREATE TABLE shop.products (id varchar(50) PRIMARY KEY, price numeric(10,2) CHECK (price >= 0), tags text[], born date, flags char(3));
INSERT INTO shop.products VALUES ('1', 1.10, '{a,b}', '2024-01-01', 'x'), ('2', 20, '{b}', NULL, 'y'), ('3', NULL, NULL, NULL, 'y');
COMMENT ON TABLE shop.products IS E'What\\nwe sell';
CREATE TABLE shop.events (id bigint, at date) PARTITION BY RANGE (at);
CREATE TABLE shop.events_2024 PARTITION OF shop.events FOR VALUES FROM ('2024-01-01') TO ('2025-01-01');
CREATE TABLE shop.events_2025 PARTITION OF shop.events FOR VALUES FROM ('2025-01-01') TO ('2026-01-01');
INSERT INTO shop.events SELECT g, date '2024-06-01' FROM generate_series(1, 500) g;
CREATE VIEW shop.dear AS SELECT * FROM shop.products WHERE price > 10;
CREATE MATERIALIZED VIEW shop.totals AS SELECT count(*) FROM shop.products;
CREATE TABLE shop."Odd ""Name""" (x int);
CREATE TABLE other.hidden (x int);
DO $d$ BEGIN FOR i IN 1..300 LOOP EXECUTE format('CREATE TABLE other.many_%s (x int)', lpad(i::text, 3, '0')); END LOOP;
  EXECUTE 'CREATE TABLE other.wide (' || (SELECT string_agg(format('a_rather_long_column_name_%s text', g), ', ') FROM generate_series(1, 1500) g) || ')';
END $d$;
ANALYZE shop.products;
ANALYZE shop.events;
`;

let database: TestDatabase;

beforeAll(async () => {
  database = await createDatabase(inject("databaseUrl"), setup);
});

afterAll(() => database.drop());

const cursors = new Cursors();

function context(policy: TablePolicy = everything): PgContext & ToolCall {
  return {
    postgres: database.postgres,
    store: () => Promise.reject(new Error("no tool of this file touches staging")),
    jobs: new Jobs(),
    settings: readSettings(pgSettings, {}),
    logger: createLogger({ level: "error" }),
    policy,
    signal: new AbortController().signal,
    progress: () => {},
    cursors,
  };
}

/** Calls a tool as the boundary does: defaults filled in, the answer held to its schema. */
async function call<Input extends z.ZodObject, Output extends z.ZodObject>(
  tool: {
    input: Input;
    output: Output;
    handler(params: z.output<Input>, context: PgContext & ToolCall): Promise<z.input<Output>>;
  },
  params: z.input<Input>,
  policy?: TablePolicy,
): Promise<z.output<Output>> {
  return tool.output.parse(await tool.handler(tool.input.parse(params), context(policy)));
}

describe("list_tables", () => {
  it("names the nearest schema that the settings allow where there is none of the name", async () => {
    const wanted = call(listTablesTool, { schema: "shopp" }, { ...everything, schemasDeny: ["other"] });
    await expect(wanted).rejects.toMatchObject({ code: "schema_not_found", details: { nearest: ["shop"] } });
    const denied = call(listTablesTool, { schema: "others" }, { ...everything, schemasDeny: ["other"] });
    await expect(denied).rejects.toMatchObject({ code: "schema_not_found", details: { nearest: [] } });
  });

  it("lists tables, views and materialized views, with partitions folded and comments on one line", async () => {
    const { tables, total, next_cursor: next } = await call(listTablesTool, { schema: "shop" });
    expect(tables).toEqual([
      { schema: "shop", table: 'Odd "Name"', kind: "table", rows_estimate: null, bytes: 0 },
      { schema: "shop", table: "dear", kind: "view", rows_estimate: null, bytes: 0 },
      {
        schema: "shop",
        table: "events",
        kind: "partitioned",
        rows_estimate: 500,
        bytes: expect.any(Number),
        partitions: 2,
      },
      {
        schema: "shop",
        table: "products",
        kind: "table",
        rows_estimate: 3,
        bytes: expect.any(Number),
        comment: "What\\nwe sell",
      },
      { schema: "shop", table: "totals", kind: "materialized view", rows_estimate: null, bytes: expect.any(Number) },
    ]);
    expect([total, next]).toEqual([5, undefined]);
  });

  it("pages through many without a gap or a repetition, each page within its bytes", async () => {
    const names: string[] = [];
    let cursor: string | undefined;
    do {
      const page: { tables: { table: string }[]; next_cursor?: string | undefined } = await call(listTablesTool, {
        pattern: "many_*",
        ...(cursor === undefined ? {} : { cursor }),
      });
      expect(JSON.stringify(page).length).toBeLessThan(7_000);
      names.push(...page.tables.map(({ table }) => table));
      cursor = page.next_cursor;
    } while (cursor !== undefined);
    expect(names).toEqual(Array.from({ length: 300 }, (_, index) => `many_${String(index + 1).padStart(3, "0")}`));
  });

  it("matches a pattern with a dot against schema and table, and shows only what the settings allow", async () => {
    const policy = { ...everything, schemasDeny: ["other"] };
    expect((await call(listTablesTool, { pattern: "shop.p*" })).tables.map(({ table }) => table)).toEqual(["products"]);
    expect((await call(listTablesTool, { pattern: "hidden" }, policy)).total).toBe(0);
  });

  it("says how much the reading role could do", async () => {
    expect((await call(listTablesTool, {})).posture).toMatch(/^reads as \w+, a superuser: give POSTGRES_READER_USER/);
  });
});

describe("get_schema", () => {
  it("describes a table compactly", async () => {
    expect(await call(getSchema, { table: "shop.products" })).toEqual({
      schema: "shop",
      table: "products",
      kind: "table",
      comment: "What\\nwe sell",
      rows_estimate: 3,
      columns: [
        { name: "id", type: "character varying(50)", not_null: true },
        { name: "price", type: "numeric(10,2)" },
        { name: "tags", type: "text[]" },
        { name: "born", type: "date" },
        { name: "flags", type: "character(3)" },
      ],
      columns_total: 5,
      primary_key: ["id"],
      uniques: [],
      checks: [{ name: "products_price_check", definition: "CHECK ((price >= (0)::numeric))" }],
      indexes: [
        { name: "products_pkey", definition: "CREATE UNIQUE INDEX products_pkey ON shop.products USING btree (id)" },
      ],
    });
  });

  it.each(["products", "PRODUCTS", '"products"'])("finds %s in the schema given", async (table) => {
    expect(await call(getSchema, { table, schema: "shop" })).toMatchObject({ table: "products" });
  });

  it("finds an unqualified name in the schemas that are allowed", async () => {
    expect(
      await call(getSchema, { table: "products" }, { ...everything, schemasAllow: ["other", "shop"] }),
    ).toMatchObject({
      schema: "shop",
    });
  });

  it("names the nearest tables of all schemas where there is none", async () => {
    await expect(call(getSchema, { table: "prodcts" })).rejects.toMatchObject({
      code: "table_not_found",
      details: { nearest: ["shop.products"] },
    });
  });

  it("refuses a table that the settings leave out", async () => {
    await expect(
      call(getSchema, { table: "other.hidden" }, { ...everything, tablesDeny: ["hidden"] }),
    ).rejects.toMatchObject({
      code: "table_not_allowed",
    });
  });

  it("pages through the columns of a wide table", async () => {
    const first = await call(getSchema, { table: "other.wide" });
    expect(JSON.stringify(first).length).toBeLessThan(8_000);
    expect(first.columns_total).toBe(1500);
    const second = await call(getSchema, { table: "other.wide", cursor: first.next_cursor });
    expect(second.columns[0]?.name).toBe(`a_rather_long_column_name_${first.columns.length + 1}`);
  });

  it("describes a view and a partitioned table", async () => {
    expect(await call(getSchema, { table: "shop.dear" })).toMatchObject({ kind: "view", primary_key: null });
    expect(await call(getSchema, { table: "shop.events" })).toMatchObject({
      kind: "partitioned",
      partition_key: "RANGE (at)",
      partitions: 2,
    });
  });
});

describe("count_rows", () => {
  it.each([
    [undefined, 3],
    [{ column: "price", op: ">", value: "1.10" }, 1],
    [{ column: "price", op: "is_null" }, 1],
    [{ column: "tags", op: "contains", value: ["b"] }, 2],
    [{ column: "id", op: "in", value: ["1", "3", "x'; --"] }, 2],
    [{ column: "born", op: "between", value: ["2023-01-01", "2024-01-01"] }, 1],
    [{ column: "flags", op: "=", value: "y" }, 2],
    [{ or: [{ column: "id", op: "like", value: "1%" }, { not: { column: "price", op: "not_null" } }] }, 2],
    ["price > 1.0 OR price IS NULL -- a comment", 3],
  ])("counts %j", async (where, count) => {
    expect(await call(countRows, { table: "products", schema: "shop", where })).toEqual({
      schema: "shop",
      table: "products",
      count,
      exact: true,
    });
  });

  it("takes parameters in a SQL condition", async () => {
    const { count } = await call(countRows, {
      table: "shop.products",
      where: "id = ANY($1) AND price < $2",
      params: [["1", "2"], 5],
    });
    expect(count).toBe(1);
  });

  it("estimates, and says that it did", async () => {
    expect(await call(countRows, { table: "shop.events", estimate: true })).toMatchObject({ exact: false });
    // Of an empty partition, a planner before 14 thinks ten pages.
    const where = "id > 0 AND at < '2025-01-01'";
    const { count, exact } = await call(countRows, { table: "shop.events", where, estimate: true });
    expect([exact, count > 400 && count < 600]).toEqual([false, true]);
  });

  it.each([
    ["true) UNION ALL (SELECT 1", "sql_refused"],
    ["true) FROM pg_class; DELETE FROM shop.products; SELECT (1", "syntax_error"],
    ["pg_advisory_lock(1) IS NULL", "function_refused"],
    ["EXISTS (SELECT FROM pg_authid)", "table_refused"],
  ])("refuses the condition %s", async (where, code) => {
    const failure = call(countRows, { table: "shop.products", where });
    await expect(failure).rejects.toSatisfy((error: unknown) => {
      const { code: given } = z.object({ code: z.string() }).parse(error);
      return given === code || (code === "syntax_error" && given === "42601");
    });
  });
});

describe("execute_query", () => {
  it("answers columns once and rows as arrays", async () => {
    expect(
      await call(executeQuery, { sql: "SELECT id, price FROM shop.products WHERE price > $1", params: ["2"] }),
    ).toEqual({
      columns: [
        { name: "id", type: "character varying(50)" },
        { name: "price", type: "numeric(10,2)" },
      ],
      rows: [["2", "20.00"]],
      returned: 1,
      cut_by: null,
    });
  });

  it("keeps to its bytes with the widest table and the longest rows", async () => {
    await database.admin.query(
      "INSERT INTO other.wide (a_rather_long_column_name_1) SELECT repeat('x', 5000) FROM generate_series(1, 50)",
    );
    const answer = await call(executeQuery, { sql: "SELECT * FROM other.wide", max_rows: 1000 });
    expect(JSON.stringify(answer).length).toBeLessThan(24_576);
    expect(answer.columns_left_out).toBe(1500 - answer.columns.length);
    expect(answer.rows[0]).toHaveLength(answer.columns.length);
  });

  it("answers at most what a model reads, whatever was asked", async () => {
    for (const sql of [
      "SELECT repeat('\"', 3000) FROM generate_series(1, 1000)",
      "SELECT repeat('ä', 1000), g FROM generate_series(1, 1000) g",
    ]) {
      expect(Buffer.byteLength(JSON.stringify(await call(executeQuery, { sql, max_rows: 1000 })))).toBeLessThan(24_576);
    }
  });
});
