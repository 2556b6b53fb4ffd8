import { existsSync } from "node:fs";
import { ToolError } from "@es-to-pg/mcp-kit";
import { Client } from "pg";
import { afterAll, beforeAll, describe, expect, inject, it } from "vitest";
import { connectionFromUrl } from "../src/config.ts";
import { translate } from "../src/errors.ts";
import { everything, openPostgres, type TablePolicy } from "../src/postgres/index.ts";
import { judgeStatement, judgesAsFunction, type QueryAnswer, runQuery } from "../src/query/index.ts";
import { attacks } from "./data/attacks.ts";
import { legitimate } from "./data/legitimate.ts";
import { createDatabase, randomName, type TestDatabase } from "./support.ts";

const setup = `
CREATE SCHEMA app;
CREATE TABLE app.orders (id bigint PRIMARY KEY, code text NOT NULL, amount numeric(10,2), tags text[], details jsonb, at timestamptz);
INSERT INTO app.orders VALUES
  (1, 'apple', 1.10, '{a,b}', '{"colour":"red","a":1,"b":{"c":2}}', '2024-01-01T10:00:00Z'),
  (2, 'banana', 20.00, '{b}', '{"colour":"yellow"}', '2024-01-02T10:00:00Z'),
  (9007199254740993, 'cherry', NULL, NULL, NULL, NULL);
CREATE INDEX orders_tags ON app.orders USING gin (tags);
CREATE TABLE app.audit (what text);
CREATE TABLE app.private (word text);
INSERT INTO app.private VALUES ('s3cr3t');
CREATE SEQUENCE app.numbers;
CREATE VIEW app.order_view AS SELECT id, code, amount FROM app.orders WHERE amount IS NOT NULL;
CREATE VIEW app.private_view AS SELECT word FROM app.private;
CREATE MATERIALIZED VIEW app.totals AS SELECT code, sum(amount) AS total FROM app.orders GROUP BY code;
CREATE PROCEDURE app.wipe() LANGUAGE sql AS 'DELETE FROM app.orders';
CREATE FUNCTION app.big_object() RETURNS oid LANGUAGE sql IMMUTABLE AS 'SELECT 0::oid';
CREATE FUNCTION app.evil(x int) RETURNS int LANGUAGE plpgsql IMMUTABLE AS $f$ BEGIN PERFORM pg_advisory_lock(77); RETURN x; END $f$;
CREATE FUNCTION app.evil2(x int, y int) RETURNS int LANGUAGE plpgsql IMMUTABLE AS $f$ BEGIN RETURN app.evil(x); END $f$;
CREATE FUNCTION app.evil_less(x int, y int) RETURNS boolean LANGUAGE plpgsql IMMUTABLE AS $f$ BEGIN PERFORM app.evil(x); RETURN x < y; END $f$;
CREATE FUNCTION app.evil_more(x int, y int) RETURNS boolean LANGUAGE plpgsql IMMUTABLE AS $f$ BEGIN PERFORM app.evil(x); RETURN x > y; END $f$;
CREATE FUNCTION app.evil_compare(x int, y int) RETURNS int LANGUAGE plpgsql IMMUTABLE AS $f$ BEGIN PERFORM app.evil(x); RETURN x - y; END $f$;
CREATE FUNCTION app.evil_row(o app.orders) RETURNS int LANGUAGE plpgsql IMMUTABLE AS $f$ BEGIN RETURN app.evil(1); END $f$;
CREATE FUNCTION app.lower(x int) RETURNS int LANGUAGE plpgsql IMMUTABLE AS $f$ BEGIN RETURN app.evil(x); END $f$;
CREATE OPERATOR app.<~~> (FUNCTION = app.evil2, LEFTARG = int, RIGHTARG = int);
CREATE OPERATOR app.<~~< (FUNCTION = app.evil_less, LEFTARG = int, RIGHTARG = int, COMMUTATOR = OPERATOR(app.>~~>));
CREATE OPERATOR app.>~~> (FUNCTION = app.evil_more, LEFTARG = int, RIGHTARG = int, COMMUTATOR = OPERATOR(app.<~~<));
CREATE OPERATOR CLASS app.evil_ops FOR TYPE int USING btree AS OPERATOR 1 app.<~~<, OPERATOR 5 app.>~~>, OPERATOR 3 pg_catalog.=, FUNCTION 1 app.evil_compare(int, int);
CREATE TYPE app.coin AS (value bigint);
CREATE FUNCTION app.to_coin(x bigint) RETURNS app.coin LANGUAGE plpgsql IMMUTABLE AS $f$ BEGIN PERFORM app.evil(1); RETURN row(x)::app.coin; END $f$;
CREATE CAST (bigint AS app.coin) WITH FUNCTION app.to_coin(bigint);
CREATE DOMAIN app.checked AS int CHECK (app.evil(VALUE) > 0);
CREATE TYPE app.box AS (v app.checked);
CREATE DOMAIN app.mail AS text CHECK (VALUE ~ '@');
CREATE TYPE app.person AS (name text, mail app.mail);
CREATE AGGREGATE app.evil_sum(int) (SFUNC = app.evil2, STYPE = int, INITCOND = '0');
CREATE VIEW app.evil_view AS SELECT app.evil(1) AS e;
CREATE VIEW app.outer_view AS SELECT * FROM app.evil_view;
CREATE VIEW app.hashes AS SELECT rolname, rolpassword FROM pg_authid;
CREATE FUNCTION app.double(x numeric) RETURNS numeric LANGUAGE sql IMMUTABLE AS 'SELECT x * 2';
CREATE FOREIGN DATA WRAPPER nothing;
CREATE SERVER elsewhere FOREIGN DATA WRAPPER nothing;
CREATE USER MAPPING FOR CURRENT_USER SERVER elsewhere OPTIONS (password 's3cr3t');
DO $d$ BEGIN EXECUTE format('ALTER DATABASE %I SET app.secret = %L', current_database(), 's3cr3t'); END $d$;
`;

