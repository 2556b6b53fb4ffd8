import { Cursors, Jobs, type ToolCall, ToolError } from "@es-to-pg/mcp-kit";
import type { FieldProfile, MappingField } from "@es-to-pg/staging";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, inject, it } from "vitest";
import type { z } from "zod";
import { createEncoder } from "../src/mapping/encode.ts";
import { parseMapping } from "../src/mapping/mapping.ts";
import { resolveMapping } from "../src/mapping/resolve.ts";
import { loadMapping, resolveMappingReference } from "../src/mapping/store.ts";
import { everything, requireTable } from "../src/postgres/index.ts";
import { createTable } from "../src/tools/create-table.ts";
import { proposeMapping } from "../src/tools/propose-mapping.ts";
import type { PgContext } from "../src/tools/tool.ts";
import { createStaging, stagedLine, stageExport } from "./staged.ts";
import { createDatabase, type TestDatabase } from "./support.ts";

const signal = new AbortController().signal;
const stateSchema = "data_transformer";
let database: TestDatabase;
let staging: Awaited<ReturnType<typeof createStaging>>;
let context: PgContext & ToolCall;

const products: MappingField[] = [
  { path: "id", type: "keyword" },
  { path: "name", type: "text" },
  { path: "name.keyword", type: "keyword", multi_field: true },
  { path: "price", type: "float" },
  { path: "created_at", type: "date" },
  { path: "ratings", type: "float" },
  { path: "tags", type: "keyword" },
];

const productsSql = `CREATE TABLE products (id VARCHAR(50) PRIMARY KEY, name VARCHAR(255), price DECIMAL(10,2),
  created_at TIMESTAMPTZ, ratings DECIMAL(3,2), tags TEXT[])`;

function product(id: string, price = "1299.99"): { id: string; source: string } {
  return {
    id,
    source: `{"id":"${id}","name":"Laptop ${id}","price":${price},"created_at":"2023-01-15T10:00:00Z","ratings":4.5,"tags":["a","b"]}`,
  };
}

beforeAll(async () => {
  database = await createDatabase(inject("databaseUrl"), "");
  staging = await createStaging();
  const settings = { PG_MCP_STATE_SCHEMA: stateSchema, PG_MCP_ALLOW_FUNCTIONS: [] as string[] };
  context = {
    postgres: database.postgres,
    store: async () => staging.store,
    jobs: new Jobs(),
    // oxlint-disable-next-line typescript/no-unsafe-type-assertion -- the two tools read these settings and no other
    settings: settings as unknown as PgContext["settings"],
    logger: { debug() {}, info() {}, warn() {}, error() {} },
    policy: everything,
    signal,
    progress() {},
    cursors: new Cursors(),
  };
});

beforeEach(async () => {
  await database.admin.query(productsSql);
});

afterEach(async () => {
  await database.admin.query("DROP SCHEMA public CASCADE; CREATE SCHEMA public");
});

afterAll(async () => {
  await database.drop();
  await staging.remove();
});

function propose(params: z.input<typeof proposeMapping.input>) {
  return proposeMapping.handler(proposeMapping.input.parse(params), context);
}

function create(params: z.input<typeof createTable.input>) {
  return createTable.handler(createTable.input.parse(params), context);
}

async function codeOf(work: Promise<unknown>): Promise<unknown> {
  try {
    await work;
  } catch (error) {
    return error instanceof ToolError ? { code: error.code, ...error.details } : error;
  }
  return "no error";
}

/** Resolves a mapping object against a table, with the fields of the products unless others are given. */
function resolve(mapping: unknown, table = "products", fields: MappingField[] = products, key?: string[]) {
  return database.postgres.write(
    async (tx) =>
      resolveMapping({
        tx,
        mapping: mapping === undefined ? undefined : parseMapping(mapping),
        table: await requireTable(tx, { table }),
        fields,
        key,
      }),
    { signal },
  );
}

