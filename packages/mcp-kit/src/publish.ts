import { z } from "zod";
import { type Page, toolMeta } from "./page.ts";
import type { AnyTool, ToolAnnotations } from "./tool.ts";

type JsonSchema = Record<string, unknown>;

/** A tool as `tools/list` shows it. */
export interface PublishedTool {
  name: string;
  title: string;
  description: string;
  inputSchema: JsonSchema & { type: "object" };
  outputSchema?: JsonSchema & { type: "object" };
  annotations: ToolAnnotations;
  _meta?: Record<string, unknown>;
}

/**
 * The tool as `tools/list` shows it. Output schemas are left out where structured output is off, and the page where
 * there is none, or the client shows none.
 */
export function publishedTool<Context>(
  tool: AnyTool<Context>,
  options: { structuredOutput: boolean; page?: Pick<Page, "uri"> | undefined },
): PublishedTool {
  return {
    name: tool.name,
    title: tool.title,
    description: tool.description,
    inputSchema: objectSchema(tool.input, "input"),
    ...(options.structuredOutput ? { outputSchema: objectSchema(tool.output, "output") } : {}),
    annotations: tool.annotations,
    ...(tool.onPage === true && options.page !== undefined ? { _meta: toolMeta(options.page) } : {}),
  };
}

/**
 * Bytes of names, descriptions and schemas: what a client puts before its model at every turn. The schemas of the
 * answers count where they are published, for hosts that show them too.
 */
export function schemaBytes<Context>(
  tools: readonly AnyTool<Context>[],
  options: { structuredOutput: boolean } = { structuredOutput: false },
): number {
  return tools
    .map((tool) => publishedTool(tool, options))
    .map(({ name, description, inputSchema, outputSchema }) => [
      name,
      description,
      JSON.stringify(inputSchema),
      outputSchema === undefined ? "" : JSON.stringify(outputSchema),
    ])
    .reduce((sum, texts) => sum + Buffer.byteLength(texts.join("")), 0);
}

function objectSchema(schema: z.ZodObject, io: "input" | "output"): JsonSchema & { type: "object" } {
  const { $schema: _, ...rest } = z.toJSONSchema(schema, { io, unrepresentable: "any" });
  return { ...terseObject(rest, io), type: "object" };
}

/**
 * The same schema without what zod writes and no reader needs: the bounds of a safe integer, that names of properties
 * are strings, that further properties may be anything; of an answer, that it holds nothing else, and which members of
 * its inner objects are always there. A model pays for each of them at every turn.
 */
function terse(value: unknown, io: "input" | "output"): unknown {
  if (Array.isArray(value)) return value.map((item) => terse(item, io));
  if (typeof value !== "object" || value === null) return value;
  const { required, ...rest } = terseObject(value, io);
  return io === "output" || required === undefined ? rest : { ...rest, required };
}

function terseObject(schema: object, io: "input" | "output"): JsonSchema {
  return Object.fromEntries(
    Object.entries(schema)
      .filter(([key, member]) => !isNoise(key, member) && (io === "input" || !isToldBy(schema, key)))
      .map(([key, member]) => [key, terse(member, io)]),
  );
}

/** Of an answer: that an object is closed, and of which type the values of a choice are, which some models must be told of an input. */
function isToldBy(schema: object, key: string): boolean {
  if (key === "additionalProperties") return "additionalProperties" in schema && schema.additionalProperties === false;
  return key === "type" && ("enum" in schema || "const" in schema);
}

function isNoise(key: string, member: unknown): boolean {
  switch (key) {
    case "minimum":
      return member === Number.MIN_SAFE_INTEGER;
    case "maximum":
      return member === Number.MAX_SAFE_INTEGER;
    case "propertyNames":
      return JSON.stringify(member) === '{"type":"string"}';
    case "additionalProperties":
      return JSON.stringify(member) === "{}";
    default:
      return false;
  }
}
