import { readdirSync } from "node:fs";
import { publishedTool, schemaBytes } from "@es-to-pg/mcp-kit";
import { expect, test } from "vitest";
import { page } from "../page.ts";
import { instructions } from "../server.ts";
import { tools } from "./index.ts";

const SCHEMA_BYTES_MAX = 10_000;

const NOT_TOOLS = new Set(["index.ts", "tool.ts", "inputs.ts", "outputs.ts"]);

test("every file of this directory is a tool of its name", () => {
  const files = readdirSync(import.meta.dirname).filter((file) => file.endsWith(".ts") && !file.endsWith(".test.ts"));
  const named = files
    .filter((file) => !NOT_TOOLS.has(file))
    .map((file) => file.replace(/\.ts$/, "").replaceAll("-", "_"));
  expect(tools.map(({ name }) => name).sort()).toEqual(named.sort());
});

test("names, descriptions and input schemas stay within their budget", () => {
  expect(schemaBytes(tools)).toBeLessThanOrEqual(SCHEMA_BYTES_MAX);
});

test("stays within its budget with the schemas of the answers, too", () => {
  expect(schemaBytes(tools, { structuredOutput: true })).toBeLessThanOrEqual(16_000);
});

test.each(tools.map((tool) => [tool.name, tool] as const))("%s has a text that no client cuts", (_name, tool) => {
  expect(tool.description.length).toBeLessThan(2_000);
});

test("the instructions fit the 2,000 characters that clients keep", () => {
  expect(instructions.length).toBeLessThan(2_000);
});

test.each(tools.map((tool) => [tool.name, tool] as const))(
  "%s states its hints, and none that contradict",
  (_name, tool) => {
    const { readOnlyHint, destructiveHint, idempotentHint, openWorldHint } = tool.annotations;
    for (const hint of [readOnlyHint, destructiveHint, idempotentHint, openWorldHint])
      expect(hint).toBeTypeOf("boolean");
    expect(readOnlyHint && destructiveHint).toBe(false);
    expect(tool.title.length).toBeGreaterThan(0);
  },
);

test.each(tools.map((tool) => [tool.name, tool] as const))(
  "%s is published as its snapshot says",
  async (name, tool) => {
    const published = publishedTool(tool, { structuredOutput: true, page });
    for (const combinator of ["anyOf", "oneOf", "allOf"]) expect(published.inputSchema).not.toHaveProperty(combinator);
    await expect(`${JSON.stringify(published, null, 2)}\n`).toMatchFileSnapshot(`__toolsnaps__/${name}.json`);
  },
);