function referenced(value: unknown) {
  return database.postgres.write((tx) => resolveMappingReference(tx, value, stateSchema), { signal });
}

describe("propose_mapping", () => {
  it("plans the products into the table that is there", async () => {
    const exportId = await stageExport(staging.store, { documents: [product("1"), product("2")], mapping: products });
    const answer = await propose({ export_id: exportId, table: "products" });
    expect(answer).toMatchObject({
      schema: "public",
      table: "products",
      table_exists: true,
      key: ["id"],
      key_why: "the table's primary key",
      documents: 2,
      sampled: 2,
      rejects_expected: 0,
      columns_total: 6,
    });
    expect(answer.columns.map(({ column, type, verdict }) => [column, type, verdict])).toEqual([
      ["id", "character varying(50)", "ok"],
      ["name", "character varying(255)", "ok"],
      ["price", "numeric(10,2)", "ok"],
      ["created_at", "timestamp with time zone", "ok"],
      ["ratings", "numeric(3,2)", "ok"],
      ["tags", "text[]", "ok"],
    ]);
    const stored = await database.postgres.write((tx) => loadMapping(tx, answer.mapping_id, stateSchema), { signal });
    expect(stored).toMatchObject({ exportId, schema: "public", table: "products" });
    const plan = await resolve(stored.mapping);
    const row = createEncoder(plan).encode(stagedLine(product("1").source, { id: "1" }), { part: 0, line: 0 });
    expect(row.reject === undefined && row.copy.toString()).toBe(
      '1\tLaptop 1\t1299.99\t2023-01-15T10:00:00Z\t4.5\t{"a","b"}\t0\t0\ttest\t1\t\\N\t0\n',
    );
  });

  it("plans a table that create_table then makes, with the id that equals _id as its key", async () => {
    await database.admin.query("DROP TABLE products");
    const profile = [{ ...emptyProfile("tags"), present: 2, arrays: 2, array_length_max: 2 }];
    const exportId = await stageExport(staging.store, {
      documents: [product("1"), product("2")],
      mapping: products,
      profile,
    });
    const answer = await propose({ export_id: exportId, table: "public.products" });
    expect(answer).toMatchObject({ table_exists: false, key: ["id"], rejects_expected: 0 });
    expect(answer.key_why).toContain("equals _id");
    const created = await create({ table: "public.products", mapping: answer.mapping_id });
    expect(created).toEqual({
      schema: "public",
      table: "products",
      action: "created",
      ddl: [
        'CREATE TABLE IF NOT EXISTS "public"."products" ( "id" text, "name" text, "price" real, "created_at" timestamp with time zone, "ratings" real, "tags" text[], PRIMARY KEY ("id") )',
      ],
    });
    const plan = await resolve(
      (await database.postgres.read((tx) => loadMapping(tx, answer.mapping_id, stateSchema), { signal })).mapping,
    );
    expect(plan.key).toEqual(["id"]);
  });

  it("takes _id as the key where the documents' own id is missing or another", async () => {
    const documents = [product("1"), { id: "x", source: '{"id":"2"}' }];
    const exportId = await stageExport(staging.store, { documents, mapping: products });
    const answer = await propose({ export_id: exportId, table: "fresh" });
    expect(answer).toMatchObject({ key: ["_id"] });
    expect(answer.columns).toContainEqual({ column: "_id", type: "text", verdict: "ok" });
    const several = await stageExport(staging.store, { documents, mapping: products, indices: ["a", "b"] });
    expect(await propose({ export_id: several, table: "fresh" })).toMatchObject({ key: ["_index", "_id"] });
  });

  it("forecasts what the load will refuse, and the setting that saves it", async () => {
    const documents = [
      product("1", "10.005"),
      product("2"),
      { id: "3", source: '{"id":"3","name":"a\\u0000b","created_at":"now","tags":"one"}' },
      { id: "4", source: '{"name":"no id"}' },
    ];
    const exportId = await stageExport(staging.store, { documents, mapping: products });
    const answer = await propose({ export_id: exportId, table: "products" });
    expect(answer).toMatchObject({ documents: 4, rejects_expected: 3 });
    expect(answer.columns).toMatchObject([
      { column: "id", verdict: "will_reject", rejects: 1, reason: "null_key", fix: { from: "_id" } },
      { column: "name", verdict: "will_reject", rejects: 1, reason: "nul", fix: { nul: "strip" } },
      { column: "price", verdict: "will_reject", rejects: 1, reason: "too_precise", fix: { round: "round" } },
      { column: "created_at", verdict: "will_reject", rejects: 1, reason: "not_a_date" },
      { column: "ratings", verdict: "ok" },
      { column: "tags", verdict: "ok" },
    ]);
    const mapping = await database.postgres.write(
      (tx) =>
        resolveMappingReference(
          tx,
          {
            id: answer.mapping_id,
            changes: {
              columns: [
                { column: "id", from: "_id" },
                { column: "name", nul: "strip" },
                { column: "price", round: "round" },
                { column: "created_at", on_error: "null" },
              ],
            },
          },
          stateSchema,
        ),
      { signal },
    );
    const encoder = createEncoder(await resolve(mapping));
    const rows = documents.map(({ id, source }, line) => encoder.encode(stagedLine(source, { id }), { part: 0, line }));
    expect(rows.map(({ reject }) => reject)).toEqual([undefined, undefined, undefined, undefined]);
  });

  it("tells another type as a setting for a new table, and as SQL for one that exists", async () => {
    await database.admin.query("CREATE TABLE narrow (id varchar(1) PRIMARY KEY, price real)");
    const documents = [product("10", "123456.789")];
    const exportId = await stageExport(staging.store, { documents, mapping: products });
    expect((await propose({ export_id: exportId, table: "narrow" })).columns).toMatchObject([
      { reason: "too_long", fix: { alter: 'ALTER TABLE "public"."narrow" ALTER COLUMN "id" TYPE text' } },
      { verdict: "rounds", fix: { alter: 'ALTER TABLE "public"."narrow" ALTER COLUMN "price" TYPE numeric' } },
    ]);
    const fresh = await propose({ export_id: exportId, table: "fresh" });
    expect(fresh.columns.find(({ column }) => column === "price")).toMatchObject({
      verdict: "rounds",
      fix: { type: "numeric" },
    });
  });

  it("names what the table lacks, as an ALTER that create_table runs when told to", async () => {
    const mapping = [...products, { path: "vendor.name", type: "keyword" }, { path: "vendor", type: "object" }];
    const exportId = await stageExport(staging.store, { documents: [product("1")], mapping });
    const answer = await propose({ export_id: exportId, table: "products" });
    expect(answer).toMatchObject({
      unmapped_fields: ["vendor.name"],
      ddl: ['ALTER TABLE "public"."products" ADD COLUMN IF NOT EXISTS "vendor_name" text'],
    });
    const columns = [
      { name: "id", type: "varchar(50)" },
      { name: "vendor_name", type: "text" },
      { name: "price", type: "text" },
    ];
    expect(await create({ table: "products", columns })).toMatchObject({
      action: "exists",
      missing_columns: ["vendor_name"],
      different_types: [{ column: "price", table: "numeric(10,2)", wanted: "text" }],
    });
    expect(await create({ table: "products", columns, add_columns: true, dry_run: true })).toMatchObject({
      action: "would_add_columns",
    });
    expect(await create({ table: "products", columns, add_columns: true })).toMatchObject({ action: "columns_added" });
    expect(await create({ table: "products", columns })).not.toHaveProperty("missing_columns");
  });

  it("stays within 6 KiB for 300 fields, doubtful ones first", async () => {
    const mapping: MappingField[] = Array.from({ length: 300 }, (_, index) => ({
      path: `group_${index}.field_${index}`,
      type: index % 2 ? "long" : "keyword",
    }));
    const source = `{${mapping.map(({ path }, index) => `"${path}":${index === 299 ? '"x"' : index}`).join(",")}}`;
    const exportId = await stageExport(staging.store, { documents: [{ id: "1", source }], mapping });
    const answer = await propose({ export_id: exportId, table: "wide" });
    expect(JSON.stringify(answer).length).toBeLessThan(6_144);
    expect(answer.columns_total).toBe(301);
    expect(answer.columns[0]).toMatchObject({ column: "group_299_field_299", verdict: "will_reject" });
    expect(answer.columns.length + (answer.columns_ok_left_out ?? 0)).toBe(301);
  });

  it("takes fields instead of an export, and refuses neither and both", async () => {
    const answer = await propose({
      fields: [
        { path: "id", type: "keyword" },
        { path: "at", type: "date" },
      ],
      table: "fresh",
    });
    expect(answer).toMatchObject({ documents: null, sampled: 0, rejects_expected: null, key: ["_id"] });
    expect(await codeOf(propose({ table: "fresh" }))).toMatchObject({ code: "export_or_fields" });
  });

  it("says why a plan cannot be loaded as it is", async () => {
    await database.admin.query("CREATE TABLE strict (code text NOT NULL, name text)");
    const exportId = await stageExport(staging.store, { documents: [product("1")], mapping: products });
    const answer = await propose({ export_id: exportId, table: "strict" });
    expect(answer).toMatchObject({ problems: [{ code: "column_unfed", details: { columns: ["code"] } }], key: [] });
  });
});

