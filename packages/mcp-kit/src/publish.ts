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

/** Bytes of names, descriptions and input schemas: what a client puts before its model at every turn. */
export function schemaBytes<Context>(tools: readonly AnyTool<Context>[]): number {
  return tools
    .map((tool) => publishedTool(tool, { structuredOutput: false }))
    .map(({ name, description, inputSchema }) => Buffer.byteLength(name + description + JSON.stringify(inputSchema)))
    .reduce((sum, bytes) => sum + bytes, 0);
}

function objectSchema(schema: z.ZodObject, io: "input" | "output"): JsonSchema & { type: "object" } {
  const { $schema: _, ...rest } = z.toJSONSchema(schema, { io, unrepresentable: "any" });
  return { ...terseObject(rest), type: "object" };
}

/**
 * The same schema without what zod writes and no reader needs: the bounds of a safe integer, that names of properties
 * are strings, that further properties may be anything. A model pays for each of them at every turn.
 */
function terse(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(terse);
  return typeof value === "object" && value !== null ? terseObject(value) : value;
}

function terseObject(schema: object): JsonSchema {
  return Object.fromEntries(
    Object.entries(schema)
      .filter(([key, member]) => !isNoise(key, member))
      .map(([key, member]) => [key, terse(member)]),
  );
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
