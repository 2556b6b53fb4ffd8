import { spawn } from "node:child_process";
import { once } from "node:events";
import { Client } from "pg";
import { afterAll, beforeAll, describe, expect, inject, it } from "vitest";
import { verifyLoad } from "../src/load/verify-job.ts";
import { everything } from "../src/postgres/index.ts";
import { countRows, runQuery } from "../src/query/index.ts";
import { type ChaosMode, makeWorld, oracle, sorted, withUniqueKeys } from "./load-chaos.ts";
import { type Harness, openHarness } from "./load-harness.ts";
import { type Pooler, poolerMissing, startPooler } from "./pooler.ts";

const missing = poolerMissing();
if (missing !== undefined) process.stdout.write(`PgBouncer is not tested: ${missing}\n`);
const databaseUrl: string = inject("databaseUrl");
const world = makeWorld(42, 4, 500);

/** With one server session, whatever one transaction waits for must not need a second one. */
describe.skipIf(missing !== undefined).each([1, 3])("through PgBouncer with %i server sessions", (poolSize) => {
  let pooler: Pooler;
  let harness: Harness;
  /** Past the pooler. */
  let admin: Client;
  let serial = 0;

  beforeAll(async () => {
    pooler = await startPooler(databaseUrl, poolSize);
    harness = await openHarness(pooler.url);
    admin = new Client({ connectionString: databaseUrl });
    await admin.connect();
  });

  afterAll(async () => {
    await harness.close();
    await admin.end();
    await pooler.close();
  });

  async function makeTarget(mode: ChaosMode, { before } = world): Promise<string> {
    const table = `t${++serial}`;
    const key = mode === "append" ? "NOT NULL" : "PRIMARY KEY";
    const name = `${harness.schema}.${table}`;
    await admin.query(`CREATE TABLE ${name} (id text ${key}, v integer CHECK (v <> 13), name varchar(12))`);
    await admin.query(`INSERT INTO ${name} SELECT * FROM json_to_recordset($1) AS r (id text, v integer, name text)`, [
      JSON.stringify(before.map(([id, v, text]) => ({ id, v, name: text }))),
    ]);
    return table;
  }

  async function rowsOf(table: string): Promise<string[]> {
    const { rows } = await admin.query({
      text: `SELECT id, v, name FROM ${harness.schema}.${table}`,
      rowMode: "array",
    });
    return sorted(rows);
  }

  function query(sql: string, params: unknown[] = []) {
    return runQuery({
      postgres: harness.postgres,
      sql,
      params,
      rowsMax: 100,
      bytesMax: 5_000,
      timeoutMs: 10_000,
      policy: everything,
      functionsAllow: [],
      signal: harness.context.signal,
    });
  }

  it.each(["upsert", "append", "replace"] as const)("loads by %s, and verifies what it loaded", async (mode) => {
    const table = await makeTarget(mode);
    const exportId = await harness.stage(world.parts);
    const request = { table, exportId, mode, deleteRatioMax: 1 };
    const confirm = mode === "replace" ? (await harness.load({ ...request, dryRun: true })).confirm : undefined;
    const answer = await harness.load({ ...request, confirm });
    const { figures, rows } = oracle(world, mode);
    expect(answer).toMatchObject({ status: "completed", figures });
    expect(await rowsOf(table)).toEqual(rows);
    const verified = await verifyLoad(harness.context, answer.load_id, { extra: false });
    expect(verified).toMatchObject({ missing: 0, different: 0 });
  });

  it.each([
    ["in any order", ""],
    ["in their order", "ALTER TABLE $ ADD UNIQUE (id, v)"],
  ])("works parts of a direct load beside each other, %s", async (_, change) => {
    const unique = withUniqueKeys(world);
    const table = await makeTarget("upsert", unique);
    await admin.query(change.replace("$", `${harness.schema}.${table}`));
    const exportId = await harness.stage(unique.parts);
    const mapping = { columns: [{ column: "id", from: "_id" }, { column: "v" }, { column: "name" }], key: ["id"] };
    const { context } = harness;
    const four = { ...context, settings: { ...context.settings, PG_MCP_PARTS_AT_ONCE: 4 } };
    const answer = await harness.load({ table, exportId, mapping }, four);
    const { figures, rows } = oracle(unique, "upsert");
    expect(answer).toMatchObject({ status: "completed", strategy: "direct", figures });
    expect(await rowsOf(table)).toEqual(rows);
  });

  it("runs four loads of four tables at once", async () => {
    const exportId = await harness.stage(world.parts);
    const tables: string[] = [];
    for (let count = 0; count < 4; count++) tables.push(await makeTarget("upsert"));
    const answers = await Promise.all(tables.map((table) => harness.load({ table, exportId })));
    const { figures, rows } = oracle(world, "upsert");
    expect(answers.map((answer) => answer.figures)).toEqual(tables.map(() => figures));
    for (const table of tables) expect(await rowsOf(table)).toEqual(rows);
  });

  it("answers queries with parameters, plans and counts", async () => {
    expect((await query("SELECT $1::int + 1, upper($2)", [41, "a"])).rows).toEqual([[42, "A"]]);
    expect((await query("EXPLAIN SELECT 1")).rows).toHaveLength(1);
    expect((await query("SHOW server_version_num")).rows).toHaveLength(1);
    await expect(query("SELECT pg_advisory_lock(1)")).rejects.toMatchObject({ code: "function_refused" });
    await expect(query("SELECT nothing")).rejects.toMatchObject({ code: "column_not_found" });
    await expect(query("DELETE FROM pg_class")).rejects.toMatchObject({ code: "sql_refused" });
    const counted = await countRows({
      postgres: harness.postgres,
      policy: everything,
      functionsAllow: [],
      signal: harness.context.signal,
      timeoutMs: 10_000,
      schema: harness.schema,
      table: await makeTarget("upsert"),
      where: "v >= $1",
      params: [0],
      estimate: false,
    });
    expect(counted.count).toBe(world.before.length);
  });

  it("stops a runaway query at the server when its caller goes", async () => {
    const caller = new AbortController();
    const work = runQuery({
      postgres: harness.postgres,
      sql: `SELECT count(*) AS ${harness.schema} FROM generate_series(1, 100000000000)`,
      params: [],
      rowsMax: 1,
      bytesMax: 1_000,
      timeoutMs: 30_000,
      policy: everything,
      functionsAllow: [],
      signal: caller.signal,
    });
    setTimeout(() => caller.abort(new Error("gone")), 500);
    await expect(work).rejects.toThrow("gone");
    const running = async () => {
      const { rows } = await admin.query(
        "SELECT FROM pg_stat_activity WHERE query LIKE $1 AND state = 'active' AND pid <> pg_backend_pid()",
        [`%${harness.schema} FROM generate_series%`],
      );
      return rows.length;
    };
    await expect.poll(running, { timeout: 8_000 }).toBe(0);
  });

  it.each(["2.1", "2.2 commit", "4.3", "4 commit"])("takes a load over that was killed at step %s", async (step) => {
    const table = await makeTarget("upsert");
    const exportId = await harness.stage(world.parts);
    const request = { table, schema: harness.schema, exportId, fresh: false };
    const given = {
      databaseUrl: pooler.url,
      stagingUrl: harness.stagingUrl,
      stateSchema: `${harness.schema}_state`,
      request,
      step,
      delayMs: 0,
      signal: "SIGKILL",
    };
    const child = spawn(process.execPath, [new URL("load-child.ts", import.meta.url).pathname, JSON.stringify(given)]);
    await once(child, "exit");
    expect(child.signalCode).toBe("SIGKILL");
    let answer = await harness.load({ ...request, waitSeconds: 0 });
    for (let tries = 0; answer.status === "working" && tries < 20; tries++) {
      await admin.query(
        `UPDATE ${harness.schema}_state.loads SET lease_until = now() - interval '1 hour' WHERE status = 'working'`,
      );
      answer = await harness.load({ ...request, waitSeconds: 1 });
    }
    const { figures, rows } = oracle(world, "upsert");
    expect(answer).toMatchObject({ status: "completed", figures });
    expect(await rowsOf(table)).toEqual(rows);
  });

  it("leaves nothing in any of the server's sessions", async () => {
    const strangers = Array.from({ length: poolSize }, () => new Client({ connectionString: pooler.url }));
    const left: unknown[] = [];
    for (const stranger of strangers) {
      await stranger.connect();
      // Held open, so that the next one is given another session.
      await stranger.query("BEGIN");
      const { rows } = await stranger.query(
        `SELECT
           (SELECT array_agg(name) FROM pg_settings WHERE source = 'session'
            AND name NOT IN ('application_name', 'client_encoding', 'DateStyle', 'TimeZone')) AS settings,
           (SELECT count(*)::int FROM pg_prepared_statements WHERE NOT from_sql) AS prepared,
           (SELECT count(*)::int FROM pg_class WHERE relnamespace = pg_my_temp_schema()) AS relations,
           (SELECT count(*)::int FROM pg_proc WHERE pronamespace = pg_my_temp_schema()) AS functions,
           (SELECT count(*)::int FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid()) AS advisory,
           current_setting('search_path') AS path`,
      );
      left.push(...rows);
    }
    for (const stranger of strangers) await stranger.end();
    const nothing = { settings: null, prepared: 0, relations: 0, functions: 0, advisory: 0, path: '"$user", public' };
    expect(left).toEqual(strangers.map(() => nothing));
  });
});
