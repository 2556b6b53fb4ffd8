/**
 * Programs that people attach the servers to, of the versions that docs/clients.md names, by the files of this clone:
 * each finds both servers and calls them, and Claude Code and Gemini CLI copy the products. Their models are played by a
 * recording.
 */
import { type ExecFileException, execFile } from "node:child_process";
import { mkdir, mkdtemp, readFile, rm, symlink, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { seedProducts } from "@es-to-pg/seed";
import { afterAll, afterEach, beforeAll, beforeEach, expect, inject, it, onTestFinished } from "vitest";
import { z } from "zod";
import { geminiWire } from "../src/agent/gemini-wire.ts";
import { play, type Recording } from "../src/agent/recording.ts";
import { serveScript, serveWire } from "../src/agent/scripted-model.ts";
import { withNames } from "../src/eval/task.ts";
import { copyProducts } from "../src/eval/tasks/copy-products.ts";
import { readPage, repositoryRoot } from "../src/markdown.ts";
import { entryPoint, type ServerName, serverEnvironment, startHttpServer } from "../src/servers.ts";
import { makePlace, type Place } from "./support.ts";

const clone = repositoryRoot.replace(/\/$/, "");
const aliases: [alias: string, server: ServerName, tool: string][] = [
  ["es", "es-mcp", "list_indices"],
  ["pg", "pg-mcp", "list_tables"],
];

/** Where the programs are installed, and the home of a person who has never used one. */
let folder: string;
let home: string;
let place: Place;

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "clients-"));
});

afterAll(async () => {
  await rm(folder, { recursive: true, force: true });
});

beforeEach(async () => {
  place = await makePlace();
  home = await mkdtemp(join(folder, "home-"));
});

afterEach(async () => {
  await place[Symbol.asyncDispose]();
});

/** The version of a program in the page's table of tried clients. */
function triedVersion(program: string): string {
  const version = new RegExp(`\`${program}\` \\| (\\S+) \\|`).exec(readPage("docs/clients.md").text)?.[1];
  if (version === undefined) throw new Error(`docs/clients.md does not say which ${program} was tried`);
  return version;
}

interface Ended {
  stdout: string;
  stderr: string;
}

/** Runs a program in a folder with nothing but this environment, and answers what it printed, however it ended. */
async function run(command: string, args: string[], env: Record<string, string> = {}, cwd = clone): Promise<Ended> {
  return await new Promise((resolve, reject) => {
    const done = (error: ExecFileException | null, stdout: string, stderr: string): void => {
      if (error !== null && typeof error.code !== "number") reject(new Error(`${error.message}\n${stdout}${stderr}`));
      else resolve({ stdout, stderr });
    };
    const own = { cwd, env: serverEnvironment({ ...passedOn(), HOME: home, ...env }), timeout: 150_000 };
    // At its end a program may wait for what nobody says.
    execFile(command, args, own, done).stdin?.end();
  });
}

/** What registries and their certificates need. */
function passedOn(): Record<string, string> {
  const names = /^(?:npm_config_|pip_|node_extra_ca|ssl_|no_proxy|https?_proxy)/i;
  const found = Object.entries(process.env).filter(([name]) => names.test(name));
  return Object.fromEntries(found.map(([name, value]) => [name, value ?? ""]));
}

/** Runs a program of an npm package by its registry's name. */
async function npx(
  name: string,
  program: string,
  args: string[],
  { env, cwd }: { env?: Record<string, string>; cwd?: string } = {},
): Promise<Ended> {
  const cache = join(folder, "npm");
  const words = ["--yes", "--cache", cache, "--package", `${name}@${triedVersion(name)}`, "--", program, ...args];
  return await run("npx", words, env, cwd);
}

const messageSchema = z.looseObject({
  type: z.string(),
  result: z.string().optional(),
  mcp_servers: z.array(z.looseObject({ name: z.string(), status: z.string() })).optional(),
});

