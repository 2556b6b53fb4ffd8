import { kitSettings, readSettings } from "@es-to-pg/mcp-kit";
import { afterAll, beforeAll, expect, inject, it } from "vitest";
import { connectionFromUrl, pgSettings } from "../src/config.ts";
import { describePosture, everything, openPostgres, readPosture } from "../src/postgres/index.ts";
import { runQuery } from "../src/query/index.ts";
import { rolesSql } from "../src/roles.ts";
import { createDatabase, randomName, type TestDatabase } from "./support.ts";

const signal = new AbortController().signal;
let database: TestDatabase;
/** The printed names are fixed, and the cluster may be shared. */
const names = { pg_mcp_reader: randomName("pgq_reader"), pg_mcp_writer: randomName("pgq_writer") };

beforeAll(async () => {
  database = await createDatabase(
    inject("databaseUrl"),
    "CREATE TABLE items (id int PRIMARY KEY); INSERT INTO items VALUES (1)",
  );
});

afterAll(async () => {
  for (const role of Object.values(names)) await database.admin.query(`DROP OWNED BY ${role}; DROP ROLE ${role}`);
  await database.drop();
});

async function postureAs(user: string): Promise<string> {
  const postgres = openPostgres({ writer: { ...connectionFromUrl(database.url), user, password: "pgq" } });
  try {
    return describePosture(await readPosture(postgres, { signal }));
  } finally {
    await postgres.close();
  }
}

it("prints the SQL of a role that may only read and of one that writes, and says so of them", async () => {
  const settings = readSettings({ ...pgSettings, ...kitSettings }, { DATABASE_URL: database.url });
  let sql = rolesSql(settings);
  expect(sql).not.toMatch(/password '/i);
  for (const [printed, own] of Object.entries(names)) sql = sql.replaceAll(printed, own);
  await database.admin.query(sql);
  for (const role of Object.values(names)) await database.admin.query(`ALTER ROLE ${role} PASSWORD 'pgq'`);
  const { pg_mcp_reader: reader, pg_mcp_writer: writer } = names;
  expect(await postureAs(reader)).toBe(`reads as ${reader}, who may only read`);
  expect(await postureAs(writer)).toBe(
    `reads as ${writer}, who may also write: give POSTGRES_READER_USER a role that may only SELECT (pg-mcp --print-roles)`,
  );
  const connection = connectionFromUrl(database.url);
  const postgres = openPostgres({
    writer: { ...connection, user: writer, password: "pgq" },
    reader: { ...connection, user: reader, password: "pgq" },
  });
  try {
    await postgres.write((tx) => tx.query("CREATE TABLE public.made (id int)"), { signal });
    const request = {
      params: [],
      rowsMax: 10,
      bytesMax: 5_000,
      timeoutMs: 5_000,
      policy: everything,
      functionsAllow: [],
    };
    const answer = await runQuery({
      ...request,
      postgres,
      signal,
      sql: "SELECT current_user::text, (SELECT count(*) FROM items), (SELECT count(*) FROM public.made)",
    });
    expect(answer.rows).toEqual([[reader, "1", "0"]]);
  } finally {
    await postgres.close();
  }
});

it("names what a role may do that no reader needs", async () => {
  const role = randomName("pgq_role");
  await database.admin.query(
    `CREATE ROLE ${role} LOGIN PASSWORD 'pgq' CREATEROLE BYPASSRLS IN ROLE pg_read_server_files, pg_signal_backend;
     CREATE TABLE owned (id int); ALTER TABLE owned OWNER TO ${role}; CREATE EXTENSION IF NOT EXISTS postgres_fdw;
     REVOKE TEMPORARY ON DATABASE ${database.name} FROM PUBLIC`,
  );
  try {
    expect(await postureAs(role)).toBe(
      `reads as ${role}, who may reach the server's files, may make roles and pass row security and end sessions of others, owns 1 table: give POSTGRES_READER_USER a role that may only SELECT (pg-mcp --print-roles); extensions that reach outside: postgres_fdw; statements are judged by their text, more strictly: a standby, or no right to temporary objects`,
    );
  } finally {
    await database.admin.query(
      `GRANT TEMPORARY ON DATABASE ${database.name} TO PUBLIC; DROP OWNED BY ${role}; DROP ROLE ${role}`,
    );
  }
});
