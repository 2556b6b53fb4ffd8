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

async function audit(): Promise<unknown[]> {
  const { rows } = await database.admin.query<{ action: string; own: boolean }>(
    "SELECT action, role = current_user AS own FROM data_transformer.audit ORDER BY audit_id",
  );
  return rows.map(({ action, own }) => [action, own]);
}

function insert(table: string, id: number) {
  return insertData.handler(insertData.input.parse({ table, row: { id } }), context());
}

function create(params: Parameters<typeof createTable.input.parse>[0]) {
  return createTable.handler(createTable.input.parse(params), context());
}

it("has a row for every write, and none for what did not happen", async () => {
  const columns = [{ name: "id", type: "integer" }];
  await create({ table: "t", columns, primary_key: ["id"] });
  await create({ table: "t", columns, dry_run: true });
  await create({ table: "t", columns });
  await expect(create({ table: "u", columns: [{ name: "id", type: "nope" }] })).rejects.toThrow(/type/);
  await insert("t", 1);
  expect(await audit()).toEqual([
    ["create_table", true],
    ["load_completed", true],
  ]);
});

it("is written by the transaction that writes: what cannot be written down does not happen", async () => {
  await database.admin.query("ALTER TABLE data_transformer.audit ADD CHECK (action = 'load_failed') NOT VALID");
  await expect(create({ table: "v", columns: [{ name: "id", type: "integer" }] })).rejects.toThrow(/audit/);
  await expect(insert("t", 2)).rejects.toBeInstanceOf(Error);
  const { rows } = await database.admin.query(
    "SELECT to_regclass('public.v') AS made, (SELECT count(*)::int FROM public.t) AS rows",
  );
  expect(rows).toEqual([{ made: null, rows: 1 }]);
});
