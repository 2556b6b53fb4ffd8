import { z } from "zod";
import type { Asked, Said, Wire } from "./scripted-model.ts";

const textSchema = z.looseObject({ type: z.literal("text"), text: z.string() });
const contentSchema = z.union([z.string().transform((text) => [{ type: "text" as const, text }]), z.array(textSchema)]);
const toolUseSchema = z.looseObject({
  type: z.literal("tool_use"),
  id: z.string().regex(/^[a-zA-Z0-9_-]+$/),
  name: z.string(),
  input: z.looseObject({}),
});
const toolResultSchema = z.looseObject({
  type: z.literal("tool_result"),
  tool_use_id: z.string(),
  content: contentSchema,
  is_error: z.boolean().optional(),
});

const messageSchema = z.discriminatedUnion("role", [
  z.looseObject({
    role: z.literal("user"),
    content: z.array(z.discriminatedUnion("type", [textSchema, toolResultSchema])).min(1),
  }),
  z.looseObject({
    role: z.literal("assistant"),
    content: z.array(z.discriminatedUnion("type", [textSchema, toolUseSchema])).min(1),
  }),
]);
type Message = z.infer<typeof messageSchema>;

/** What Anthropic asks of a tool; it refuses a whole request for one name or schema that is not so. */
const toolSchema = z.looseObject({
  name: z.string().regex(/^[a-zA-Z0-9_-]{1,128}$/),
  description: z.string().optional(),
  input_schema: z
    .looseObject({ type: z.literal("object") })
    .refine((schema) => !["anyOf", "oneOf", "allOf"].some((combinator) => combinator in schema), {
      message: "no combinator at the top of a tool's schema",
    }),
});

const requestSchema = z.looseObject({
  model: z.string(),
  max_tokens: z.int().min(1),
  stream: z.literal(false).optional(),
  system: contentSchema,
  messages: z.array(messageSchema).min(1),
  tools: z.array(toolSchema),
});

/** `POST /v1/messages` */
export const anthropicWire: Wire = {
  path: "/v1/messages",
  base: "",
  // Either header will do; which one the client sends is its own choice.
  keyOf: (headers) => headers["x-api-key"]?.toString() ?? headers.authorization?.replace(/^Bearer /, ""),
  read(body): Asked {
    const { messages, tools } = requestSchema.parse(body);
    return { tools: tools.map(({ name }) => name), said: messages.map(saidIn) };
  },
  write: (turn, { id, model, toolName, usage }) => ({
    id: `msg_${id}`,
    type: "message",
    role: "assistant",
    model,
    content:
      "say" in turn
        ? [{ type: "text", text: turn.say }]
        : turn.calls.map(({ tool, args }, index) => ({
            type: "tool_use",
            id: `toolu_${id}_${index}`,
            name: toolName(tool),
            input: args,
          })),
    stop_reason: "say" in turn ? "end_turn" : "tool_use",
    stop_sequence: null,
    ...(usage === null ? {} : { usage: { input_tokens: usage.input, output_tokens: usage.output } }),
  }),
  writeError: (type, message) => ({ type: "error", error: { type, message } }),
};

function saidIn(message: Message): Said {
  if (message.role === "assistant") {
    return { by: "model", calls: message.content.flatMap((block) => (block.type === "tool_use" ? [block.id] : [])) };
  }
  const results = message.content.filter((block) => block.type === "tool_result");
  if (results.length === 0) return { by: "user", text: message.content.map(textIn).join("") };
  return { by: "tools", answers: new Map(results.map((result) => [result.tool_use_id, textsOf(result.content)])) };
}

function textIn(block: Extract<Message, { role: "user" }>["content"][number]): string {
  return block.type === "text" ? block.text : "";
}

function textsOf(content: readonly { text: string }[]): string {
  return content.map(({ text }) => text).join("");
}