/** All that an attack could have changed, as one text. */
const fingerprint = `
SELECT json_build_object(
  'orders', (SELECT json_agg(o ORDER BY id) FROM app.orders o),
  'audit', (SELECT count(*) FROM app.audit),
  'sequence', (SELECT json_build_array(last_value, is_called) FROM app.numbers),
  'large objects', (SELECT count(*) FROM pg_largeobject_metadata),
  'relations', (SELECT json_agg(c.oid::regclass ORDER BY c.oid) FROM pg_class c WHERE c.oid >= 16384 AND c.relpersistence <> 't'),
  'functions', (SELECT count(*) FROM pg_proc WHERE oid >= 16384),
  'settings', (SELECT json_agg(s ORDER BY setdatabase, setrole) FROM pg_db_role_setting s WHERE setdatabase IN (0, (SELECT oid FROM pg_database WHERE datname = current_database()))),
  'slots', (SELECT count(*) FROM pg_replication_slots WHERE slot_name = 'pgq_slot'),
  'origins', (SELECT count(*) FROM pg_replication_origin WHERE roname = 'pgq_origin'),
  'locks', (SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND database = (SELECT oid FROM pg_database WHERE datname = current_database())),
  'statistics', (SELECT stats_reset FROM pg_stat_database WHERE datname = current_database())
)::text`;

let database: TestDatabase;
let victim: Client;
let victimPid: number;
let notified = 0;
const file = `/tmp/${randomName("pgq_file")}`;

beforeAll(async () => {
  database = await createDatabase(inject("databaseUrl"), setup);
  victim = new Client({ connectionString: database.url });
  victim.on("error", () => {});
  await victim.connect();
  await victim.query("LISTEN here");
  victim.on("notification", () => notified++);
  const { rows } = await victim.query<{ pid: number }>("SELECT pg_backend_pid() AS pid");
  victimPid = rows[0]?.pid ?? 0;
});

afterAll(async () => {
  await victim.end();
  await database.drop();
});