describe("a field that is an array in some documents", () => {
  it("says in how many, and what taking the first value would lose", async () => {
    const documents = [product("1"), product("2"), product("3")];
    const mapping: MappingField[] = [
      { path: "id", type: "keyword" },
      { path: "name", type: "keyword" },
      { path: "tags", type: "keyword" },
    ];
    const profile = [
      { ...emptyProfile("name"), present: 2000, arrays: 4, array_length_max: 2 },
      { ...emptyProfile("tags"), present: 2000, arrays: 2000, array_length_max: 3 },
    ];
    const exportId = await stageExport(staging.store, { documents, mapping, profile });
    const answer = await propose({ export_id: exportId, table: "mixed" });
    expect(answer.columns).toEqual([
      { column: "id", field_type: "keyword", type: "text", verdict: "ok" },
      {
        column: "name",
        field_type: "keyword",
        type: "text[]",
        verdict: "widened",
        reason: '4 of 2000 documents hold an array, the others one value; array:"first" drops all but the first',
        alternative: { type: "text", array: "first" },
      },
      { column: "tags", field_type: "keyword", type: "text[]", verdict: "ok" },
    ]);

    const changes = { columns: [{ column: "name", ...answer.columns[1]?.alternative }] };
    await create({ table: "mixed", mapping: { id: answer.mapping_id, changes } });
    const { rows } = await database.admin.query(
      "SELECT format_type(atttypid, atttypmod) FROM pg_attribute WHERE attrelid = 'mixed'::regclass AND attname = 'name'",
    );
    expect(rows).toEqual([{ format_type: "text" }]);
  });
});

