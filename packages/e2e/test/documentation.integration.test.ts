/** Commands, calls and statements of the pages, run as they stand there but for addresses and handles; docs/mapping.md has a test of its own. */
import { execFile, spawn } from "node:child_process";
import { once } from "node:events";
import { promisify } from "node:util";
import { seedProducts } from "@es-to-pg/seed";
import { afterEach, beforeEach, describe, expect, inject, it } from "vitest";
import { z } from "zod";
import { codeBlocks, readPage, readPages, repositoryRoot } from "../src/markdown.ts";
import { type Answer, serverEnvironment } from "../src/servers.ts";
import { type ShellCommand, shellCommands } from "../src/shell-words.ts";
import { makePlace, type Place } from "./support.ts";

const execute = promisify(execFile);

/** The pages' own ports are taken on many machines; a server says in its log which one it got. */
const anyPort = { MCP_HTTP_PORT: "0" };

const callsSchema = z.array(z.strictObject({ name: z.string(), arguments: z.record(z.string(), z.unknown()) }));

let place: Place;

beforeEach(async () => {
  place = await makePlace();
});

afterEach(async () => {
  await place[Symbol.asyncDispose]();
});

describe("SQL", () => {
  const statements = readPages()
    .filter(({ path }) => path !== "docs/mapping.md")
    .flatMap(codeBlocks)
    .filter(({ language }) => language === "sql");

  it("is on the pages", () => {
    expect(statements.length).toBeGreaterThan(0);
  });

  it.each(statements.map((block) => [block.place, block] as const))(
    "of %s runs on PostgreSQL",
    async (_place, { text }) => {
      const pg = await place.open("pg-mcp");
      const fields = [{ path: "id", type: "keyword" }];
      // The first plan makes the state that the statements read.
      const planned = await pg.call("propose_mapping", { fields, table: "anything", schema: place.schema });
      expect(planned.isError).toBe(false);
      const sql = text.replaceAll("data_transformer.", `${place.schema}_state.`);
      expect(await place.sql(sql)).toBeInstanceOf(Array);
      const judged = await pg.call("execute_query", { sql });
      expect(judged.data).toMatchObject({ columns: expect.anything() });
    },
  );
});

it("makes the calls of docs/tools.md, and proves fifteen products", { timeout: 240_000 }, async () => {
  await seedProducts({ elasticsearchUrl: inject("elasticsearchUrl"), index: place.index });
  const es = await place.open("es-mcp");
  // Where the page's table is made, and looked for.
  const pg = await place.open("pg-mcp", { env: { PG_MCP_SCHEMAS_ALLOW: place.schema } });
  const block = codeBlocks(readPage("docs/tools.md")).find(({ language }) => language === "json");
  const ofElasticsearch = new Set((await es.listTools()).map(({ name }) => name));
  const handles = new Map<string, string>();
  const answers = new Map<string, Answer>();
  for (const { name, arguments: args } of callsSchema.parse(JSON.parse(block?.text ?? ""))) {
    const isEs = ofElasticsearch.has(name);
    let text = JSON.stringify(args).replaceAll(/(exp|map|load)_…/g, (_, kind: string) => handles.get(kind) ?? "");
    if (isEs) text = text.replaceAll('"products"', `"${place.index}"`);
    const answer = await (isEs ? es : pg).call(name, JSON.parse(text));
    answers.set(name, answer);
    for (const [handle, kind = ""] of answer.text.matchAll(/\b(exp|map|load)_[0-9a-z]{26}/g)) handles.set(kind, handle);
  }
  expect([...answers.values()].filter(({ isError }) => isError)).toEqual([]);
  expect(answers.get("verify_load")?.data).toMatchObject({ verdict: "equal", matched: 15, missing: 0, different: 0 });
  expect(answers.get("count_rows")?.data).toMatchObject({ count: 15 });
  expect(answers.get("execute_query")?.data["rows"]).toHaveLength(3);
});

it("prints the roles by the command of docs/operations.md", async () => {
  const [command] = commandsOf("docs/operations.md", ({ words }) => words.includes("--print-roles"));
  const { stdout } = await execute(process.execPath, command?.words.slice(1) ?? [], {
    cwd: repositoryRoot,
    env: serverEnvironment(place.env),
  });
  expect(stdout).toMatch(/^CREATE ROLE pg_mcp_reader /m);
});

it("serves both servers over HTTP by the commands of docs/clients.md, and answers its call by curl", async () => {
  await place.es("PUT", place.index, "{}");
  const starts = commandsOf("docs/clients.md", ({ words }) => words.includes("--http"));
  expect(starts.map(({ words }) => words[1])).toEqual(["packages/es-mcp/dist/main.js", "packages/pg-mcp/dist/main.js"]);
  const stops: (() => Promise<void>)[] = [];
  try {
    const urls: string[] = [];
    for (const { env, words } of starts) {
      const started = await startServer(words.slice(1), { ...place.env, ...env, ...anyPort });
      stops.push(() => started.stop());
      urls.push(started.url);
    }
    const call = codeBlocks(readPage("docs/clients.md")).find(({ text }) => text.startsWith("curl"))?.text ?? "";
    const [esUrl = "", pgUrl = ""] = urls;
    const { stdout } = await execute("sh", ["-c", call.replace("http://127.0.0.1:8080/mcp", esUrl)]);
    expect(stdout).toContain(place.index);
    const other = call.replace("http://127.0.0.1:8080/mcp", pgUrl).replace("list_indices", "list_tables");
    expect((await execute("sh", ["-c", other])).stdout).toContain('"tables');
    const ready = await fetch(esUrl.replace(/mcp$/, "readyz"));
    expect(await ready.json()).toEqual({ status: "ready" });
  } finally {
    for (const stop of stops) await stop();
  }
});

/** Commands of a page's blocks that are of the kind that is wanted. */
function commandsOf(path: string, isWanted: (command: ShellCommand) => boolean): ShellCommand[] {
  return codeBlocks(readPage(path))
    .filter(({ language }) => language === "sh")
    .flatMap(({ text }) => shellCommands(text))
    .filter(isWanted);
}

/** A server by its command line, once it has said where it listens. */
async function startServer(
  args: readonly string[],
  env: Record<string, string>,
): Promise<{ url: string; stop(): Promise<void> }> {
  const child = spawn(process.execPath, args, {
    cwd: repositoryRoot,
    env: serverEnvironment(env),
    stdio: ["ignore", "ignore", "pipe"],
  });
  const exited = once(child, "exit");
  const stop = async (): Promise<void> => {
    child.kill("SIGTERM");
    await exited;
  };
  let log = "";
  for await (const chunk of child.stderr) {
    log += String(chunk);
    const url = /"url":"([^"]+)"/.exec(log)?.[1];
    if (url !== undefined) {
      // The log goes on, and a full pipe would stop the server.
      child.stderr.resume();
      return { url, stop };
    }
  }
  throw new Error(`${args.join(" ")} did not listen: ${log}`);
}