it("Claude Code finds both servers in the folder, and copies the products in print mode", async () => {
  const { wish, recording } = await productsToCopy();
  await using model = await serveScript({ protocol: "anthropic", script: () => play(recording) });
  // What a person says yes to when the folder is opened for the first time.
  await mkdir(join(home, ".claude"));
  await writeFile(join(home, ".claude/settings.json"), '{"enableAllProjectMcpServers":true}');
  await writeFile(
    join(home, ".claude.json"),
    JSON.stringify({ hasCompletedOnboarding: true, projects: { [clone]: { hasTrustDialogAccepted: true } } }),
  );
  const env = {
    ...place.env,
    ANTHROPIC_BASE_URL: model.address.baseUrl ?? "",
    ANTHROPIC_API_KEY: model.address.apiKey,
    ANTHROPIC_MODEL: model.address.model,
    CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC: "1",
    // On a busy machine the servers come later than the first request, and a recording does not look for them again.
    CLAUDE_CODE_MCP_STARTUP_WAIT_MS: "60000",
  };
  const told = ["-p", wish, "--allowedTools", "mcp__es,mcp__pg"];
  const form = ["--output-format", "stream-json", "--verbose"];
  const { stdout } = await npx("@anthropic-ai/claude-code", "claude", [...told, ...form], { env });
  const messages = stdout.split("\n").flatMap((line) => {
    return line.startsWith("{") ? [messageSchema.parse(JSON.parse(line))] : [];
  });
  expect(messages.find((message) => message.mcp_servers !== undefined)?.mcp_servers).toMatchObject([
    { name: "es", status: "connected" },
    { name: "pg", status: "connected" },
  ]);
  expect(messages.find(({ type }) => type === "result")?.result).toContain("All fifteen products");
  expect(await rows()).toEqual(await documents());
});

/** Fills the index of the place, and answers what a person says then and what a model does. */
async function productsToCopy(): Promise<{ wish: string; recording: Recording }> {
  await seedProducts({ elasticsearchUrl: inject("elasticsearchUrl"), index: place.index });
  const task = withNames(copyProducts, new Map([["products", place.index]]));
  return JSON.parse(JSON.stringify(task).replaceAll(/\bshop\b/g, place.schema));
}

/** What the table holds. */
async function rows(): ReturnType<Place["sql"]> {
  return await place.sql(`SELECT id, name, price::numeric FROM ${place.schema}.products ORDER BY id`);
}

const hitsSchema = z.object({
  hits: z.object({
    hits: z.array(z.object({ _source: z.object({ id: z.string(), name: z.string(), price: z.number() }) })),
  }),
});

/** What the table should hold, by Elasticsearch. */
async function documents(): Promise<string[][]> {
  const { hits } = hitsSchema.parse(JSON.parse(await place.es("GET", `${place.index}/_search?size=100&sort=id`)));
  expect(hits.hits).toHaveLength(15);
  return hits.hits.map(({ _source: { id, name, price } }) => [id, name, String(price)]);
}

it("Gemini CLI finds both servers in the folder", async () => {
  await trustByGemini(clone);
  const { stdout, stderr } = await npx("@google/gemini-cli", "gemini", ["mcp", "list"], { env: place.env });
  const listed = `${stdout}${stderr}`;
  for (const [alias] of aliases) expect(listed).toMatch(new RegExp(`${alias}: .* - Connected`));
});

const settingsSchema = z.object({
  mcpServers: z.record(z.string(), z.looseObject({ env: z.record(z.string(), z.string()) })),
});
const eventSchema = z.looseObject({
  type: z.string(),
  tool_name: z.string().optional(),
  status: z.string().optional(),
});

it("Gemini CLI copies the products in a folder like the clone, with the addresses of other databases", async () => {
  const { wish, recording } = await productsToCopy();
  await using model = await serveWire(geminiWire, { script: () => play(recording), usage: { input: 70, output: 7 } });
  const like = await mkdtemp(join(folder, "clone-"));
  for (const name of ["node_modules", "packages"]) await symlink(join(clone, name), join(like, name));
  const settings = settingsSchema.parse(JSON.parse(await readFile(join(clone, ".gemini/settings.json"), "utf8")));
  // The addresses stand in the file, and it wins over the environment.
  for (const server of Object.values(settings.mcpServers)) Object.assign(server.env, place.env);
  await mkdir(join(like, ".gemini"));
  await writeFile(join(like, ".gemini/settings.json"), JSON.stringify(settings));
  await trustByGemini(like);
  // With another address of Google's, it wants to be told that a key is meant.
  await writeFile(join(home, ".gemini/settings.json"), '{"security":{"auth":{"selectedType":"gemini-api-key"}}}');
  const env = { GOOGLE_GEMINI_BASE_URL: model.address.baseUrl ?? "", GEMINI_API_KEY: model.address.apiKey };
  const told = ["-p", wish, "--yolo", "--allowed-mcp-server-names", "es,pg"];
  // Without a model's name it asks one which to take.
  const form = ["--model", model.address.model, "--output-format", "stream-json"];
  const { stdout, stderr } = await npx("@google/gemini-cli", "gemini", [...told, ...form], { env, cwd: like });
  const events = stdout.split("\n").flatMap((line) => {
    return line.startsWith("{") ? [eventSchema.parse(JSON.parse(line))] : [];
  });
  const called = events.flatMap(({ tool_name: name }) => (name === undefined ? [] : [name]));
  expect(called, `${stdout}${stderr}`).toEqual(
    expect.arrayContaining(["mcp_es_list_indices", "mcp_es_bulk_export", "mcp_pg_bulk_insert", "mcp_pg_verify_load"]),
  );
  // The table is not there yet, which the model reads in the server's own words.
  expect(events.filter(({ status }) => status === "error")).toMatchObject([
    { tool_id: expect.stringMatching(/^mcp_pg_get_schema/), error: { message: expect.stringContaining("not_found") } },
  ]);
  expect(events.at(-1)).toMatchObject({ type: "result", status: "success" });
  expect(await rows()).toEqual(await documents());
});

