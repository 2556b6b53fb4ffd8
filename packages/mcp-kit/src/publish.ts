import { z } from "zod";
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
}

/** The tool as `tools/list` shows it. Output schemas are left out where structured output is off. */
export function publishedTool<Context>(tool: AnyTool<Context>, options: { structuredOutput: boolean }): PublishedTool {
  return {
    name: tool.name,
    title: tool.title,
    description: tool.description,
    inputSchema: objectSchema(tool.input, "input"),
    ...(options.structuredOutput ? { outputSchema: objectSchema(tool.output, "output") } : {}),
    annotations: tool.annotations,
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
  return { ...membersWithoutIntegerBounds(rest), type: "object" };
}

/** zod gives every integer the bounds of a safe one. They cost a model tokens and tell it nothing. */
function withoutIntegerBounds(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(withoutIntegerBounds);
  return typeof value === "object" && value !== null ? membersWithoutIntegerBounds(value) : value;
}

function membersWithoutIntegerBounds(value: object): JsonSchema {
  return Object.fromEntries(
    Object.entries(value)
      .filter(([key, member]) => !(key === "minimum" && member === Number.MIN_SAFE_INTEGER))
      .filter(([key, member]) => !(key === "maximum" && member === Number.MAX_SAFE_INTEGER))
      .map(([key, member]) => [key, withoutIntegerBounds(member)]),
  );
}
