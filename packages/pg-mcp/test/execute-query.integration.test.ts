import { setTimeout as sleep } from "node:timers/promises";
import { ToolError } from "@es-to-pg/mcp-kit";
import { Client } from "pg";
import { afterAll, beforeAll, describe, expect, inject, it } from "vitest";
import { connectionFromUrl } from "../src/config.ts";
import { translate } from "../src/errors.ts";
import { everything, openPostgres, type TablePolicy } from "../src/postgres/index.ts";
import { judgeStatement, judgesAsFunction, type QueryAnswer, runQuery } from "../src/query/index.ts";
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
CREATE TABLE app.above_private (word text);
CREATE TABLE app.private () INHERITS (app.above_private);
INSERT INTO app.private VALUES ('s3cr3t');
CREATE VIEW app.order_view AS SELECT id, code, amount FROM app.orders WHERE amount IS NOT NULL;
CREATE VIEW app.private_view AS SELECT word FROM app.private;
CREATE FUNCTION app.evil(x int) RETURNS int LANGUAGE plpgsql IMMUTABLE AS $f$ BEGIN PERFORM pg_advisory_lock(77); RETURN x; END $f$;
CREATE FUNCTION app.drop_statements() RETURNS void LANGUAGE plpgsql AS $f$ BEGIN EXECUTE 'DEALLOCATE ALL'; END $f$;
CREATE FUNCTION app.leave_statement() RETURNS void LANGUAGE plpgsql AS $f$ BEGIN EXECUTE 'PREPARE mine AS SELECT 1'; END $f$;
CREATE FUNCTION app.replace_statements() RETURNS int LANGUAGE plpgsql AS $f$ DECLARE kept record; held int; replaced int := 0; BEGIN
  SELECT count(*) INTO held FROM pg_prepared_statements;
  FOR kept IN SELECT name, statement, parameter_types AS types FROM pg_prepared_statements WHERE statement ~ 'from_sql|FROM pg_catalog.pg_proc WHERE oid = ANY|called[(]oid' LOOP
    EXECUTE format('DEALLOCATE %I', kept.name);
    EXECUTE format('PREPARE %I %s AS SELECT %s::int8, 0::int8 WHERE %L', kept.name,
      '(' || nullif(array_to_string(kept.types, ','), '') || ')', held, kept.statement LIKE '%from_sql%');
    replaced := replaced + 1;
  END LOOP;
  RETURN replaced; END $f$;
CREATE FUNCTION app.leave_lock() RETURNS void LANGUAGE plpgsql AS $f$ BEGIN PERFORM pg_advisory_lock(78); END $f$;
CREATE FUNCTION app.double(x numeric) RETURNS numeric LANGUAGE sql IMMUTABLE AS 'SELECT x * 2';
`;

let database: TestDatabase;

beforeAll(async () => {
  database = await createDatabase(inject("databaseUrl"), setup);
});

afterAll(async () => {
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

/** What another session can do to the names of a statement: a function that fits better, another view, another table. */
async function swapEverything(sql: string): Promise<string[]> {
  const outcomes: string[] = [];
  await database.admin.query("SET lock_timeout = 100");
  for (const swap of [
    "CREATE FUNCTION app.upper(varchar) RETURNS text LANGUAGE sql IMMUTABLE AS $f$ SELECT 'HIJACKED' $f$",
    ...(sql.includes("order_view")
      ? ["CREATE OR REPLACE VIEW app.order_view AS SELECT id, 'HIJACKED' AS code, amount FROM app.orders"]
      : []),
    "ALTER TABLE app.orders RENAME TO orders_gone",
  ]) {
    const outcome = await database.admin.query(swap).then(
      () => "done",
      (error: unknown) => (error instanceof Error && "code" in error ? String(error.code) : "failed"),
    );
    outcomes.push(outcome);
  }
  return outcomes;
}

/** What judges by what the server resolves, or by the text, and does something when the judgement is over. */
function beforeRun(resolves: boolean, work: () => Promise<void>): TestDatabase["postgres"] {
  return {
    ...database.postgres,
    capabilities: async (options) => ({ ...(await database.postgres.capabilities(options)), resolves }),
    scratch: (run, options) =>
      database.postgres.scratch(
        (tx) =>
          run({
            major: tx.major,
            query: (text, values, limits) => tx.query(text, values, limits),
            batch: async (statements, limits) => {
              // The moment after the judgement is when the transaction becomes one that only reads.
              if (statements[0]?.sql === "SET TRANSACTION READ ONLY") await work();
              return await tx.batch(statements, limits);
            },
            describe: (text) => tx.describe(text),
            copyIn: (text) => tx.copyIn(text),
            savepoint: (inner) => tx.savepoint(inner),
          }),
        options,
      ),
  };
}

async function serverMajor(): Promise<number> {
  return Math.floor((await database.postgres.serverVersion()) / 10_000);
}

/** What an owner can plant code in: it fails where this server runs it. */
const plantable = `
CREATE FUNCTION app.planted(x int) RETURNS int LANGUAGE plpgsql IMMUTABLE AS $f$ BEGIN
  IF current_setting('application_name') = 'pg-mcp' THEN RAISE EXCEPTION 'planted code ran'; END IF;
  RETURN x; END $f$;
