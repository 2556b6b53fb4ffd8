import { execFile } from "node:child_process";
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { connect, createServer, type Server, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { TLSSocket } from "node:tls";
import { promisify } from "node:util";
import { afterAll, beforeAll, describe, expect, inject, it } from "vitest";
import { type ConnectionOptions, connectionFromUrl } from "../src/config.ts";
import { openPostgres } from "../src/postgres/index.ts";

const given = connectionFromUrl(inject("databaseUrl"));
const run = promisify(execFile);

/** Speaks TLS as PostgreSQL does (`N` or `S` to the request, then the handshake) before the real server, which may have none. */
function tlsFront(identity: { key: string; cert: string; ca?: string }): Server {
  return createServer((socket) => {
    socket.on("error", () => {});
    socket.once("data", () => {
      socket.write("S");
      const secure = new TLSSocket(socket, {
        isServer: true,
        key: identity.key,
        cert: identity.cert,
        ...(identity.ca === undefined ? {} : { ca: identity.ca, requestCert: true, rejectUnauthorized: true }),
      });
      const behind: Socket = connect(given.port, given.host);
      for (const side of [secure, behind]) {
        side.on("error", () => {});
        side.on("close", () => {
          secure.destroy();
          behind.destroy();
        });
      }
      secure.pipe(behind).pipe(secure);
    });
  });
}

let directory: string;
let ca: string;
let key: string;
let certificate: string;
const servers: Server[] = [];
let port: number;
let mutualPort: number;

async function listen(server: Server): Promise<number> {
  servers.push(server);
  await new Promise<void>((resolve) => {
    server.listen(0, "127.0.0.1", resolve);
  });
  const address = server.address();
  return typeof address === "object" && address !== null ? address.port : 0;
}

beforeAll(async () => {
  directory = await mkdtemp(join(tmpdir(), "pgq-tls-"));
  const at = (name: string) => join(directory, name);
  const own = ["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"];
  await run("openssl", [
    ...own,
    "-subj",
    "/CN=localhost",
    "-addext",
    "subjectAltName=DNS:localhost",
    "-keyout",
    at("key"),
    "-out",
    at("cert"),
  ]);
  [key, certificate] = await Promise.all([readFile(at("key"), "utf8"), readFile(at("cert"), "utf8")]);
  ca = certificate;
  port = await listen(tlsFront({ key, cert: certificate }));
  mutualPort = await listen(tlsFront({ key, cert: certificate, ca }));
});

afterAll(async () => {
  for (const server of servers) server.close();
  await rm(directory, { recursive: true, force: true });
});

async function answer(tls: ConnectionOptions["tls"], change: Partial<ConnectionOptions> = {}): Promise<unknown> {
  const postgres = openPostgres({ writer: { ...given, host: "localhost", port, ...change, tls } });
  try {
    const { rows } = await postgres.read((tx) => tx.query("SELECT 1"), { signal: new AbortController().signal });
    return rows[0]?.[0];
  } finally {
    await postgres.close();
  }
}

describe("TLS", () => {
  it.each(["prefer", "require"] as const)("takes any certificate with %s", async (mode) => {
    expect(await answer({ mode })).toBe(1);
  });

  it.each(["verify-ca", "verify-full"] as const)("takes a known authority's certificate with %s", async (mode) => {
    expect(await answer({ mode, ca })).toBe(1);
  });

  it.each(["verify-ca", "verify-full"] as const)("refuses an unknown certificate with %s", async (mode) => {
    await expect(answer({ mode })).rejects.toMatchObject({ code: "tls_untrusted", details: { tls: mode } });
  });

  it("compares the name with verify-full only", async () => {
    await expect(answer({ mode: "verify-full", ca }, { host: "127.0.0.1" })).rejects.toMatchObject({
      code: "tls_untrusted",
      next: expect.stringContaining("verify-ca"),
    });
    expect(await answer({ mode: "verify-ca", ca }, { host: "127.0.0.1" })).toBe(1);
  });

  it("checks the authority with require where one is given, as libpq does", async () => {
    await run("openssl", [
      "req",
      "-x509",
      "-newkey",
      "ec",
      "-pkeyopt",
      "ec_paramgen_curve:prime256v1",
      "-nodes",
      "-days",
      "2",
      "-subj",
      "/CN=other",
      "-keyout",
      join(directory, "k2"),
      "-out",
      join(directory, "c2"),
    ]);
    const other = await readFile(join(directory, "c2"), "utf8");
    await expect(answer({ mode: "require", ca: other })).rejects.toMatchObject({ code: "tls_untrusted" });
  });

  it("shows its own certificate where the server asks for one", async () => {
    expect(await answer({ mode: "verify-full", ca, certificate, key }, { port: mutualPort })).toBe(1);
    await expect(answer({ mode: "verify-full", ca }, { port: mutualPort })).rejects.toMatchObject({
      code: expect.stringMatching(/tls_failed|unreachable/),
    });
  });

  it("goes on without TLS with prefer where the server has none", async () => {
    expect(await answer({ mode: "prefer" }, { host: given.host, port: given.port })).toBe(1);
  });

  it("cancels over TLS, too", async () => {
    const postgres = openPostgres({ writer: { ...given, host: "localhost", port, tls: { mode: "verify-full", ca } } });
    const stop = new AbortController();
    const work = postgres.read((tx) => tx.query("SELECT pg_sleep(30)"), { signal: stop.signal });
    setTimeout(() => stop.abort(new Error("enough")), 300);
    const started = Date.now();
    await expect(work).rejects.toThrow("enough");
    expect(Date.now() - started).toBeLessThan(1_800);
    // The session survived: it was the statement that ended, and no socket that was torn down.
    const { rows } = await postgres.read((tx) => tx.query("SELECT 2"), { signal: new AbortController().signal });
    expect(rows).toEqual([[2]]);
    await postgres.close();
  });
});
