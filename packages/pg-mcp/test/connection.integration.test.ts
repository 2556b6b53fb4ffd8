import { createServer, type Server } from "node:net";
import { Client } from "pg";
import { afterAll, beforeAll, describe, expect, inject, it } from "vitest";
import { type ConnectionOptions, connectionFromUrl } from "../src/config.ts";
import { openPostgres, type Postgres, type Transaction } from "../src/postgres/index.ts";
import { randomName } from "./support.ts";

const given = connectionFromUrl(inject("databaseUrl"));
const signal = new AbortController().signal;

async function failing(change: Partial<ConnectionOptions>): Promise<unknown> {
  const postgres = openPostgres({ writer: { ...given, ...change } });
  try {
    return await postgres.read((tx) => tx.query("SELECT 1"), { signal });
  } finally {
    await postgres.close();
  }
}

function asked(tx: Pick<Transaction, "query">) {
  return tx.query("SELECT current_user");
}

describe("a connection that fails", () => {
  let silent: Server;
  let silentPort = 0;

  beforeAll(async () => {
    // Accepts and never speaks, as a wrong port of another service does.
    silent = createServer(() => {});
    await new Promise<void>((resolve) => {
      silent.listen(0, "127.0.0.1", resolve);
    });
    const address = silent.address();
    silentPort = typeof address === "object" && address !== null ? address.port : 0;
  });

  afterAll(() => {
    silent.close();
  });

  it("says that nothing listens", async () => {
    await expect(failing({ host: "127.0.0.1", port: 1 })).rejects.toMatchObject({
      code: "unreachable",
      retryable: true,
    });
  });

  it("says that a name does not resolve", async () => {
    await expect(failing({ host: "no-such-host.invalid" })).rejects.toMatchObject({ code: "unreachable" });
  });

  it("says that there is no such database", async () => {
    await expect(failing({ database: randomName("none") })).rejects.toMatchObject({ code: "database_not_found" });
  });

  it("says that the server has no TLS", async () => {
    await expect(failing({ tls: { mode: "require" } })).rejects.toMatchObject({ code: "tls_unavailable" });
  });

  it("gives up on a silent server within its bound", async () => {
    const started = Date.now();
    await expect(failing({ host: "127.0.0.1", port: silentPort })).rejects.toMatchObject({
      code: "unreachable",
      message: expect.stringContaining("no answer within 8 s"),
    });
    expect(Date.now() - started).toBeLessThan(9_500);
  });
});

describe("a role of its own for reading", () => {
  const reader = randomName("pgq_reader");
  let admin: Client;
  let postgres: Postgres;

  beforeAll(async () => {
    admin = new Client({ connectionString: inject("databaseUrl") });
    await admin.connect();
    await admin.query(`CREATE ROLE ${reader} LOGIN PASSWORD 'right'`);
    postgres = openPostgres({ writer: given, reader: { ...given, user: reader, password: "right" } });
  });

  afterAll(async () => {
    await postgres.close();
    await admin.query(`DROP ROLE ${reader}`);
    await admin.end();
  });

  it("is who reads, and not who writes", async () => {
    expect((await postgres.read(asked, { signal })).rows).toEqual([[reader]]);
    expect((await postgres.scratch(asked, { signal, writable: false })).rows).toEqual([[reader]]);
    expect((await postgres.write(asked, { signal })).rows).toEqual([[given.user]]);
  });

  it("is told of a wrong password without the password", async () => {
    const failure: unknown = await failing({ user: reader, password: "wr0ng" }).catch((error: unknown) => error);
    expect(failure).toMatchObject({ code: "authentication_failed", details: { user: reader } });
    expect(JSON.stringify(failure)).not.toContain("wr0ng");
  });

  it("is told of a missing password", async () => {
    await expect(failing({ user: reader, password: undefined })).rejects.toMatchObject({ code: "password_missing" });
  });
});

describe("the pool", () => {
  it("opens a new session after the server ended one", async () => {
    const postgres = openPostgres({ writer: given });
    const pid = async () => (await postgres.read((tx) => tx.query("SELECT pg_backend_pid()"), { signal })).rows[0]?.[0];
    const first = await pid();
    const admin = new Client({ connectionString: inject("databaseUrl") });
    await admin.connect();
    await admin.query("SELECT pg_terminate_backend($1)", [first]);
    await admin.end();
    await new Promise((resolve) => {
      setTimeout(resolve, 100);
    });
    expect(await pid()).not.toBe(first);
    await postgres.close();
  });

  it("says that a session was lost in the middle, and that the call can be repeated", async () => {
    const postgres = openPostgres({ writer: given });
    await expect(
      postgres.write((tx) => tx.query("SELECT pg_terminate_backend(pg_backend_pid())"), { signal }),
    ).rejects.toMatchObject({ code: expect.stringMatching(/57P01|connection_lost/) });
    await postgres.close();
  });

  it("lets callers wait for a connection, and gives it to them", async () => {
    const postgres = openPostgres({ writer: given });
    const answers = await Promise.all(
      Array.from({ length: 20 }, (_, index) =>
        postgres.read((tx) => tx.query("SELECT $1::int4, pg_sleep(0.02)", [index]), { signal }),
      ),
    );
    expect(answers.map(({ rows }) => rows[0]?.[0])).toEqual(Array.from({ length: 20 }, (_, index) => index));
    await postgres.close();
  });
});
