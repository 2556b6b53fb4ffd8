/**
 * Prints the tables of tools, settings and types between the markers of the pages in docs/ and of archestra/README.md,
 * from the built code's own definitions, and every file that attaches the servers to a client. With `--check` it writes
 * nothing and fails where a file differs.
 */
import { mkdir, readFile, writeFile } from "node:fs/promises";
import { bundleSettings } from "@es-to-pg/archestra/dist/settings.js";
import { attachmentFiles, attachmentsSection } from "@es-to-pg/attachments";
import { kitSettings, publishedTool, type SettingsDefinition, settingsTable, stagingSettings } from "@es-to-pg/mcp-kit";
import { type MappingField, proposeType, TYPE_ROWS } from "@es-to-pg/staging";
import { prompts as esPrompts } from "es-mcp/dist/prompts/index.js";
import { resources as esResources } from "es-mcp/dist/resources.js";
import { server as esServer } from "es-mcp/dist/server.js";
import { tools as esTools } from "es-mcp/dist/tools/index.js";
import { prompts as pgPrompts } from "pg-mcp/dist/prompts/index.js";
import { resources as pgResources } from "pg-mcp/dist/resources.js";
import { server as pgServer } from "pg-mcp/dist/server.js";
import { tools as pgTools, toolsOf } from "pg-mcp/dist/tools/index.js";
import { metricsTable } from "./metrics.ts";

interface DocumentedTool {
  name: string;
  description: string;
  inputSchema: Record<string, unknown>;
}

/** By file, what stands between `<!-- name -->` and `<!-- /name -->`. */
const documents: Record<string, Record<string, string>> = {
  "docs/clients.md": { attachments: attachmentsSection() },
  "docs/tools.md": {
    "es-mcp tools": toolTable(esTools.map((tool) => publishedTool(tool, { structuredOutput: false }))),
    "pg-mcp tools": toolTable(pgTools.map((tool) => publishedTool(tool, { structuredOutput: false }))),
    "reading tools": `${code(toolsOf("read-only").map(({ name }) => name))}.`,
    prompts: promptTable({ "es-mcp": esPrompts, "pg-mcp": pgPrompts }),
    resources: resourceTable({ "es-mcp": esResources, "pg-mcp": pgResources }),
  },
  "docs/settings.md": {
    "es-mcp settings": settingsTable(ownSettings(esServer.settings)),
    "pg-mcp settings": settingsTable(ownSettings(pgServer.settings)),
    "common settings": settingsTable({ ...stagingSettings, ...kitSettings }),
  },
  "docs/mapping.md": { types: typeTable() },
  "docs/telemetry.md": { metrics: metricsTable() },
  "archestra/README.md": { settings: settingsTable(bundleSettings) },
};

const root = new URL("../../../", import.meta.url);
const printed = attachmentFiles(await readFile(new URL("agent-prompt.md", root), "utf8"));
for (const [name, sections] of Object.entries(documents)) {
  const text = await readFile(new URL(name, root), "utf8");
  printed[name] = Object.entries(sections).reduce(printSection, text);
}
for (const [name, content] of Object.entries(printed)) {
  const file = new URL(name, root);
  if (!process.argv.includes("--check")) {
    await mkdir(new URL(".", file), { recursive: true });
    await writeFile(file, content);
  } else if (content !== (await readFile(file, "utf8").catch(() => undefined))) {
    process.stderr.write(`${name} differs from the code. Run \`npm run docs\` and commit what it changes.\n`);
    process.exitCode = 1;
  }
}

function printSection(document: string, [name, table]: [string, string]): string {
  const [start, end] = [`<!-- ${name} -->\n`, `<!-- /${name} -->`];
  const [from, to] = [document.indexOf(start), document.indexOf(end)];
  if (from === -1 || to < from) throw new Error(`there is no section between ${start.trim()} and ${end}`);
  return `${document.slice(0, from + start.length)}${table.trimEnd()}\n${document.slice(to)}`;
}

function toolTable(tools: readonly DocumentedTool[]): string {
  const rows = tools.map(({ name, description, inputSchema }) => {
    const required = new Set(Array.isArray(inputSchema["required"]) ? inputSchema["required"] : []);
    const names = Object.keys(inputSchema["properties"] ?? {}).map((field) =>
      required.has(field) ? `**${field}**` : field,
    );
    return `| \`${name}\` | ${names.join(", ")} | ${inTable(description)} |`;
  });
  return ["| tool | arguments (**required**) | what it does |", "|---|---|---|", ...rows].join("\n");
}

interface DocumentedPrompt {
  name: string;
  description: string;
  arguments: readonly { name: string; required: boolean }[];
}

function promptTable(servers: Record<string, readonly DocumentedPrompt[]>): string {
  const rows = Object.entries(servers).flatMap(([server, prompts]) =>
    prompts.map(({ name, description, arguments: known }) => {
      const names = known.map((argument) => (argument.required ? `**${argument.name}**` : argument.name));
      return `| \`${name}\` | ${server} | ${names.join(", ")} | ${inTable(description)} |`;
    }),
  );
  return ["| prompt | server | arguments (**required**) | what it does |", "|---|---|---|---|", ...rows].join("\n");
}

function resourceTable(servers: Record<string, readonly { uriTemplate: string; description: string }[]>): string {
  const rows = Object.entries(servers).flatMap(([server, resources]) =>
    resources.map(({ uriTemplate, description }) => `| \`${uriTemplate}\` | ${server} | ${inTable(description)} |`),
  );
  return ["| resource | server | what it shows |", "|---|---|---|", ...rows].join("\n");
}

/** Fields whose proposed type hangs on a parameter of their mapping, as the table shows them. */
function sampleField(type: string): MappingField {
  if (type === "scaled_float") return { path: "field", type, scaling_factor: 100 };
  if (type === "constant_keyword") return { path: "field", type, constant: "product" };
  return { path: "field", type };
}

function code(texts: readonly string[]): string {
  return texts.map((text) => `\`${text}\``).join(", ");
}

/** What becomes of a field before its documents have been looked at. */
function typeTable(): string {
  const rows = TYPE_ROWS.map(({ types }) => {
    const { type, alternatives, notes } = proposeType(sampleField(types[0] ?? ""));
    return `| ${code(types)} | ${type === "none" ? "no column" : code([type])} | ${code(alternatives)} | ${inTable(notes.join(" "))} |`;
  });
  return ["| Elasticsearch | PostgreSQL | or | worth knowing |", "|---|---|---|---|", ...rows].join("\n");
}

function inTable(sentence: string): string {
  return sentence.replaceAll("|", "\\|").replaceAll("\n", " ");
}

/** The settings that one server has for itself. */
function ownSettings(settings: SettingsDefinition): SettingsDefinition {
  const common = new Set(Object.keys({ ...stagingSettings, ...kitSettings }));
  return Object.fromEntries(Object.entries(settings).filter(([name]) => !common.has(name)));
}
