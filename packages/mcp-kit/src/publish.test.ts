import { expect, test } from "vitest";
import { z } from "zod";
import { publishedTool, schemaBytes } from "./publish.ts";
import { toolsFor } from "./tool.ts";

const tool = toolsFor<object>()({
  name: "count",
  title: "Count",
  description: "Counts.",
  input: z.strictObject({
    index: z.string().describe("Name."),
    size: z.int().default(10),
    offset: z.int().nonnegative().optional(),
    query: z.record(z.string(), z.unknown()).optional(),
  }),
  output: z.object({
    count: z.int(),
    state: z.enum(["open", "closed"]),
    parts: z.array(z.object({ name: z.string() })),
  }),
  annotations: { readOnlyHint: true, destructiveHint: false, idempotentHint: true, openWorldHint: false },
  handler: async () => ({ count: 1, state: "open" as const, parts: [] }),
});

test("publishes a terse schema of the input", () => {
  expect(publishedTool(tool, { structuredOutput: false })).toEqual({
    name: "count",
    title: "Count",
    description: "Counts.",
    inputSchema: {
      type: "object",
      properties: {
        index: { type: "string", description: "Name." },
        size: { type: "integer", default: 10 },
        offset: { type: "integer", minimum: 0 },
        query: { type: "object" },
      },
      required: ["index"],
      additionalProperties: false,
    },
    annotations: tool.annotations,
  });
});

test("publishes the schema of the output where structured output is on", () => {
  expect(publishedTool(tool, { structuredOutput: true }).outputSchema).toEqual({
    type: "object",
    properties: {
      count: { type: "integer" },
      state: { enum: ["open", "closed"] },
      parts: { type: "array", items: { type: "object", properties: { name: { type: "string" } } } },
    },
    required: ["count", "state", "parts"],
  });
});

test("counts what a model is shown at every turn", () => {
  const { inputSchema } = publishedTool(tool, { structuredOutput: false });
  const bytes = "count".length + "Counts.".length + JSON.stringify(inputSchema).length;
  expect(schemaBytes([tool, tool])).toBe(2 * bytes);
  const { outputSchema } = publishedTool(tool, { structuredOutput: true });
  expect(schemaBytes([tool], { structuredOutput: true })).toBe(bytes + JSON.stringify(outputSchema).length);
});
