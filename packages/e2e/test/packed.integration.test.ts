import { execFile } from "node:child_process";
import { mkdtemp, readdir, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { promisify } from "node:util";
import { type Packed, packServers } from "@es-to-pg/attachments";
import { seedProducts } from "@es-to-pg/seed";
import { afterAll, beforeAll, describe, expect, inject, it } from "vitest";
import { startOtlpReceiver } from "../../mcp-kit/test/otlp-receiver.ts";
import { AppClient } from "../src/app-client.ts";
import { runCourse } from "../src/course.ts";
import { openCommand, type Session, serverEnvironment } from "../src/servers.ts";
import { makePlace } from "./support.ts";

const execute = promisify(execFile);

let folder: string;
let packed: Packed[];

/** Packs both servers and installs the tarballs in an otherwise empty folder, without network. */
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "packed-"));
  packed = await packServers(join(folder, "out"));
  const tarballs = packed.map(({ tarball }) => tarball);
  await execute("npm", [
    "install",
    "--offline",
    "--no-audit",
    "--no-fund",
    "--prefix",
    join(folder, "user"),
    ...tarballs,
  ]);
});

afterAll(async () => {
  await rm(folder, { recursive: true, force: true });
});

function installed(program: string): string {
  return join(folder, "user/node_modules/.bin", program);
}

describe("the packed servers", () => {
  it("hold their code, its licences and a page, and depend on nothing", async () => {
    for (const { server, tarball, packages } of packed) {
      const { stdout } = await execute("tar", ["-tf", tarball]);
      const outside = stdout
        .split("\n")
        .filter((path) => path !== "" && !/^package\/dist\/[\w-]+\.(js|wasm)$/.test(path));
      expect(outside.sort()).toEqual([
        "package/LICENSE",
        "package/README.md",
        "package/THIRD-PARTY-NOTICES.txt",
        "package/package.json",
      ]);
      const root = join(folder, "user/node_modules", server.npmName);
      const manifest = JSON.parse(await readFile(join(root, "package.json"), "utf8"));
      expect(Object.keys(manifest).filter((key) => /dependencies|scripts|private/i.test(key))).toEqual([]);
      const notices = await readFile(join(root, "THIRD-PARTY-NOTICES.txt"), "utf8");
      expect(packages.filter(({ name, version }) => !notices.includes(`\n${name} ${version} (`))).toEqual([]);
      expect(packages.map(({ name }) => name)).toEqual(expect.arrayContaining(["@modelcontextprotocol/server", "zod"]));
    }
    expect(await readdir(join(folder, "user/node_modules"))).toEqual([
      ".bin",
      ".package-lock.json",
      ...new Set(packed.map(({ server }) => dirname(server.npmName))),
    ]);
  });

  it("know their version", async () => {
    for (const { server } of packed) {
      const { stdout } = await execute(process.execPath, [installed(server.program), "--version"]);
      expect(stdout).toBe(`${server.program} ${server.version}\n`);
    }
  });

  it("have their page in them", async () => {
    const toolsOf = { "es-mcp": "bulk_export", "pg-mcp": "bulk_insert" };
    for (const name of ["es-mcp", "pg-mcp"] as const) {
      await using app = await AppClient.open(name, { HOME: folder }, installed(name));
      expect((await app.pageOf(toolsOf[name])).html).toMatch(/^<!doctype html>[^]*<\/html>\n?$/);
    }
  });

  it("start by npx from the tarball, as docs/clients.md has it", async () => {
    // Its own cache, which stands for a machine that has never seen the package.
    const env = { ...process.env, npm_config_cache: join(folder, "cache") };
    for (const { server, tarball } of packed) {
      const npx = ["--offline", "-y", `file:${tarball}`, "--version"];
      const { stdout } = await execute("npx", npx, { cwd: folder, env });
      expect(stdout).toBe(`${server.program} ${server.version}\n`);
    }
  });

  it("move the fifteen products", async () => {
    await using place = await makePlace();
    await seedProducts({ elasticsearchUrl: inject("elasticsearchUrl"), index: place.index });
    const open = (program: string): Promise<Session> =>
      openCommand({
        command: process.execPath,
        args: [installed(program)],
        env: serverEnvironment(place.env),
      });
    await using es = await open("es-mcp");
    await using pg = await open("pg-mcp");
    const result = await runCourse({ es, pg, index: place.index, schema: place.schema, table: "products" });
    expect(result.load.figures).toMatchObject({ expected: 15, inserted: 15, rejected: 0 });
    expect(result.verified).toMatchObject({ matched: 15, missing: 0, different: 0 });
  });

  it("send traces and metrics where they are told to", async () => {
    await using place = await makePlace();
    await using receiver = await startOtlpReceiver();
    const otlp = { OTEL_EXPORTER_OTLP_ENDPOINT: receiver.url, OTEL_EXPORTER_OTLP_PROTOCOL: "http/json" };
    for (const { server } of packed) {
      const env = serverEnvironment({ ...place.env, ...otlp });
      await using session = await openCommand({ command: process.execPath, args: [installed(server.program)], env });
      await session.call(server.program === "es-mcp" ? "list_indices" : "list_tables");
    }
    expect(receiver.spans.map(({ service, name }) => `${service}: ${name}`)).toEqual(
      expect.arrayContaining(["es-mcp: tools/call list_indices", "pg-mcp: tools/call list_tables"]),
    );
    expect(receiver.spans.filter(({ kind }) => kind === 3).length).toBeGreaterThan(1);
    expect(receiver.metrics).toContain("db.client.operation.duration");
  });

  it("judge SQL by PostgreSQL's grammar in a thread of their own, where the role may create nothing", async () => {
    await using place = await makePlace();
    const database = `${place.schema}_grammar`;
    const role = `${place.schema}_reader`;
    await place.sql(`CREATE DATABASE ${database}`);
    try {
      await place.sql(`REVOKE TEMPORARY ON DATABASE ${database} FROM PUBLIC`);
      await place.sql(`CREATE ROLE ${role} LOGIN PASSWORD 'reads'`);
      const url = new URL(inject("databaseUrl"));
      Object.assign(url, { pathname: `/${database}`, username: role, password: "reads" });
      await using pg = await openCommand({
        command: process.execPath,
        args: [installed("pg-mcp")],
        env: serverEnvironment({ ...place.env, DATABASE_URL: url.href }),
      });
      expect(await pg.call("execute_query", { sql: "SELECT upper('a') AS letter" })).toMatchObject({
        isError: false,
        data: { rows: [["A"]] },
      });
      expect(await pg.call("execute_query", { sql: "SELECT 1 FORM t" })).toMatchObject({
        isError: true,
        data: { error: { code: "syntax_error" } },
      });
    } finally {
      await place.sql(`DROP DATABASE IF EXISTS ${database} WITH (FORCE)`);
      await place.sql(`DROP ROLE IF EXISTS ${role}`);
    }
  });
});
