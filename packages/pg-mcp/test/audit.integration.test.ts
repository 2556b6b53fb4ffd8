import { Cursors, createLogger, Jobs, kitSettings, readSettings } from "@es-to-pg/mcp-kit";
import { afterAll, beforeAll, expect, inject, it } from "vitest";
import { pgSettings } from "../src/config.ts";
import { everything } from "../src/postgres/index.ts";
import { createTable } from "../src/tools/create-table.ts";
import { insertData } from "../src/tools/insert-data.ts";
import { createStaging } from "./staged.ts";
import { createDatabase, type TestDatabase } from "./support.ts";

let database: TestDatabase;
let staging: Awaited<ReturnType<typeof createStaging>>;

beforeAll(async () => {
  database = await createDatabase(inject("databaseUrl"), "");
  staging = await createStaging();
});

afterAll(async () => {
  await database.drop();
  await staging.remove();
});

function context() {
  return {
    postgres: database.postgres,
    store: async () => staging.store,
    jobs: new Jobs(),
    settings: readSettings({ ...pgSettings, ...kitSettings }, { DATABASE_URL: database.url }),
    logger: createLogger({ level: "error" }),
    policy: everything,
    signal: new AbortController().signal,
    progress() {},
    cursors: new Cursors(),
  };
}

/** The audit, with the transaction that wrote each row and what that transaction wrote in `written`. */
async function audit(written: string): Promise<unknown[]> {
  const { rows } = await database.admin.query<{ row: unknown[] }>(
    `SELECT json_build_array(a.action, a.role = current_user, EXISTS (SELECT FROM ${written} w WHERE w.xmin = a.xmin)) AS row
     FROM data_transformer.audit a ORDER BY a.audit_id`,
  );
  return rows.map(({ row }) => row);
}

function create(params: Parameters<typeof createTable.input.parse>[0]) {
  return createTable.handler(createTable.input.parse(params), context());
}

it("has a row for every write, made by the transaction that wrote", async () => {
  const columns = [{ name: "id", type: "integer" }];
  await create({ table: "t", columns, primary_key: ["id"] });
  expect(await audit("(SELECT xmin FROM pg_class WHERE relname = 't')")).toEqual([["create_table", true, true]]);
  await create({ table: "t", columns, dry_run: true });
  await create({ table: "t", columns });
  await insertData.handler(insertData.input.parse({ table: "t", row: { id: 1 } }), context());
  expect((await audit("public.t")).slice(1)).toEqual([["load_completed", true, true]]);
});

it("has no row for what did not happen, and nothing happens without one", async () => {
  await database.admin.query("DELETE FROM data_transformer.audit");
  await expect(create({ table: "u", columns: [{ name: "id", type: "nope" }] })).rejects.toThrow();
  expect(await audit("public.t")).toEqual([]);
  await database.admin.query("ALTER TABLE data_transformer.audit ADD CHECK (action <> 'create_table')");
  await expect(create({ table: "v", columns: [{ name: "id", type: "integer" }] })).rejects.toThrow();
  const { rows } = await database.admin.query("SELECT to_regclass('public.v') AS found");
  expect(rows).toEqual([{ found: null }]);
});