function query(
  sql: string,
  options: {
    params?: unknown[];
    policy?: TablePolicy;
    functionsAllow?: string[];
    timeoutMs?: number;
    rowsMax?: number;
    postgres?: TestDatabase["postgres"];
  } = {},
): Promise<QueryAnswer> {
  return runQuery({
    postgres: options.postgres ?? database.postgres,
    sql,
    params: options.params ?? [],
    rowsMax: options.rowsMax ?? 100,
    bytesMax: 5_000,
    timeoutMs: options.timeoutMs ?? 10_000,
    policy: options.policy ?? everything,
    functionsAllow: options.functionsAllow ?? [],
    signal: new AbortController().signal,
  });
}

async function state(): Promise<string> {
  const { rows } = await database.admin.query<{ json_build_object: string }>(fingerprint);
  return rows[0]?.json_build_object ?? "";
}

async function isVictimAlive(): Promise<boolean> {
  const { rows } = await database.admin.query("SELECT FROM pg_stat_activity WHERE pid = $1", [victimPid]);
  return rows.length === 1;
}

/** What a caller would be told, answer or failure. */
async function told(work: Promise<QueryAnswer>): Promise<{ text: string; refused: boolean }> {
  try {
    return { text: JSON.stringify(await work), refused: false };
  } catch (error) {
    const failure = error instanceof ToolError ? error : translate(error);
    if (failure === undefined) throw error;
    return { text: JSON.stringify([failure.code, failure.message, failure.details]), refused: true };
  }
}

/** Answered in a harmless form and not refused. */
const harmless = new Set(["all settings", "an escape string"]);

describe.each(["superuser", "a role without TEMPORARY"])("as %s", (role) => {
  let postgres: TestDatabase["postgres"];
  const reader = randomName("pgq_reader");

  beforeAll(async () => {
    if (role === "superuser") {
      postgres = database.postgres;
      return;
    }
    // It may do all that the attacks need, but make temporary objects: the judge must go by names then.
    await database.admin.query(
      `CREATE ROLE ${reader} LOGIN PASSWORD 'reader' IN ROLE pg_signal_backend; GRANT ALL ON ALL TABLES IN SCHEMA app TO ${reader}`,
    );
    await database.admin.query(`REVOKE TEMPORARY ON DATABASE ${database.name} FROM PUBLIC`);
    await database.admin.query(`GRANT USAGE ON SCHEMA app TO ${reader}`);
    postgres = openPostgres({ writer: { ...connectionFromUrl(database.url), user: reader, password: "reader" } });
  });

  afterAll(async () => {
    if (role === "superuser") return;
    await postgres.close();
    await database.admin.query(
      `DROP OWNED BY ${reader}; DROP ROLE ${reader}; GRANT TEMPORARY ON DATABASE ${database.name} TO PUBLIC`,
    );
  });

  it.each(attacks)("leaves without effect: $attack", async ({ attack, sql, params }) => {
    const fill = (text: string) => text.replaceAll("{file}", file).replaceAll("{victim}", String(victimPid));
    const before = await state();
    const { text, refused } = await told(
      query(fill(sql), {
        postgres,
        params: (params ?? []).map((value) => (typeof value === "string" ? fill(value) : value)),
      }),
    );
    expect(await state()).toBe(before);
    expect(await isVictimAlive()).toBe(true);
    expect(notified).toBe(0);
    expect(existsSync(file)).toBe(false);
    expect(text).not.toMatch(/s3cr3t|SCRAM-SHA|root:x:/);
    expect(refused).toBe(!harmless.has(attack));
  });

  it.each(legitimate)("answers $sql", async ({ sql, params }) => {
    const answer = await told(query(sql, { postgres, params: params ?? [] }));
    expect(answer).toMatchObject({ refused: false });
  });

  it("holds to the tables of the settings, also through views", async () => {
    const policy = { ...everything, tablesDeny: ["private"] };
    await expect(query("SELECT * FROM app.private", { policy, postgres })).rejects.toMatchObject({
      code: "table_not_allowed",
    });
    await expect(query("SELECT * FROM app.private_view", { policy, postgres })).rejects.toMatchObject({
      code: "table_not_allowed",
    });
    await expect(query("SELECT * FROM pg_stats", { policy, postgres })).rejects.toMatchObject({
      code: "table_not_allowed",
    });
    expect((await query("SELECT count(*) FROM app.orders", { policy, postgres })).rows).toEqual([["3"]]);
  });

  it("looks for unqualified names in the schemas of the settings", async () => {
    await expect(query("SELECT count(*) FROM orders", { postgres })).rejects.toMatchObject({ code: "table_not_found" });
    const policy = { ...everything, schemasAllow: ["app"] };
    expect((await query("SELECT count(*) FROM orders", { policy, postgres })).rows).toEqual([["3"]]);
    await expect(query("SELECT * FROM pg_stats", { policy, postgres })).rejects.toMatchObject({
      code: "table_not_allowed",
    });
  });
});

