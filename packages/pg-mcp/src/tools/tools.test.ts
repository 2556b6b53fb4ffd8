import { readdirSync } from "node:fs";
import { publishedTool, schemaBytes } from "@es-to-pg/mcp-kit";
import { describe, expect, it } from "vitest";
import { page } from "../page.ts";
import { instructions, readOnlyInstructions } from "../server.ts";
import { tools, toolsOf } from "./index.ts";

describe.each(tools.map((tool) => ({ name: tool.name, tool })))("$name", ({ name, tool }) => {
  it("is published as its snapshot says", async () => {
    const published = publishedTool(tool, { structuredOutput: true, page });
    await expect(`${JSON.stringify(published, null, 2)}\n`).toMatchFileSnapshot(`__toolsnaps__/${name}.json`);
  });

  it("lives in a file of its name", () => {
    expect(readdirSync(import.meta.dirname)).toContain(`${name.replaceAll("_", "-")}.ts`);
  });

  it("writes out all four hints, and they do not contradict each other", () => {
    const { annotations } = tool;
    expect(Object.values(annotations).map((hint) => typeof hint)).toEqual(["boolean", "boolean", "boolean", "boolean"]);
    expect(annotations.readOnlyHint && annotations.destructiveHint).toBe(false);
    // The database is the only world these tools know.
    expect(annotations.openWorldHint).toBe(false);
  });

  it("publishes no choice at the top of its input, which some clients refuse", () => {
    const { inputSchema } = publishedTool(tool, { structuredOutput: false });
    expect(Object.keys(inputSchema)).not.toEqual(expect.arrayContaining([expect.stringMatching(/^(any|one|all)Of$/)]));
    expect(inputSchema["additionalProperties"]).toBe(false);
  });

  it("publishes items with every array, without which some models refuse the tool", () => {
    const arrays: unknown[] = [];
    JSON.stringify(publishedTool(tool, { structuredOutput: false }).inputSchema, (_key, value: unknown) => {
      if (typeof value === "object" && value !== null && "type" in value && value.type === "array") arrays.push(value);
      return value;
    });
    expect(arrays.filter((array) => !Object.hasOwn(Object(array), "items"))).toEqual([]);
  });
});

describe("all tools", () => {
  it("take at most 12 000 bytes of a model's context", () => {
    expect(schemaBytes(tools)).toBeLessThanOrEqual(12_000);
  });

  it("take at most 21 000 bytes where a host shows the schemas of their answers, too", () => {
    expect(schemaBytes(tools, { structuredOutput: true })).toBeLessThanOrEqual(21_000);
  });

  it.each(tools.map((tool) => [tool.name, tool] as const))("%s has a text that no client cuts", (_name, tool) => {
    expect(tool.description.length).toBeLessThan(2_000);
    expect(tool.title.length).toBeGreaterThan(0);
  });

  it("are only those that change nothing where the access is read-only", () => {
    const names = toolsOf("read-only").map(({ name }) => name);
    expect(names).toEqual(expect.arrayContaining(["list_tables", "get_schema", "count_rows", "execute_query"]));
    expect(toolsOf("read-only").every(({ annotations }) => annotations.readOnlyHint)).toBe(true);
    expect(toolsOf("read-write")).toBe(tools);
  });

  it("have instructions that clients do not cut", () => {
    expect(instructions.length).toBeLessThan(2_000);
    expect(readOnlyInstructions.length).toBeLessThan(2_000);
  });

  it("are named in the instructions only where they are there", () => {
    const writing = tools.filter((tool) => !toolsOf("read-only").includes(tool)).map(({ name }) => name);
    expect(writing.filter((name) => readOnlyInstructions.includes(name))).toEqual([]);
  });
});