describe("a nested field", () => {
  const orders: MappingField[] = [
    { path: "customer", type: "keyword" },
    { path: "lines", type: "nested" },
    { path: "lines.sku", type: "keyword", nested: true },
    { path: "lines.sku.raw", type: "keyword", nested: true, multi_field: true },
    { path: "lines.position", type: "integer", nested: true },
    { path: "lines.tax", type: "nested", nested: true },
    { path: "lines.tax.rate", type: "float", nested: true },
  ];

  it("is proposed as jsonb, with the changes that make it a table, which create_table creates", async () => {
    const documents = [{ id: "1", source: '{"customer":"c","lines":[{"sku":"s","position":1,"tax":[{"rate":0.2}]}]}' }];
    const exportId = await stageExport(staging.store, { documents, mapping: orders });
    const answer = await propose({ export_id: exportId, table: "orders" });
    expect(answer.columns.find(({ column }) => column === "lines")).toMatchObject({ type: "jsonb" });
    const child = {
      from: "lines",
      table: "orders_lines",
      parent_key: ["parent_id"],
      ordinal: "position",
      columns: [
        { column: "sku", from: "sku", type: "text" },
        { column: "position_2", from: "position", type: "integer" },
        { column: "tax", from: "tax", type: "jsonb" },
      ],
    };
    expect(answer.child_tables).toEqual([{ field: "lines", changes: { remove: ["lines"], children: [child] } }]);

    const mapping = { id: answer.mapping_id, changes: answer.child_tables?.[0]?.changes };
    const params = { table: "orders", mapping, if_not_exists: true, add_columns: false };
    const dry = await createTable.handler({ ...params, dry_run: true }, context);
    expect(dry).toMatchObject({
      action: "would_create",
      children: [{ table: "orders_lines", action: "would_create" }],
    });
    const made = await createTable.handler({ ...params, dry_run: false }, context);
    expect(made.children?.[0]?.ddl).toEqual([
      'CREATE TABLE IF NOT EXISTS "public"."orders_lines" ( "parent_id" text NOT NULL, "position" integer NOT NULL, ' +
        '"sku" text, "position_2" integer, "tax" jsonb, PRIMARY KEY ("parent_id", "position"), ' +
        'FOREIGN KEY ("parent_id") REFERENCES "public"."orders" ("id") ON DELETE CASCADE )',
    ]);
    const plan = await database.postgres.write(
      async (tx) =>
        resolveMapping({
          tx,
          mapping: await resolveMappingReference(tx, mapping, stateSchema),
          table: await requireTable(tx, { table: "orders" }),
          fields: orders,
          policy: everything,
        }),
      { signal },
    );
    expect(plan.children.map(({ from, plan: { table } }) => [from, table.table])).toEqual([["lines", "orders_lines"]]);
    await database.admin.query("DROP TABLE orders_lines, orders");
  });
});

