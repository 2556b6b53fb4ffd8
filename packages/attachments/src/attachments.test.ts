import { readFileSync } from "node:fs";
import { join } from "node:path";
import { readSettings, stagingSettings } from "@es-to-pg/mcp-kit";
import { describe, expect, it } from "vitest";
import { z } from "zod";
import { claudeCodeCommand, cursorButton, fromRegistry, vsCodeButton } from "./clients.ts";
import { OWNER, servers } from "./description.ts";
import { desktopManifest } from "./desktop-bundle.ts";
import { attachmentFiles, json } from "./files.ts";
import { npmManifest } from "./npm-package.ts";
import { workspaceManifest } from "./pack.ts";
import { PLUGIN_FOLDER } from "./plugin.ts";
import { repositoryRoot } from "./repository.ts";

const prompt = readFileSync(join(repositoryRoot, "agent-prompt.md"), "utf8");
const files = attachmentFiles(prompt);
const read = (path: string): unknown => JSON.parse(files[path] ?? "");

const entrySchema = z.object({
  command: z.string(),
  args: z.array(z.string()),
  env: z.record(z.string(), z.string()),
});
const entriesSchema = z.record(z.string(), entrySchema);
const clientSchema = z
  .union([z.object({ mcpServers: entriesSchema }), z.object({ servers: entriesSchema })])
  .transform((file) => ("mcpServers" in file ? file.mcpServers : file.servers));
const registrySchema = z.object({
  name: z.string(),
  description: z.string(),
  version: z.string(),
  packages: z.array(
    z.object({
      identifier: z.string(),
      version: z.string(),
      environmentVariables: z.array(
        z.object({ name: z.string(), isSecret: z.boolean(), isRequired: z.boolean(), default: z.string().optional() }),
      ),
    }),
  ),
});

const clientFiles = [
  ".mcp.json",
  ".cursor/mcp.json",
  ".vscode/mcp.json",
  ".gemini/settings.json",
  `${PLUGIN_FOLDER}/.mcp.json`,
];