describe("judgeStatement", () => {
  it("leaves what was judged to be run, whatever takes over its names in between", async () => {
    const sql = "SELECT upper(code::varchar) FROM app.orders ORDER BY id LIMIT 1";
    const rows = await database.postgres.scratch(
      async (tx) => {
        await tx.query("SET LOCAL search_path = pg_catalog, app");
        await judgeStatement(tx, { sql, parameterTypes: [], policy: { functionsAllow: [] } });
        await database.admin.query(
          "CREATE FUNCTION app.upper(varchar) RETURNS text LANGUAGE sql AS $f$ SELECT 'HIJACKED' $f$",
        );
        const judged = await tx.query(
          `SELECT * FROM ${judgesAsFunction(tx.major) ? "pg_temp.judged() AS answer(c0 text)" : "pg_temp.judged"}`,
        );
        const text = await tx.query(sql);
        return [judged.rows, text.rows];
      },
      { signal: new AbortController().signal, writable: true },
    );
    await database.admin.query("DROP FUNCTION app.upper(varchar)");
    expect(rows).toEqual([[["APPLE"]], [["HIJACKED"]]]);
  });

  it("runs what was judged row by row: the first rows of an endless query come at once", async () => {
    const answer = await query(
      "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT i, random() < 2 FROM n",
      { rowsMax: 2, timeoutMs: 2_000 },
    );
    expect(answer.rows).toEqual([
      [1, true],
      [2, true],
    ]);
  });
});

