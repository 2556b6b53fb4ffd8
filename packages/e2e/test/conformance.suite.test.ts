import { execFile } from "node:child_process";
import { mkdtemp, readdir, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";
import { promisify } from "node:util";
import { afterAll, beforeAll, expect, it } from "vitest";
import { z } from "zod";
import { entryPoint, type HttpServer, startHttpServer } from "../src/servers.ts";

const SUITE = "@modelcontextprotocol/conformance";
const VERSION = "0.2.0-alpha.12";
/** How long one scenario may take. */
const SCENARIO_MS_MAX = 30_000;

/** A scenario of the suite, in one revision of the protocol, against one server, and what came of it. */
const lineSchema = z.strictObject({
  server: z.enum(["es-mcp", "pg-mcp", "fixture"]),
  revision: z.enum(["2025-11-25", "2026-07-28"]),
  scenario: z.string(),
  passed: z.int(),
  /** Checks that ask for what the servers do not have, and why they do not. */
  open: z.array(z.string()).optional(),
  why: z.string().optional(),
});
const lines = (await readFile(new URL("data/conformance.jsonl", import.meta.url), "utf8"))
  .split("\n")
  .filter((line) => line !== "")
  .map((line) => lineSchema.parse(JSON.parse(line)));

const checksSchema = z.array(z.object({ id: z.string(), status: z.string() }));

/** The server that has what the suite looks for by name, as far as a server of mcp-kit can have it. */
const fixture = fileURLToPath(new URL("../../mcp-kit/test/fixture/conformance.ts", import.meta.url));

const run = promisify(execFile);
const servers = new Map<string, HttpServer>();
let folder: string;
let suite: string;

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "conformance-"));
  await run("npm", ["install", "--silent", "--no-audit", "--no-fund", "--prefix", folder, `${SUITE}@${VERSION}`]);
  suite = join(folder, "node_modules", SUITE, "dist", "index.js");
  // Nothing that the suite asks of them needs a database.
  const env = {
    ELASTICSEARCH_URL: "http://127.0.0.1:9",
    DATABASE_URL: "postgres://nobody@127.0.0.1:9/none",
    STAGING_URL: pathToFileURL(join(folder, "staging")).href,
  };
  for (const [name, program] of [
    ["es-mcp", entryPoint("es-mcp")],
    ["pg-mcp", entryPoint("pg-mcp")],
    ["fixture", fixture],
  ] as const) {
    servers.set(name, await startHttpServer(program, env));
  }
});

afterAll(async () => {
  await Promise.all([...servers.values()].map((server) => server.stop()));
  await rm(folder, { recursive: true, force: true });
});

it("has a line for every scenario of the suite that is no extension's", async () => {
  const { stdout } = await run(process.execPath, [suite, "list", "--server"]);
  const listed = [...stdout.matchAll(/^ {2}- (\S+) \[(.+)\]$/gm)].flatMap(([, scenario = "", revisions = ""]) =>
    lineSchema.shape.revision.options
      .filter((revision) => revisions.split(",").includes(revision))
      .map((revision) => `${revision} ${scenario}`),
  );
  expect(listed.length).toBeGreaterThan(50);
  const known = lines.filter(({ server }) => server === "fixture");
  expect(known.map(({ revision, scenario }) => `${revision} ${scenario}`).sort()).toEqual(listed.toSorted());
  // What does not pass says why not.
  expect(lines.filter(({ open, why }) => (open === undefined) !== (why === undefined))).toEqual([]);
});

it.each(lines)("$server, $revision: $scenario", async ({ server, revision, scenario, passed, open = [] }) => {
  const output = await mkdtemp(join(folder, "results-"));
  const url = servers.get(server)?.url ?? "";
  const args = ["server", "--url", url, "--scenario", scenario, "--spec-version", revision, "--output-dir", output];
  // It ends with 1 where a check fails; what failed is in its file.
  await run(process.execPath, [suite, ...args, "--timeout", String(SCENARIO_MS_MAX)]).catch(() => {});
  const [results = ""] = await readdir(output);
  const checks = checksSchema.parse(JSON.parse(await readFile(join(output, results, "checks.json"), "utf8")));
  expect({
    passed: checks.filter(({ status }) => status === "SUCCESS").length,
    open: checks.filter(({ status }) => status === "FAILURE").map(({ id }) => id),
  }).toEqual({ passed, open });
});