CREATE FUNCTION app.body(x int) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT x';
CREATE DOMAIN app.number AS int;
CREATE TYPE app.mood AS ENUM ('good');
CREATE FUNCTION app.planted_json(x app.mood) RETURNS json LANGUAGE plpgsql IMMUTABLE AS $f$ BEGIN RETURN app.planted(1); END $f$;
CREATE TABLE app.moods (mood app.mood); INSERT INTO app.moods VALUES ('good');
CREATE TABLE app.planned (id int); INSERT INTO app.planned VALUES (1);
CREATE VIEW app.planned_view AS SELECT id FROM app.planned;
CREATE TABLE app.planned_by_body (id int); CREATE INDEX ON app.planned_by_body (app.body(id));
CREATE TABLE app.heir_of (id int); CREATE TABLE app.heir () INHERITS (app.heir_of); INSERT INTO app.heir VALUES (1);`;

/** What another session plants, by a statement that reads it. */
const plantings: [what: string, sql: string, planting: string][] = [
  ["an index", "SELECT id FROM app.planned", "CREATE INDEX ON app.planned ((id + app.planted(1)))"],
  [
    "a part of an index",
    "SELECT id FROM app.planned WHERE id = 1",
    "CREATE INDEX ON app.planned (id) WHERE id > app.planted(1)",
  ],
  [
    "statistics",
    "SELECT id FROM app.planned",
    "CREATE STATISTICS app.planted_counts ON (id + app.planted(1)), id FROM app.planned",
  ],
  [
    "a table that inherits",
    "SELECT id FROM app.planned WHERE id = 1",
    "CREATE TABLE app.planted_child (CHECK (id > app.planted(1))) INHERITS (app.planned)",
  ],
  [
    "a check on a table that inherits",
    "SELECT id FROM app.heir_of WHERE id = 1",
    "ALTER TABLE app.heir ADD CHECK (id >= app.planted(1))",
  ],
  ["an index below a view", "SELECT id FROM app.planned_view", "CREATE INDEX ON app.planned ((id + app.planted(1)))"],
  [
    "the check of a domain",
    "SELECT id::app.number FROM app.planned",
    "ALTER DOMAIN app.number ADD CHECK (app.planted(VALUE) > 0)",
  ],
  [
    "the body of a function",
    "SELECT id FROM app.planned_by_body",
    "CREATE OR REPLACE FUNCTION app.body(x int) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT x + app.planted(1)'",
  ],
  [
    "a cast to JSON",
    "SELECT to_json(mood) FROM app.moods",
    "CREATE CAST (app.mood AS json) WITH FUNCTION app.planted_json(app.mood)",
  ],
];

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
    const { rows } = await query("SELECT reltoastrelid::regclass FROM pg_class WHERE oid = 'app.private'::regclass", {
      postgres,
    });
    await expect(query("SELECT * FROM app.above_private", { policy, postgres })).rejects.toMatchObject({
      code: "table_not_allowed",
    });
    // A plain role is refused by the server itself.
    await expect(query(`SELECT chunk_data FROM ${String(rows[0]?.[0])}`, { policy, postgres })).rejects.toThrow(
      /is not read|permission denied/,
    );
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

  describe.each([
    { resolves: true, by: "what the server resolves" },
    { resolves: false, by: "the text" },
  ])("by $by", ({ resolves }) => {
    it.each([
      ["a statement", "SELECT upper(code::varchar) FROM app.orders ORDER BY id LIMIT 1", []],
      ["a statement with parameters", "SELECT upper(code::varchar) FROM app.orders WHERE id = $1", [1]],
      ["a record", "SELECT row(upper(code::varchar)) FROM app.orders ORDER BY id LIMIT 1", []],
      ["a row of a table", "SELECT o FROM app.orders o WHERE upper(code::varchar) = 'APPLE'", []],
      ["no columns", "SELECT FROM app.orders WHERE upper(code::varchar) = 'APPLE'", []],
      ["a plan", "EXPLAIN (ANALYZE, VERBOSE) SELECT upper(code::varchar) FROM app.orders", []],
      ["a view", "SELECT code FROM app.order_view ORDER BY id LIMIT 1", []],
    ])("runs what was judged when another session swaps everything in between: %s", async (_, sql, params) => {
      const swapped: string[] = [];
      const postgres = beforeRun(resolves, async () => {
        swapped.push(...(await swapEverything(sql)));
      });
      try {
        const policy = { ...everything, schemasAllow: ["app"] };
        const { text, refused } = await told(query(sql, { postgres, params, policy }));
        // What the statement reads is locked; functions cannot be, and are told apart by their OIDs.
        expect(swapped).toEqual(["done", ...(sql.includes("order_view") ? ["55P03"] : []), "55P03"]);
        expect(refused).toBe(false);
        expect(text).not.toContain("HIJACKED");
        expect(text).not.toContain("app.upper");
      } finally {
        await database.admin.query("DROP FUNCTION IF EXISTS app.upper(varchar)");
      }
    });
  });

  describe.each([
    { resolves: true, by: "what the server resolves" },
    { resolves: false, by: "the text" },
  ])("by $by", ({ resolves }) => {
    it.each(plantings)(
      "judges anew what another session plants between judgement and plan: %s",
      async (_, sql, planting) => {
        if (planting.includes("STATISTICS") && (await serverMajor()) < 14) return;
        await database.admin.query(plantable);
        try {
          let planted = 0;
          const postgres = beforeRun(resolves, async () => {
            if (planted++ === 0) await database.admin.query(planting);
          });
          const { text } = await told(query(sql, { postgres }));
          expect(text).not.toContain("planted code ran");
          expect(text).toMatch(/function_refused.*app[.]planted/);
          expect(planted).toBe(1);
          // Nobody else is kept from running it.
          const other = new Client({ connectionString: database.url, application_name: "pg-mcp" });
          await other.connect();
          const failure: unknown = await other.query(sql).catch((error: unknown) => error);
          await other.end();
          expect(String(failure)).toContain("planted code ran");
        } finally {
          await database.admin.query(`DROP TABLE app.planned, app.heir_of, app.planned_by_body, app.moods CASCADE;
          DROP DOMAIN app.number; DROP TYPE app.mood CASCADE; DROP FUNCTION app.body, app.planted`);
        }
      },
    );
  });

  it.each([
    ...plantings,
    [
      "another view",
      "SELECT id FROM app.planned_view",
      "CREATE OR REPLACE VIEW app.planned_view AS SELECT app.planted(id) AS id FROM app.planned",
    ],
    [
      "a view of a table's name",
      "SELECT id FROM app.planned_by_body",
      "ALTER TABLE app.planned_by_body RENAME TO gone; CREATE VIEW app.planned_by_body AS SELECT app.planted(1) AS id",
    ],
    [
      "a policy below a view of an owner whom it holds for",
      "SELECT id FROM app.planned_view",
      "CREATE POLICY p ON app.planned USING (app.planted(id) = 1); ALTER TABLE app.planned ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY",
    ],
    [
      "a check that a literal is read with",
      "SELECT '{1}'::app.number[]",
      "ALTER DOMAIN app.number ADD CHECK (app.planted(VALUE) > 0)",
    ],
    [
      "an operator class",
      "SELECT id FROM app.planned WHERE id = 1",
      `CREATE FUNCTION app.planted_order(x int, y int) RETURNS int LANGUAGE plpgsql IMMUTABLE AS $f$ BEGIN RETURN app.planted(x) - y; END $f$;
       CREATE OPERATOR CLASS app.planted_ops FOR TYPE int USING btree AS OPERATOR 1 <, OPERATOR 3 =, FUNCTION 1 app.planted_order(int, int);
       CREATE INDEX ON app.planned (id app.planted_ops)`,
    ],
  ])(
    "judges by what is there now what another session has planted since the call before: %s",
    async (_, sql, planting) => {
      if (planting.includes("STATISTICS") && (await serverMajor()) < 14) return;
      await database.admin.query(plantable);
      try {
        // The second call asks by what the session has kept of the first.
        for (let calls = 0; calls < 2; calls++) {
          expect((await told(query(sql))).refused).toBe(false);
          await expect.poll(() => database.postgres.pools()[0]?.used).toBe(0);
        }
        await database.admin.query(planting);
        const { text } = await told(query(sql));
        expect(text).not.toContain("planted code ran");
        expect(text).toMatch(/function_refused.*app[.]planted/);
      } finally {
        await database.admin.query(`DROP TABLE IF EXISTS app.gone CASCADE; DROP VIEW IF EXISTS app.planned_view;
        DO $do$ BEGIN DROP TABLE app.planned_by_body; EXCEPTION WHEN wrong_object_type THEN DROP VIEW app.planned_by_body; END $do$;
        DROP TABLE app.planned, app.heir_of, app.moods CASCADE; DROP DOMAIN app.number; DROP TYPE app.mood CASCADE;
        DROP FUNCTION app.body, app.planted CASCADE; DROP OPERATOR FAMILY IF EXISTS app.planted_ops USING btree CASCADE;
        DROP FUNCTION IF EXISTS app.planted_order`);
      }
    },
  );

  it("makes no plan while another session holds what the plan needs, and waits for it", async () => {
    await database.admin.query("CREATE TABLE app.heir_of (id int); CREATE TABLE app.heir () INHERITS (app.heir_of)");
    try {
      await database.admin.query("BEGIN; LOCK TABLE app.heir IN ACCESS EXCLUSIVE MODE");
      expect(await told(query("SELECT id FROM app.heir_of"))).toMatchObject({
        refused: true,
        text: expect.stringContaining("lock_timeout"),
      });
      const answer = query("SELECT id FROM app.heir_of");
      await sleep(300);
      await database.admin.query("ROLLBACK");
      expect((await answer).rows).toEqual([]);
    } finally {
      await database.admin.query("ROLLBACK; DROP TABLE app.heir_of CASCADE");
    }
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

  it("needs no rows beyond those that fill the answer, though they are on their way", async () => {
    // The first 20 rows have 600 kB, all of them twice what is held.
    const wide = await query("SELECT g, repeat('x', 30000 * (1 + 9 * (g > 20)::int)) FROM generate_series(1, 1000) g");
    expect(wide.cutBy).toBe("bytes");
    expect(wide.clipped).toBe(wide.rows.length);
    const failing = await query("SELECT 1 / (50 - g), repeat('x', 30000) FROM generate_series(1, 1000) g");
    expect(failing.cutBy).toBe("bytes");
    await expect(query("SELECT 1 / (50 - g) FROM generate_series(1, 1000) g")).rejects.toMatchObject({ code: "22012" });
    expect((await query("SELECT g FROM generate_series(1, 60) g")).rows).toHaveLength(60);
    expect((await query("SELECT g FROM generate_series(1, 1000) g", { rowsMax: 500 })).rows).toHaveLength(500);
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

  it.each([
    "DELETE FROM app.orders",
    "WITH x AS (SELECT 1) UPDATE app.orders SET code = 'x'",
    "INSERT INTO app.audit VALUES ('x')",
    "DROP TABLE app.audit",
    "VACUUM",
  ])("says that it does not write: %s", async (sql) => {
    for (const resolves of [true, false]) {
      const postgres = beforeRun(resolves, async () => {});
      expect(await told(query(sql, { postgres }))).toMatchObject({
        refused: true,
        text: expect.stringMatching(/^\["sql_refused".*(statements that write|only reads)/),
      });
    }
  });

  it("counts parameters before it runs", async () => {
    await expect(query("SELECT $1::int + $2", { params: [1] })).rejects.toMatchObject({ code: "parameter_mismatch" });
    await expect(query("SELECT 1", { params: [1] })).rejects.toMatchObject({ code: "parameter_mismatch" });
  });

  it.each([
    ["a parameter", () => query("SELECT $1::text", { params: ["a\ud800"] })],
    ["an element of a parameter", () => query("SELECT $1::text[]", { params: [["a\udfff"]] })],
    ["the text", () => query("SELECT 'a\ud800'")],
    [
      "a name",
      () =>
        database.postgres.read((tx) => tx.query("SELECT $1::text[]", [["\ud800"]]), {
          signal: AbortSignal.timeout(9_000),
        }),
    ],
  ])("sends no half of a character: %s", async (_, send) => {
    await expect(send()).rejects.toMatchObject({ message: expect.stringContaining("half of a surrogate pair") });
  });

  it("writes parameters as their types want them", async () => {
    const answer = await query("SELECT $1::jsonb, $2::text[], $3::int8, $4::boolean, $5::text", {
      params: [[1, { a: null }], ["a", 'b"c', null], "9007199254740993", true, null],
    });
    expect(answer.rows).toEqual([['[1, {"a": null}]', '{a,"b\\"c",NULL}', "9007199254740993", true, null]]);
  });

  it("follows what a table has become since a view was made over it", async () => {
    await database.admin.query(
      "CREATE TABLE app.became (n int); CREATE VIEW app.over_became AS SELECT n FROM app.became; INSERT INTO app.became VALUES (1)",
    );
    // Before 16 an empty table becomes a view by its rule.
    const became = await database.admin
      .query(
        `DELETE FROM app.became; CREATE RULE "_RETURN" AS ON SELECT TO app.became DO INSTEAD SELECT app.evil(1) AS n`,
      )
      .then(
        () => true,
        () => false,
      );
    const outcome = await query("SELECT * FROM app.over_became").then(
      ({ rows }) => rows,
      (error: unknown) => (error instanceof ToolError ? error.code : error),
    );
    expect(outcome).toEqual(became ? "function_refused" : [[1]]);
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

  it("takes a table whose name is a value only for one that it does not read", async () => {
    const policy = { ...everything, tablesDeny: ["private"] };
    const sql = "SELECT 'app.private'::regclass::text AS name, lower(code) FROM app.orders WHERE id = 2";
    expect((await query(sql, { policy })).rows).toEqual([["app.private", "banana"]]);
    await expect(query(`${sql} AND EXISTS (SELECT FROM app.private)`, { policy })).rejects.toMatchObject({
      code: "table_not_allowed",
    });
  });

  const leftBehind = `SELECT (SELECT count(*) FROM pg_prepared_statements WHERE from_sql OR statement LIKE '%app.%'),
    (SELECT count(*) FROM pg_cursors WHERE name NOT IN ('answer', '')),
    (SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid()), current_setting('plan_cache_mode')`;

  it("leaves nothing in the session for the next caller but statements of our own", async () => {
    await told(query("SELECT * FROM app.orders"));
    expect((await query(leftBehind)).rows).toEqual([["0", "0", "0", "auto"]]);
  });

  it("goes on where code of users, which is vouched for, has dropped our own statements and left others", async () => {
    for (const call of ["app.drop_statements()", "app.leave_statement()", "app.leave_lock()", "app.evil(1)"]) {
      await query("SELECT id FROM app.orders");
      await query(`SELECT ${call}`, { functionsAllow: ["app.*"] });
      expect((await query("SELECT code FROM app.orders WHERE id = 2")).rows).toEqual([["banana"]]);
      expect((await query(leftBehind)).rows).toEqual([["0", "0", "0", "auto"]]);
    }
  });

  it("judges by its own statements where code of users, which is vouched for, has put others in their place", async () => {
    // Each call on the session of the one before, which is given back when it has been emptied.
    const inTurn = async (sql: string, functionsAllow: string[] = []) => {
      const answer = await query(sql, { functionsAllow });
      await expect.poll(() => database.postgres.pools()[0]?.used).toBe(0);
      return answer;
    };
    await inTurn("SELECT abs(id) FROM app.orders");
    await inTurn("SELECT app.double(1)", ["app.double"]);
    const { rows } = await inTurn("SELECT app.replace_statements()", ["app.replace_statements"]);
    expect(rows[0]?.[0]).toBeGreaterThan(0);
    await expect(query("SELECT app.evil(id::int) FROM app.orders WHERE id = 1")).rejects.toMatchObject({
      code: "function_refused",
    });
    await expect(query("SELECT app.evil(1)")).rejects.toMatchObject({ code: "function_refused" });
    expect((await query(leftBehind)).rows).toEqual([["0", "0", "0", "auto"]]);
  });

  it("goes on where a trigger of a table that is written has dropped our own statements", async () => {
    await query("SELECT id FROM app.orders");
    await database.postgres.write((tx) => tx.query("SELECT app.drop_statements()"), {
      signal: new AbortController().signal,
    });
    expect((await query("SELECT code FROM app.orders WHERE id = 2")).rows).toEqual([["banana"]]);
  });

  it("judges by the text where the server stops taking what resolves a statement", async () => {
    const reader = randomName("pgq_reader");
    const { name } = database;
    await database.admin.query(`CREATE ROLE ${reader} LOGIN PASSWORD 'reader'; GRANT USAGE ON SCHEMA app TO ${reader};
      GRANT SELECT ON ALL TABLES IN SCHEMA app TO ${reader};
      CREATE FUNCTION app.object() RETURNS event_trigger LANGUAGE plpgsql AS $f$ BEGIN
        RAISE insufficient_privilege USING MESSAGE = 'nothing is made here'; END $f$;
      REVOKE TEMPORARY ON DATABASE ${name} FROM PUBLIC; GRANT TEMPORARY ON DATABASE ${name} TO ${reader}`);
    const postgres = openPostgres({ writer: { ...connectionFromUrl(database.url), user: reader, password: "reader" } });
    const asked = async () => [
      (await query("SELECT code FROM app.orders WHERE id = 2", { postgres })).rows,
      (await query("SELECT code FROM app.orders WHERE id = $1", { params: [2], postgres })).rows,
      (await told(query("SELECT app.evil(1)", { postgres }))).text.includes("function_refused"),
    ];
    const answered = [[["banana"]], [["banana"]], true];
    try {
      expect(await asked()).toEqual(answered);
      // Known for a minute: that it may make them.
      await database.admin.query(`REVOKE TEMPORARY ON DATABASE ${name} FROM ${reader}`);
      expect(await asked()).toEqual(answered);
      await database.admin.query(`GRANT TEMPORARY ON DATABASE ${name} TO ${reader}`);
      await database.admin.query("CREATE EVENT TRIGGER object ON ddl_command_start EXECUTE FUNCTION app.object()");
      expect(await asked()).toEqual(answered);
    } finally {
      await postgres.close();
      await database.admin.query(`DROP EVENT TRIGGER IF EXISTS object; DROP FUNCTION app.object; DROP OWNED BY ${reader};
        DROP ROLE ${reader}; GRANT TEMPORARY ON DATABASE ${name} TO PUBLIC`);
    }
  });

  it("shares the sessions that the server gives where it gives no more", async () => {
    const reader = randomName("pgq_reader");
    await database.admin.query(`CREATE ROLE ${reader} LOGIN PASSWORD 'reader' CONNECTION LIMIT 1`);
    const postgres = openPostgres({ writer: { ...connectionFromUrl(database.url), user: reader, password: "reader" } });
    try {
      const answers = await Promise.all([1, 2, 3, 4].map((n) => query(`SELECT ${n}`, { postgres })));
      expect(answers.map(({ rows }) => rows)).toEqual([[[1]], [[2]], [[3]], [[4]]]);
    } finally {
      await postgres.close();
      await database.admin.query(`DROP ROLE ${reader}`);
    }
  });

  it("forgets the role, the settings and the temporary objects that a trigger of a table that is written leaves", async () => {
    const role = randomName("pgq_role");
    await database.admin.query(`CREATE ROLE ${role}; GRANT USAGE ON SCHEMA app TO ${role};
      CREATE TABLE app.takes_over (id int);
      CREATE FUNCTION app.take_over() RETURNS trigger LANGUAGE plpgsql AS $f$ BEGIN
        CREATE TEMPORARY TABLE orders AS SELECT 'HIJACKED' AS code;
        CREATE TEMPORARY TABLE pg_settings AS SELECT 'HIJACKED' AS name;
        CREATE FUNCTION pg_temp.judged(text) RETURNS text LANGUAGE sql AS $$ SELECT 'HIJACKED' $$;
        PERFORM set_config('search_path', 'pg_temp, app', false), set_config('work_mem', '64kB', false),
          set_config('transform_null_equals', 'on', false), set_config('role', '${role}', false);
        RETURN NEW; END $f$;
      CREATE TRIGGER take_over BEFORE INSERT ON app.takes_over FOR EACH ROW EXECUTE FUNCTION app.take_over()`);
    const { signal } = new AbortController();
    const asked =
      "SELECT current_user <> $1, current_setting('work_mem') <> '64kB', current_setting('transform_null_equals')";
    const untouched = [true, true, "off"];
    try {
      for (let writes = 0; writes < 2; writes++) {
        await database.postgres.write((tx) => tx.query("INSERT INTO app.takes_over VALUES (1)"), { signal });
        expect((await database.postgres.read((tx) => tx.query(asked, [role]), { signal })).rows).toEqual([untouched]);
        const own = "SELECT count(*) > 1, (SELECT relname FROM pg_class WHERE oid = 1259) FROM pg_settings";
        expect((await database.postgres.read((tx) => tx.query(own), { signal })).rows).toEqual([[true, "pg_class"]]);
        await database.postgres.write((tx) => tx.query("INSERT INTO app.takes_over VALUES (1)").catch(() => {}), {
          signal,
        });
        expect((await query(asked, { params: [role] })).rows).toEqual([untouched]);
        const policy = { ...everything, schemasAllow: ["app"] };
        expect((await query("SELECT code FROM orders WHERE code = $1", { params: ["apple"], policy })).rows).toEqual([
          ["apple"],
        ]);
      }
    } finally {
      await database.admin.query(`DROP TABLE app.takes_over; DROP OWNED BY ${role}; DROP ROLE ${role}`);
    }
  });
});