describe("runQuery", () => {
  it("gives exact values, names twice, and types once", async () => {
    const answer = await query("SELECT id, id, amount, tags, details, at FROM app.orders ORDER BY id DESC LIMIT 2");
    expect(answer).toEqual({
      columns: [
        { name: "id", type: "bigint" },
        { name: "id", type: "bigint" },
        { name: "amount", type: "numeric(10,2)" },
        { name: "tags", type: "text[]" },
        { name: "details", type: "jsonb" },
        { name: "at", type: "timestamp with time zone" },
      ],
      rows: [
        ["9007199254740993", "9007199254740993", null, null, null, null],
        ["2", "2", "20.00", "{b}", '{"colour": "yellow"}', "2024-01-02 10:00:00+00"],
      ],
      cutBy: null,
      clipped: 0,
    });
  });

  it("says what cut the answer", async () => {
    expect(await query("SELECT g FROM generate_series(1, 1000000) g", { rowsMax: 3 })).toMatchObject({
      rows: [[1], [2], [3]],
      cutBy: "rows",
    });
    const wide = await query("SELECT repeat('x', 900) FROM generate_series(1, 1000)");
    expect(wide.cutBy).toBe("bytes");
    expect(JSON.stringify(wide.rows).length).toBeLessThan(5_100);
  });

  it("clips a long value and says so, without holding it", async () => {
    const before = process.memoryUsage().rss;
    const answer = await query("SELECT 1 AS small, repeat('x', 100000000) AS large");
    expect(answer.columns).toEqual([
      { name: "small", type: "integer" },
      { name: "large", type: "text" },
    ]);
    expect(answer.rows[0]?.[0]).toBe(1);
    expect(String(answer.rows[0]?.[1])).toMatch(/^x{900}… \(100000000 characters\)$/);
    expect(answer.clipped).toBe(1);
    expect(process.memoryUsage().rss - before).toBeLessThan(100 * 1024 * 1024);
  });

  it("ends a runaway query at the server", async () => {
    const mark = randomName("mark");
    const started = Date.now();
    await expect(
      query(`SELECT count(*) AS ${mark} FROM generate_series(1, 100000000000)`, { timeoutMs: 500 }),
    ).rejects.toMatchObject({ code: "57014" });
    expect(Date.now() - started).toBeLessThan(4_000);
    const { rows } = await database.admin.query(
      "SELECT FROM pg_stat_activity WHERE query LIKE $1 AND state = 'active' AND pid <> pg_backend_pid()",
      [`%${mark}%`],
    );
    expect(rows).toHaveLength(0);
  });

  it("names the nearest table and column, and the position in the caller's text", async () => {
    await expect(query("SELECT * FROM app.ordres")).rejects.toMatchObject({
      code: "table_not_found",
      details: { sqlstate: "42P01", position: 15, nearest: ["app.orders"] },
    });
    await expect(query("EXPLAIN SELECT o.amuont FROM app.orders o")).rejects.toMatchObject({
      code: "column_not_found",
      details: { position: 16, nearest: ["amount"] },
    });
  });

  it("counts parameters before it runs", async () => {
    await expect(query("SELECT $1::int + $2", { params: [1] })).rejects.toMatchObject({ code: "parameter_mismatch" });
    await expect(query("SELECT 1", { params: [1] })).rejects.toMatchObject({ code: "parameter_mismatch" });
  });

  it("writes parameters as their types want them", async () => {
    const answer = await query("SELECT $1::jsonb, $2::text[], $3::int8, $4::boolean, $5::text", {
      params: [[1, { a: null }], ["a", 'b"c', null], "9007199254740993", true, null],
    });
    expect(answer.rows).toEqual([['[1, {"a": null}]', '{a,"b\\"c",NULL}', "9007199254740993", true, null]]);
  });

  it("runs a user's function that the operator vouches for, and only that", async () => {
    expect((await query("SELECT app.double(2)", { functionsAllow: ["app.dou*"] })).rows).toEqual([["4"]]);
    await expect(query("SELECT app.double(2), app.evil(1)", { functionsAllow: ["app.dou*"] })).rejects.toMatchObject({
      code: "function_refused",
      details: { function: "app.evil" },
    });
  });

  it("gives up a lock it does not get, and says that the call can be repeated", async () => {
    await database.admin.query("BEGIN; LOCK TABLE app.audit IN ACCESS EXCLUSIVE MODE");
    const started = Date.now();
    const failure: unknown = await query("SELECT * FROM app.audit").catch((error: unknown) => error);
    await database.admin.query("ROLLBACK");
    expect(translate(failure)).toMatchObject({ code: "lock_timeout", retryable: true });
    expect(Date.now() - started).toBeLessThan(4_000);
  });

  it("stops at the server when the caller goes away", async () => {
    const mark = randomName("mark");
    const caller = new AbortController();
    const work = runQuery({
      postgres: database.postgres,
      sql: `SELECT count(*) AS ${mark} FROM generate_series(1, 100000000000)`,
      params: [],
      rowsMax: 1,
      bytesMax: 1_000,
      timeoutMs: 30_000,
      policy: everything,
      functionsAllow: [],
      signal: caller.signal,
    });
    setTimeout(() => caller.abort(new Error("gone")), 300);
    await expect(work).rejects.toThrow("gone");
    const { rows } = await database.admin.query(
      "SELECT FROM pg_stat_activity WHERE query LIKE $1 AND state = 'active' AND pid <> pg_backend_pid()",
      [`%${mark}%`],
    );
    expect(rows).toHaveLength(0);
  });

  it("keeps row values out of errors", async () => {
    const { text } = await told(query("SELECT word::int FROM app.private"));
    expect(text).toContain("22P02");
    expect(text).not.toContain("s3cr3t");
  });

  it("leaves nothing in the session for the next caller", async () => {
    await told(query("SELECT 1"));
    const { rows } = await query(
      "SELECT (SELECT count(*) FROM pg_prepared_statements), (SELECT count(*) FROM pg_cursors WHERE name NOT IN ('answer', ''))",
    );
    expect(rows).toEqual([["0", "0"]]);
  });
});
