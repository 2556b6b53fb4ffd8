import { readFileSync } from "node:fs";
import { readdir, readFile } from "node:fs/promises";
import { publishedTool } from "@es-to-pg/mcp-kit";
import { tools as esTools } from "es-mcp/dist/tools/index.js";
import { countTokens } from "gpt-tokenizer/encoding/o200k_base";
import Handlebars from "handlebars";
import { parseMappingReference } from "pg-mcp/dist/mapping/mapping.js";
import { tools as pgTools } from "pg-mcp/dist/tools/index.js";
import { expect, it } from "vitest";

const prompt = readFileSync(new URL("../../../agent-prompt.md", import.meta.url), "utf8");
const published = [
  ...esTools.map((tool) => publishedTool(tool, { structuredOutput: true })),
  ...pgTools.map((tool) => publishedTool(tool, { structuredOutput: true })),
];
const toolNames = published.map(({ name }) => name);
/** What stands between backticks. */
const quoted = [...prompt.matchAll(/`([^`]+)`/g)].map(([, text = ""]) => text);
const storedMapping = "map_00000000000000000000000000";

/** Names of fields, and words that a field may be, anywhere in a JSON schema. */
function* wordsOf(schema: unknown): Generator<string> {
  if (typeof schema !== "object" || schema === null) return;
  for (const [key, value] of Object.entries(schema)) {
    if (key === "properties") yield* Object.keys(value);
    if (key === "const" && typeof value === "string") yield value;
    if (key === "enum" && Array.isArray(value)) yield* value.map(String);
    // The mapping's shape is published as a description.
    if (key === "description") yield* [...String(value).matchAll(/[a-z_]+/g)].map(([word]) => word);
    yield* wordsOf(value);
  }
}

/** Words in double quotes in the servers' sources; error codes are among them, and written down nowhere else. */
async function errorCodes(): Promise<Set<string>> {
  const found = new Set<string>();
  for (const name of ["es-mcp", "pg-mcp", "mcp-kit", "staging"]) {
    const folder = new URL(`../../${name}/src/`, import.meta.url);
    for (const file of await readdir(folder, { recursive: true })) {
      if (!file.endsWith(".ts") || file.endsWith(".test.ts")) continue;
      const text = await readFile(new URL(file, folder), "utf8");
      for (const [, word = ""] of text.matchAll(/"([a-z_]+)"/g)) found.add(word);
    }
  }
  return found;
}

it("is shorter than 2,500 tokens", () => {
  const tokens = countTokens(prompt);
  process.stderr.write(`measured: agent-prompt.md has ${tokens} tokens (o200k_base)\n`);
  expect(tokens).toBeLessThan(2_500);
});

it("comes out of Handlebars as it went in", () => {
  expect(Handlebars.compile(prompt)({})).toBe(prompt);
});

it("says nothing of how results are written, which the platform changes", () => {
  expect(prompt).not.toMatch(/\b(JSON|TOON|parse the|array of objects)\b/);
});

it("names every tool that an ETL needs", () => {
  const needed = ["list_indices", "get_mapping", "profile_index", "get_schema", "bulk_export", "get_export"];
  needed.push(
    "propose_mapping",
    "create_table",
    "bulk_insert",
    "get_load",
    "verify_load",
    "count_rows",
    "list_rejects",
  );
  expect(needed.filter((name) => !quoted.includes(name))).toEqual([]);
});

it("names only tools, arguments, answers and error codes that there are", async () => {
  const known = new Set([
    ...toolNames,
    ...published.flatMap((tool) => [...wordsOf([tool.inputSchema, tool.outputSchema])]),
    ...(await errorCodes()),
    // A word of the line that ends a report.
    "failure",
  ]);
  const named = quoted.flatMap((text) => /^([a-z_]+)(?:: (?:true|\d+))?$/.exec(text)?.[1] ?? []);
  expect(named.length).toBeGreaterThan(90);
  expect(named.filter((word) => !known.has(word))).toEqual([]);
});

it("gives only examples of changes that a mapping takes", () => {
  const examples = quoted.filter((text) => text.startsWith('{"columns"'));
  expect(examples).toHaveLength(7);
  for (const text of examples) {
    const changes = JSON.parse(text);
    expect(parseMappingReference({ id: storedMapping, changes })).toMatchObject({ kind: "stored", changes });
    // Changes are only strict against the mapping that they are laid on, so they are read as a mapping too.
    const { columns, key } = changes;
    expect(parseMappingReference({ columns, ...(key === undefined ? {} : { key }) })).toMatchObject({ kind: "inline" });
  }
});

it("quotes nothing that is none of all that", () => {
  const known = [
    /^[a-z_]+(: (true|\d+))?$/,
    /^(exp|map|load)_…$/,
    /^\{"columns".*\}$/,
    /^\{"id": "map_…", "changes": …\}$/,
    // What the schedulers of archestra/examples look for.
    /^Result: success; rejected 0$/,
  ];
  expect(quoted.filter((text) => !known.some((form) => form.test(text)))).toEqual([]);
});