describe.each(clientFiles)("%s", (path) => {
  const entries = clientSchema.parse(read(path));

  it("has every server under its own name", () => {
    expect(Object.keys(entries)).toEqual(["es", "pg"]);
  });

  it.each(servers)("gives $program only variables that it reads, and starts nothing else", (server) => {
    const entry = entries[server.alias];
    const settings = Object.keys(server.settings);
    expect(settings).toEqual(expect.arrayContaining(Object.keys(entry?.env ?? {})));
    expect(Object.keys(entry?.env ?? {})).not.toEqual([]);
    const started = [entry?.command, ...(entry?.args ?? [])].join(" ");
    expect([
      `npx -y @${OWNER}/${server.program}@${server.version}`,
      `node_modules/.bin/node packages/${server.program}/dist/main.js`,
    ]).toContain(started.replaceAll(/\$\{[^}]+\}\//g, ""));
  });
});

describe.each(servers)("the attachments of $program", (server) => {
  const entry = registrySchema.parse(read(`packages/${server.program}/server.json`));

  it("have one name and one version", async () => {
    const manifest = await workspaceManifest(server);
    const packed = npmManifest(server, manifest);
    expect(packed).toMatchObject({ name: `@${OWNER}/${server.program}`, mcpName: entry.name, version: entry.version });
    expect(entry).toMatchObject({ name: `io.github.${OWNER}/${server.program}`, version: manifest.version });
    expect(entry.packages).toMatchObject([{ identifier: server.npmName, version: manifest.version }]);
    expect(desktopManifest(server, manifest.engines)).toMatchObject({
      version: manifest.version,
      compatibility: { runtimes: { node: ">=22" } },
    });
    const dockerfile = readFileSync(join(repositoryRoot, "Dockerfile"), "utf8");
    expect(dockerfile).toContain(`io.modelcontextprotocol.server.name="${entry.name}"`);
    expect(dockerfile).toContain(`ARG VERSION=${manifest.version}\n`);
  });

  it("tell the registry every variable, its default and whether it is a secret", () => {
    expect(entry.description.length).toBeLessThanOrEqual(100);
    const variables = entry.packages[0]?.environmentVariables ?? [];
    const names = Object.keys(server.settings).filter((name) => !/^MCP_(?:HTTP|METRICS)/.test(name));
    expect(variables.map(({ name }) => name)).toEqual(names);
    expect(names).toEqual(expect.arrayContaining(Object.keys(stagingSettings)));
    expect(names).toEqual(expect.arrayContaining(["LOG_LEVEL", "MCP_STRUCTURED_OUTPUT"]));
    expect(variables.filter(({ isSecret }) => isSecret).map(({ name }) => name)).toEqual(
      names.filter((name) => server.settings[name]?.secret === true),
    );
    expect(variables.filter(({ isRequired }) => isRequired)).toEqual([]);
    // Setting every default changes nothing.
    const defaults = variables.flatMap(({ name, default: value }) => (value === undefined ? [] : [[name, value]]));
    expect(readSettings(server.settings, Object.fromEntries(defaults))).toEqual(readSettings(server.settings, {}));
  });

  it("start a server that can read what a user who fills in nothing gives it", () => {
    const samples = server.asked.map(({ name, sample = "" }) => [name, sample]);
    expect(() => readSettings(server.settings, Object.fromEntries(samples))).not.toThrow();
  });

  it("have buttons that install the published package", () => {
    const cursor = new URL(cursorButton(server));
    expect(cursor.searchParams.get("name")).toBe(server.alias);
    const config = Buffer.from(cursor.searchParams.get("config") ?? "", "base64").toString();
    expect(JSON.parse(config)).toMatchObject(fromRegistry(server));

    const inner = new URL(vsCodeButton(server)).searchParams.get("url") ?? "";
    expect(inner).toMatch(/^vscode:mcp\/install\?/);
    const asked = JSON.parse(decodeURIComponent(inner.slice("vscode:mcp/install?".length)));
    expect(asked).toMatchObject({ name: server.alias, ...fromRegistry(server) });
    const references = Object.values(z.record(z.string(), z.string()).parse(asked.env));
    expect(references).toEqual(server.asked.map(({ name }) => `\${input:${name}}`));
    expect(asked.inputs).toMatchObject(server.asked.map(({ name, secret }) => ({ id: name, password: secret })));
  });

  it("keep the names of tools within what clients take", () => {
    for (const { name } of server.tools) {
      // Cursor drops a tool where its name and the server's have more than 60 characters; the API behind Claude Code took 64 for long.
      expect(`${server.alias}${name}`.length).toBeLessThanOrEqual(60);
      expect(`mcp__plugin_es-to-pg_${server.alias}__${name}`.length).toBeLessThanOrEqual(64);
    }
  });

  it("ask in Claude Desktop for all that the server is then given", async () => {
    const { engines } = await workspaceManifest(server);
    const manifest = z
      .object({
        server: z.object({ mcp_config: z.object({ env: z.record(z.string(), z.string()) }) }),
        user_config: z.record(z.string(), z.object({ sensitive: z.boolean(), default: z.string() })),
        tools: z.array(z.object({ name: z.string() })),
      })
      .parse(desktopManifest(server, engines));
    const references = Object.entries(manifest.server.mcp_config.env);
    expect(references).toEqual(Object.keys(manifest.user_config).map((name) => [name, `\${user_config.${name}}`]));
    expect(manifest.tools.map(({ name }) => name)).toEqual(server.tools.map(({ name }) => name));
  });
});

describe("the plugin", () => {
  it("asks for all that its servers are given, and has no secret in it", () => {
    const option = z.object({ sensitive: z.boolean(), default: z.string() });
    const { userConfig } = z
      .object({ userConfig: z.record(z.string(), option) })
      .parse(read(`${PLUGIN_FOLDER}/.claude-plugin/plugin.json`));
    const given = Object.values(clientSchema.parse(read(`${PLUGIN_FOLDER}/.mcp.json`))).flatMap(({ env }) =>
      Object.entries(env),
    );
    expect(given).toEqual(Object.keys(userConfig).map((name) => [name, `\${user_config.${name}}`]));
    const secrets = Object.entries(userConfig).filter(([, { sensitive }]) => sensitive);
    expect(secrets.map(([name, { default: value }]) => [name, value])).toEqual([
      ["ELASTICSEARCH_API_KEY", ""],
      ["DATABASE_URL", ""],
    ]);
  });

  it("teaches the method in the words of the agent's prompt", () => {
    const skill = files[`${PLUGIN_FOLDER}/skills/es-to-pg/SKILL.md`] ?? "";
    const [, name, description, body] =
      /^---\nname: ([a-z-]{1,64})\ndescription: ([^\n:]{1,1024})\n---\n\n([^]*)$/.exec(skill) ?? [];
    expect(name).toBe("es-to-pg");
    expect(description).toContain("Use it to");
    expect(body?.trim()).toBe(prompt.trim());
  });
});

describe("what a reader copies", () => {
  it("is one word for a shell, whatever an address has in it", () => {
    const commands = servers.map((server) =>
      claudeCodeCommand(server).replace(fromRegistry(server).args.join(" "), "…"),
    );
    expect(commands).toEqual([
      "claude mcp add es -e ELASTICSEARCH_URL=https://es.internal:9200 -- npx …",
      "claude mcp add pg -e DATABASE_URL='postgres://etl:secret@db.internal:5432/shop?sslmode=verify-full' -- npx …",
    ]);
  });

  it("has short lists on one line, and is the same JSON", () => {
    const value = {
      short: ["-y", 'a "b", c'],
      long: ["x".repeat(80), "y".repeat(80)],
      empty: [],
      mixed: [{ a: ["b"] }],
    };
    expect(JSON.parse(json(value))).toEqual(value);
    expect(json(value)).toContain('"short": ["-y", "a \\"b\\", c"]');
  });
});
