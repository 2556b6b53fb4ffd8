import { prompts as esPrompts } from "es-mcp/dist/prompts/index.js";
import { resources as esResources } from "es-mcp/dist/resources.js";
import { tools as esTools } from "es-mcp/dist/tools/index.js";
import { prompts as pgPrompts, promptsOf } from "pg-mcp/dist/prompts/index.js";
import { resources as pgResources } from "pg-mcp/dist/resources.js";
import { tools as pgTools, toolsOf } from "pg-mcp/dist/tools/index.js";
import { describe, expect, it } from "vitest";
import { z } from "zod";

/** A prompt of either server, as far as the tests look at it. */
interface AnyPrompt {
  name: string;
  arguments: readonly { name: string; required: boolean; complete?: unknown }[];
  text(values: Record<string, string | undefined>): string;
}

const prompts: readonly AnyPrompt[] = [...esPrompts, ...pgPrompts];
const tools = [...esTools, ...pgTools].map(({ name, input }) => ({ name, fields: Object.keys(input.shape) }));
const words = new Set([...tools.flatMap(({ name, fields }) => [name, ...fields]), "stalled"]);

function textWith(prompt: AnyPrompt, which: (argument: { required: boolean }) => boolean): string {
  return prompt.text(
    Object.fromEntries(prompt.arguments.filter(which).map((argument) => [argument.name, `<${argument.name}>`])),
  );
}

function quoted(text: string): string[] {
  return [...text.matchAll(/`([^`]+)`/g)].map(([, word = ""]) => word);
}

describe.each(prompts)("the prompt $name", (prompt) => {
  it("names only tools and arguments that there are", () => {
    const named = quoted(textWith(prompt, () => true));
    expect(named.length).toBeGreaterThan(1);
    expect(named.filter((word) => !words.has(word))).toEqual([]);
  });

  it("says what was filled in, and nothing of what was not", () => {
    const all = textWith(prompt, () => true);
    expect(prompt.arguments.filter(({ name }) => !all.includes(`<${name}>`))).toEqual([]);
    const least = textWith(prompt, ({ required }) => required);
    expect(least).not.toMatch(/undefined|null/);
    expect(least.length).toBeLessThan(2_000);
  });
});

it("completes the modes that bulk_insert has", () => {
  const mode = pgTools.find(({ name }) => name === "bulk_insert")?.input.shape["mode"];
  const modes = z
    .object({ enum: z.array(z.string()) })
    .parse(z.toJSONSchema(z.object({ mode }), { io: "input" }).properties?.["mode"]);
  const argument = prompts
    .find(({ name }) => name === "transform_index")
    ?.arguments.find(({ name }) => name === "mode");
  expect(argument?.complete).toEqual(modes.enum);
});

it("offers read-only sessions no prompt that needs a tool which writes", () => {
  const there = new Set(toolsOf("read-only").map(({ name }) => name));
  const writing = pgTools.map(({ name }) => name).filter((name) => !there.has(name));
  for (const prompt of promptsOf("read-only")) {
    expect(quoted(textWith(prompt, () => true)).filter((word) => writing.includes(word))).toEqual([]);
  }
  expect(promptsOf("read-only").map(({ name }) => name)).toEqual(["explain_rejects"]);
});

it("makes resources only of tools that read, under addresses of one name", () => {
  const resources = [...esResources, ...pgResources];
  expect(resources.map(({ uriTemplate }) => uriTemplate)).toEqual([
    "es://mapping/{index}",
    "etl://export/{id}",
    "pg://schema/{table}",
    "etl://load/{id}",
  ]);
  for (const { tool } of resources) expect(tool.annotations.readOnlyHint).toBe(true);
});