/** What a person says yes to when a folder is opened for the first time. */
async function trustByGemini(opened: string): Promise<void> {
  await mkdir(join(home, ".gemini"));
  await writeFile(join(home, ".gemini/trustedFolders.json"), JSON.stringify({ [opened]: "TRUST_FOLDER" }));
}

const resultSchema = z.object({ structuredContent: z.looseObject({}) });
const listSchema = z.object({ tools: z.array(z.object({ name: z.string() })) });

const inspected = aliases.flatMap(([, server, tool]) =>
  ["legacy", "modern"].map((era) => [server, tool, era] as const),
);

it.each(inspected)("MCP Inspector lists %s, and calls %s, over stdio and over HTTP, %s", async (server, tool, era) => {
  const http = await startHttpServer(entryPoint(server), place.env);
  onTestFinished(() => http.stop());
  const own = Object.entries(place.env).flatMap(([name, value]) => ["-e", `${name}=${value}`]);
  const ways = [
    [...own, process.execPath, entryPoint(server)],
    [http.url, "--transport", "http"],
  ];
  for (const way of ways) {
    const inspect = async (...method: string[]): Promise<unknown> => {
      const args = ["--cli", ...way, "--protocol-era", era, "--method", ...method];
      const { stdout, stderr } = await npx("@modelcontextprotocol/inspector", "mcp-inspector", args);
      if (!stdout.startsWith("{")) throw new Error(`${stdout}${stderr}`);
      return JSON.parse(stdout);
    };
    const { tools } = listSchema.parse(await inspect("tools/list", "--strict"));
    expect(tools.map(({ name }) => name)).toContain(tool);
    expect(resultSchema.parse(await inspect("tools/call", "--tool-name", tool)).structuredContent).toHaveProperty(
      "total",
    );
  }
});

it("fastmcp lists and calls both by Cursor's file", async () => {
  const python = join(folder, "python");
  await run("python3", ["-m", "venv", python]);
  const installed = await run(join(python, "bin/pip"), ["install", "--quiet", `fastmcp==${triedVersion("fastmcp")}`]);
  const file = (await readFile(join(clone, ".cursor/mcp.json"), "utf8")).replaceAll(
    // biome-ignore lint/suspicious/noTemplateCurlyInString: Cursor's own variable.
    "${workspaceFolder}",
    clone,
  );
  const program = `
import asyncio, json, sys
from fastmcp import Client
config = json.loads(sys.argv[1])
async def main():
    for alias, _, tool in json.loads(sys.argv[2]):
        server = config["mcpServers"][alias]
        server["env"] = json.loads(sys.argv[3])
        async with Client({"mcpServers": {alias: server}}) as client:
            names = [listed.name for listed in await client.list_tools()]
            result = await client.call_tool(tool, {})
            print(json.dumps({"alias": alias, "names": names, "structured": result.structured_content}))
asyncio.run(main())`;
  const args = [file, JSON.stringify(aliases), JSON.stringify(place.env)];
  const { stdout, stderr } = await run(join(python, "bin/python"), ["-c", program, ...args]);
  const lineSchema = z.object({ alias: z.string(), names: z.array(z.string()), structured: z.looseObject({}) });
  const lines = stdout.split("\n").flatMap((line) => (line === "" ? [] : [lineSchema.parse(JSON.parse(line))]));
  expect(lines, `${installed.stderr}${stderr}`).toHaveLength(aliases.length);
  for (const [index, [alias, , tool]] of aliases.entries()) {
    expect(lines[index]).toMatchObject({ alias, structured: { total: expect.any(Number) } });
    expect(lines[index]?.names).toContain(tool);
  }
});
