import { type OwnPostgres, startPostgresVariant } from "@es-to-pg/engines";
import { Client } from "pg";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { connectionFromUrl } from "../src/config.ts";
import { everything, openPostgres, type Postgres } from "../src/postgres/index.ts";
import { runQuery } from "../src/query/index.ts";

let engine: OwnPostgres;
let postgres: Postgres;
let admin: Client;

beforeAll(async () => {
  // A setting of the whole server: it needs one of its own.
  engine = await startPostgresVariant({
    settings: {
      primary_conninfo: "host=127.0.0.1 password=s3cr3t",
      restore_command: "curl -u s3cr3t",
      shared_preload_libraries: "pg_stat_statements",
    },
  });
  postgres = openPostgres({ writer: connectionFromUrl(engine.url) });
  admin = new Client({ connectionString: engine.url });
  await admin.connect();
  await admin.query("CREATE EXTENSION pg_stat_statements");
});

afterAll(async () => {
  await postgres.close();
  await admin.end();
  await engine.stop();
});

async function ask(sql: string): Promise<string> {
  const request = {
    params: [],
    rowsMax: 1_000,
    bytesMax: 100_000,
    timeoutMs: 5_000,
    policy: everything,
    functionsAllow: [],
  };
  const signal = new AbortController().signal;
  return JSON.stringify((await runQuery({ ...request, postgres, sql, signal })).rows);
}

describe("the connection string of a standby", () => {
  it.each([
    "SHOW primary_conninfo",
    "SELECT current_setting('primary_conninfo')",
    "SELECT setting FROM pg_settings WHERE name = 'primary_conninfo'",
    "SELECT setting FROM pg_show_all_settings()",
    "SELECT reset_val FROM pg_settings",
    "SELECT * FROM pg_file_settings",
  ])("is not told by %s", async (sql) => {
    await expect(ask(sql)).rejects.toMatchObject({ code: expect.stringMatching(/^(?:sql|table|function)_refused$/) });
  });

  it("is left out of SHOW ALL, and other settings are told one by one", async () => {
    expect(await ask("SHOW ALL")).not.toContain("s3cr3t");
    expect(await ask("SHOW work_mem")).toBe('[["4MB"]]');
  });
});

describe("what pg_stat_statements keeps of the statements of others", () => {
  // A utility statement is kept as it was written, with its literals.
  const kept = "SELECT query FROM pg_stat_statements WHERE query LIKE 'SET pgq%'";

  it.each([
    kept,
    "SELECT * FROM pg_stat_statements(true)",
    "TABLE pg_stat_statements",
    "SELECT pg_stat_statements_reset()",
  ])("is not told by, and kept from, %s", async (sql) => {
    await admin.query("SET pgq.word = 's3cr3t'");
    await expect(ask(sql)).rejects.toMatchObject({ code: "function_refused" });
    expect((await admin.query<{ query: string }>(kept)).rows[0]?.query).toContain("s3cr3t");
  });
});

it("has behind its own operators and types only functions that compute", async () => {
  // The judge looks at none of them: see isOwnOperator.
  const answer = await ask(
    `SELECT 'operator', p.proname FROM pg_operator o JOIN pg_proc p ON p.oid = o.oprcode WHERE o.oid < 16384
       AND (p.provolatile = 'v' OR p.proname ~ '_to_xml|_in$|^xpath|setting|json.*_(?:build|agg)|to_json')
     UNION ALL SELECT 'type', p.proname FROM pg_type t JOIN pg_proc p ON p.oid = t.typinput WHERE t.oid < 16384 AND p.provolatile = 'v'`,
  );
  expect(answer).toBe("[]");
});