const computed = (expression: string) => ({
  table: "shop",
  mapping: { columns: [{ column: "price", type: "numeric", from: "price", expression }] },
});

describe("create_table", () => {
  it("refuses the expression that a load would refuse, and makes no table", async () => {
    const exportId = await stageExport(staging.store, { documents: [product("1")], mapping: products });
    const { mapping_id: id } = await propose({ export_id: exportId, table: "shop" });
    const withExpression = (expression: string) =>
      codeOf(
        create({
          table: "shop",
          mapping: { id, changes: { columns: [{ column: "price", from: "price", expression }] } },
        }),
      );
    expect(await withExpression("price + random()")).toMatchObject({ code: "function_refused", column: "price" });
    expect(await withExpression("round(nothing, 2)")).toMatchObject({ code: "invalid_expression", column: "price" });
    // The export says that the field is a number, so there is no operator for it and a text.
    expect(await withExpression("price || 1")).toMatchObject({ code: "invalid_expression", sqlstate: "42883" });
    expect(await database.admin.query("SELECT to_regclass('shop')")).toMatchObject({ rows: [{ to_regclass: null }] });
    expect(await withExpression("price * 2")).toBe("no error");
  });

  it("leaves types alone where the export is not known, and refuses what no type cures", async () => {
    expect(await codeOf(create(computed("(SELECT 1)")))).toMatchObject({ code: "expression_refused" });
    expect(await codeOf(create(computed("price *")))).toMatchObject({ code: "invalid_expression", sqlstate: "42601" });
    expect(await codeOf(create(computed("price * 2")))).toBe("no error");
  });

  it("quotes every name, takes any type PostgreSQL knows, and rolls a dry run back", async () => {
    const params = {
      table: 'odd "name".Table; DROP TABLE products',
      schema: "public",
      columns: [
        { name: 'a"b', type: "varchar( 5 )[]" },
        { name: "n", type: "decimal(10,2)", not_null: true, default: 0 },
        { name: "at", type: "timestamp(3) with time zone", default: "now()" },
        { name: "note", type: "text", default: "it's" },
        { name: "counter", type: "int", identity: true },
      ],
      primary_key: ["n"],
      indexes: [{ columns: ["at"], using: "brin" as const }],
    };
    const dry = await create({ ...params, dry_run: true });
    expect(dry).toMatchObject({ action: "would_create" });
    expect(await create(params)).toEqual({ ...dry, action: "created" });
    const columns = await database.postgres.read((tx) => requireTable(tx, { schema: "public", table: params.table }), {
      signal,
    });
    expect(columns.columns.map(({ name, type, default: byDefault }) => [name, type, byDefault])).toEqual([
      ['a"b', "character varying(5)[]", null],
      ["n", "numeric(10,2)", "0"],
      ["at", "timestamp(3) with time zone", "now()"],
      ["note", "text", "'it''s'::text"],
      ["counter", "integer", null],
    ]);
    expect(await create(params)).toMatchObject({ action: "exists" });
    expect(await codeOf(create({ ...params, if_not_exists: false }))).toMatchObject({ code: "table_exists" });
  });

  it.each([
    "text); DROP TABLE products; --",
    "nonsense",
    "text DEFAULT now()",
    "numeric(10,2) CHECK (true)",
    "",
    "text; select 1",
    "text NOT NULL",
    "varchar(max)",
    "array",
    "bigserial",
  ])("refuses %j as a type", async (type) => {
    expect(await codeOf(create({ table: "t", columns: [{ name: "a", type }] }))).toMatchObject({
      code: "unknown_type",
    });
  });

  it.each([
    ["array", ["text[]"]],
    ["varchar(max)", ["text"]],
    // A near type would leave out what these say besides.
    ["text NOT NULL", []],
    ["bigserial", []],
  ])("names what is nearest to the type %s", async (type, nearest) => {
    expect(await codeOf(create({ table: "t", columns: [{ name: "a", type }] }))).toMatchObject({ nearest });
  });

  it("asks the settings about the table that a name folds to", async () => {
    const denying = { ...context, policy: { ...context.policy, tablesDeny: ["products"] } };
    const columns = [{ name: "added", type: "text" }];
    const params = createTable.input.parse({ table: "PRODUCTS", columns, add_columns: true });
    expect(await codeOf(createTable.handler(params, denying))).toMatchObject({
      code: "table_not_allowed",
    });
    const proposed = proposeMapping.input.parse({ table: "PRODUCTS", fields: [{ path: "id", type: "keyword" }] });
    expect(await codeOf(proposeMapping.handler(proposed, denying))).toMatchObject({
      code: "table_not_allowed",
    });
    expect(await create({ table: "PRODUCTS", columns })).toMatchObject({ table: "products", action: "exists" });
  });

  it("leaves the server's own state alone", async () => {
    const params = { table: `${stateSchema}.loads`, columns: [{ name: "added", type: "text" }], add_columns: true };
    expect(await codeOf(create(params))).toMatchObject({ code: "state_schema" });
    expect(
      await codeOf(propose({ table: `${stateSchema}.audit`, fields: [{ path: "id", type: "keyword" }] })),
    ).toMatchObject({
      code: "state_schema",
    });
  });

  it("refuses keys of columns that are not there", async () => {
    const columns = [{ name: "a", type: "text" }];
    expect(await codeOf(create({ table: "t", columns, primary_key: ["b"] }))).toMatchObject({
      code: "unknown_column",
      column: "b",
    });
    expect(await codeOf(create({ table: "t" }))).toMatchObject({ code: "columns_or_mapping" });
  });
});

