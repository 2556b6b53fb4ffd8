/** `npm run engines`, with the attachment that a client of this clone reads. */
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { afterEach, expect, inject, it } from "vitest";
import { z } from "zod";
import { repositoryRoot } from "../src/markdown.ts";
import { openCommand } from "../src/servers.ts";
import { shellCommands } from "../src/shell-words.ts";

const program = fileURLToPath(new URL("../src/engines.ts", import.meta.url));
/** Starting both takes half a minute on a busy machine, and stopping them some seconds. */
const timeout = 240_000;

const attachmentSchema = z.object({
  mcpServers: z.record(
    z.string(),
    z.object({ command: z.string(), args: z.array(z.string()), env: z.record(z.string(), z.string()) }),
  ),
});

let running: ChildProcess | undefined;

afterEach(() => {
  running?.kill("SIGKILL");
});

/** Starts it and reads what it says, until it says how it ends. */
async function start(env: Record<string, string>): Promise<{ child: ChildProcess; text: string }> {
  const { ELASTICSEARCH_URL: _, DATABASE_URL: __, ...own } = process.env;
  const child = spawn("tsx", [program], { env: { ...own, ...env }, stdio: ["ignore", "pipe", "inherit"] });
  running = child;
  let text = "";
  for await (const chunk of child.stdout.iterator({ destroyOnReturn: false })) {
    text += String(chunk);
    if (text.includes("until Ctrl-C")) {
      child.stdout.resume();
      return { child, text };
    }
  }
  throw new Error(`it ended: ${text}`);
}

/** The environment after the lines that the reader copies. */
function copied(text: string): Record<string, string> {
  const lines = text.split("\n").filter((line) => line.startsWith("  export "));
  return Object.fromEntries(
    shellCommands(lines.join("\n")).map(({ words: [, word = ""] }) => {
      const at = word.indexOf("=");
      return [word.slice(0, at), word.slice(at + 1)];
    }),
  );
}

/** What Claude Code makes of `.mcp.json`, whose variables have defaults. */
function attachment(env: Record<string, string>) {
  const expanded = readFileSync(`${repositoryRoot}.mcp.json`, "utf8").replaceAll(
    /\$\{(\w+):-([^}]*)\}/g,
    (_, name: string, otherwise: string) =>
      name === "CLAUDE_PROJECT_DIR" ? repositoryRoot.replace(/\/$/, "") : (env[name] ?? otherwise),
  );
  return attachmentSchema.parse(JSON.parse(expanded)).mcpServers;
}

async function callAttached(env: Record<string, string>, alias: string, tool: string): Promise<string> {
  const server = attachment(env)[alias];
  if (server === undefined) throw new Error(`.mcp.json has no ${alias}`);
  await using session = await openCommand({ ...server, env: { PATH: process.env["PATH"] ?? "", ...server.env } });
  return (await session.call(tool)).text;
}

it(
  "serves the products to a client of this clone until it is interrupted, and stops what it started",
  async () => {
    const { child, text } = await start({ ENGINES: "packages" });
    expect(text).toContain("index products with 15 documents");
    const env = copied(text);
    expect(Object.keys(env)).toEqual(["ELASTICSEARCH_URL", "DATABASE_URL"]);
    expect(await callAttached(env, "es", "list_indices")).toContain('"products"');
    expect(await callAttached(env, "pg", "list_tables")).toContain('"tables":[]');
    // Where it says that nothing has to be set, that is so.
    const needed = text.includes("without any setting") ? {} : env;
    expect(await callAttached(needed, "es", "list_indices")).toContain('"products"');

    const ended = once(child, "exit");
    child.kill("SIGINT");
    expect(await ended).toEqual([0, null]);
    await expect(fetch(env["ELASTICSEARCH_URL"] ?? "")).rejects.toMatchObject({ cause: { code: "ECONNREFUSED" } });
  },
  timeout,
);

it("says in a sentence that a given engine does not answer", async () => {
  const given = { ELASTICSEARCH_URL: "http://127.0.0.1:9", DATABASE_URL: inject("databaseUrl") };
  const child = spawn("tsx", [program], { env: { ...process.env, ...given }, stdio: ["ignore", "ignore", "pipe"] });
  running = child;
  let stderr = "";
  child.stderr.on("data", (chunk) => {
    stderr += String(chunk);
  });
  expect(await once(child, "close")).toEqual([1, null]);
  expect(stderr).toContain("ELASTICSEARCH_URL is set, but 127.0.0.1:9 does not answer");
});