describe("resolveMapping", () => {
  it("maps same names without a mapping, the nearest spelling of a path included", async () => {
    await database.admin.query("CREATE TABLE people (id text PRIMARY KEY, name_first text, born date, extra int)");
    const fields: MappingField[] = [
      { path: "id", type: "keyword" },
      { path: "name.first", type: "keyword" },
      { path: "born", type: "date" },
      { path: "other", type: "keyword" },
    ];
    const plan = await resolve(undefined, "people", fields);
    expect(plan.columns.map(({ column, from }) => [column, from])).toEqual([
      ["id", "id"],
      ["name_first", "name.first"],
      ["born", "born"],
    ]);
    expect(plan).toMatchObject({ key: ["id"], versionFrom: null, unmapped: ["other"] });
  });

  const id = { column: "id" };
  it.each([
    [{ columns: [id, { column: "prize", from: "price" }] }, { code: "unknown_column", nearest: ["price"] }],
    [{ columns: [id, { column: "price", from: "prize" }] }, { code: "unknown_field", nearest: ["price"] }],
    [{ columns: [{ column: "name" }] }, { code: "column_unfed", columns: ["id"] }],
    [{ columns: [id, { column: "tags", type: "jsonb" }] }, { code: "type_mismatch", table: "text[]" }],
    [
      { columns: [id, { column: "name" }], key: ["name"] },
      { code: "no_unique_key", sql: 'CREATE UNIQUE INDEX ON "public"."products" ("name")' },
    ],
    [
      { columns: [id], key: ["name"] },
      { code: "key_not_mapped", column: "name" },
    ],
    [
      { columns: [id], key: ["nome"] },
      { code: "unknown_column", nearest: ["name"] },
    ],
    [
      { columns: [id], version_from: "updated" },
      { code: "unknown_column", column: "updated" },
    ],
    [{ columns: [id, { column: "price", on_null: "none" }] }, { code: "invalid_mapping", column: "price" }],
    [{ columns: [id, { column: "price", constant: 1, from: "price" }] }, { code: "invalid_mapping" }],
    [
      { columns: [id, { column: "price", expression: "price * 2" }] },
      { code: "invalid_expression", sqlstate: "42703" },
    ],
    [
      { columns: [id, { column: "price", from: "price", expression: "sum(price)" }] },
      { code: "expression_refused", column: "price" },
    ],
    [{ columns: [id], children: [{ from: "reviews" }] }, { code: "invalid_mapping" }],
  ])("refuses %j before a row moves", async (mapping, expected) => {
    expect(await codeOf(Promise.resolve().then(() => resolve(mapping)))).toMatchObject(expected);
  });

  it("refuses targets that a load cannot serve", async () => {
    await database.admin.query(
      `CREATE VIEW seen AS SELECT * FROM products;
       CREATE UNLOGGED TABLE fleeting (id text PRIMARY KEY);
       CREATE TABLE made (id text PRIMARY KEY, twice text GENERATED ALWAYS AS (id || id) STORED, n int GENERATED ALWAYS AS IDENTITY);
       CREATE TABLE deferred (id text UNIQUE DEFERRABLE);
       CREATE TABLE cutting (id text PRIMARY KEY, name name);
       CREATE TABLE flags (id text PRIMARY KEY, price boolean)`,
    );
    const mapping = { columns: [{ column: "id" }] };
    expect(await codeOf(resolve(mapping, "seen"))).toMatchObject({ code: "not_a_table" });
    expect(await codeOf(resolve(mapping, "fleeting"))).toMatchObject({ code: "table_not_durable" });
    expect(
      await codeOf(resolve({ columns: [{ column: "id" }, { column: "twice", from: "name" }] }, "made")),
    ).toMatchObject({ code: "generated_column" });
    expect(await codeOf(resolve({ columns: [{ column: "id" }, { column: "n", from: "name" }] }, "made"))).toMatchObject(
      { code: "identity_column" },
    );
    expect(await codeOf(resolve({ ...mapping, key: ["id"] }, "deferred"))).toMatchObject({ code: "no_unique_key" });
    expect(await codeOf(resolve(undefined, "cutting"))).toMatchObject({ code: "type_not_supported", column: "name" });
    expect(await codeOf(resolve({ columns: [{ column: "id" }, { column: "price" }] }, "flags"))).toMatchObject({
      code: "type_never_fits",
    });
  });

  it("maps an identity column by its name where its values override the sequence", async () => {
    await database.admin.query("CREATE TABLE counted (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, name text)");
    const resolved = (identity?: "override") =>
      database.postgres.write(
        async (tx) => {
          const table = await requireTable(tx, { table: "counted" });
          return resolveMapping({ tx, mapping: undefined, table, fields: products, identity });
        },
        { signal },
      );
    expect((await resolved()).columns.map(({ column }) => column)).toEqual(["name"]);
    expect(await resolved("override")).toMatchObject({ key: ["id"], columns: [{ column: "id" }, { column: "name" }] });
  });

  it("tells an expression that reads its own column to name a source for it", async () => {
    const own = { columns: [{ column: "id" }, { column: "price", expression: "round(price * 1.2, 2)" }] };
    const refusal = await resolve(own).catch((error: unknown) => error);
    expect(refusal).toMatchObject({ code: "invalid_expression", next: expect.stringContaining('"from":"price"') });
  });

  it("stages an expression's inputs, by the column's own type or as text where the field is of another", async () => {
    const plan = await resolve({
      columns: [
        { column: "id" },
        { column: "price", from: "price", expression: "round(price * 1.2, 2)" },
        { column: "created_at", from: "name", expression: "to_date(created_at, 'YYYY/MM/DD')" },
        { column: "name", expression: "lower(raw || ' ' || id)" },
        { column: "raw", from: "name", load: false },
      ],
    });
    expect(plan.columns.map(({ column, stageType, staged, load }) => [column, stageType, staged, load])).toEqual([
      ["id", "text", true, true],
      ["price", "numeric", true, true],
      ["created_at", "text", true, true],
      ["name", "text", false, true],
      ["raw", "text", true, false],
    ]);
  });

  it("reads a multi-field from its parent and an alias from what it names", async () => {
    const fields: MappingField[] = [...products, { path: "title", type: "alias", parameters: { path: "name" } }];
    const plan = await resolve({ columns: [{ column: "id" }, { column: "name", from: "title" }] }, "products", fields);
    expect(plan.columns[1]).toMatchObject({ from: "name" });
    const multi = await resolve({ columns: [{ column: "id" }, { column: "name", from: "name.keyword" }] });
    expect(multi.columns[1]).toMatchObject({ from: "name" });
  });

  it("answers an unknown id and an id of another shape", async () => {
    expect(await codeOf(referenced(`map_${"0".repeat(26)}`))).toMatchObject({ code: "unknown_mapping" });
    expect(await codeOf(referenced("exp_1"))).toMatchObject({ code: "invalid_mapping" });
    expect(await codeOf(referenced({ columns: [{ colum: "a" }] }))).toMatchObject({ code: "invalid_mapping" });
  });
});

function emptyProfile(path: string): FieldProfile {
  return {
    path,
    kinds: { string: 0, integer: 0, decimal: 0, boolean: 0, object: 0, null: 0 },
    present: 0,
    arrays: 0,
    array_length_max: 0,
    length_max: 0,
    bytes_max: 0,
    integer_digits_max: 0,
    scale_max: 0,
    min: null,
    max: null,
    shapes: { date: 0, number: 0, boolean: 0, uuid: 0, empty: 0, nul: 0 },
    date_formats: [],
    samples: [],
  };
}
