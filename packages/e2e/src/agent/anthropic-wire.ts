import { z } from "zod";
import type { Turn } from "./script.ts";
import type { Asked, Reply, Said, Wire } from "./scripted-model.ts";

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

const userBlockSchema = z.discriminatedUnion("type", [textSchema, toolResultSchema]);
type UserBlock = z.infer<typeof userBlockSchema>;

const messageSchema = z.discriminatedUnion("role", [
  z.looseObject({
    role: z.literal("user"),
    content: z
      .union([z.string(), z.array(userBlockSchema).min(1)])
      .transform((content): UserBlock[] => (typeof content === "string" ? [{ type: "text", text: content }] : content)),
  }),
  z.looseObject({
    role: z.literal("assistant"),
    content: z.array(z.discriminatedUnion("type", [textSchema, toolUseSchema])).min(1),
  }),
  // What a client tells the model between the turns, which a script does not hear.
  z.looseObject({ role: z.literal("system"), content: contentSchema }),
]);
type Message = Exclude<z.infer<typeof messageSchema>, { role: "system" }>;

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
  stream: z.boolean().default(false),
  system: contentSchema,
  messages: z.array(messageSchema).min(1),
  tools: z.array(toolSchema),
});

/** `POST /v1/messages` */
export const anthropicWire: Wire = {
  path: () => "/v1/messages",
  base: "",
  // Either header will do; which one the client sends is its own choice.
  keyOf: (headers) => headers["x-api-key"]?.toString() ?? headers.authorization?.replace(/^Bearer /, ""),
  read(body): Asked {
    const { messages, tools, stream } = requestSchema.parse(body);
    const said = messages.filter((message) => message.role !== "system").map(saidIn);
    return { tools: tools.map(({ name }) => name), said, isStreamed: stream };
  },
  write: messageOf,
  writeEvents: (turn, reply) =>
    eventsOf(messageOf(turn, reply))
      .map((event) => `event: ${event.type}\ndata: ${JSON.stringify(event)}\n\n`)
      .join(""),
  writeError: (type, message) => ({ type: "error", error: { type, message } }),
};

function messageOf(turn: Turn, { id, model, toolName, usage }: Reply) {
  return {
    id: `msg_${id}`,
    type: "message",
    role: "assistant",
    model,
    content:
      "say" in turn
        ? [{ type: "text" as const, text: turn.say }]
        : turn.calls.map(({ tool, args }, index) => ({
            type: "tool_use" as const,
            id: `toolu_${id}_${index}`,
            name: toolName(tool),
            input: args,
          })),
    stop_reason: "say" in turn ? "end_turn" : "tool_use",
    stop_sequence: null,
    ...(usage === null ? {} : { usage: { input_tokens: usage.input, output_tokens: usage.output } }),
  };
}

/** A reply as it is streamed: each block opens empty, and what it holds follows at once. */
function eventsOf({ content, stop_reason, stop_sequence, ...start }: ReturnType<typeof messageOf>) {
  // Streams always say what they cost.
  const usage = start.usage ?? { input_tokens: 0, output_tokens: 0 };
  return [
    { type: "message_start", message: { ...start, usage, content: [], stop_reason: null, stop_sequence: null } },
    ...content.flatMap((block, index) => [
      {
        type: "content_block_start",
        index,
        content_block: block.type === "text" ? { ...block, text: "" } : { ...block, input: {} },
      },
      {
        type: "content_block_delta",
        index,
        delta:
          block.type === "text"
            ? { type: "text_delta", text: block.text }
            : { type: "input_json_delta", partial_json: JSON.stringify(block.input) },
      },
      { type: "content_block_stop", index },
    ]),
    { type: "message_delta", delta: { stop_reason, stop_sequence }, usage },
    { type: "message_stop" },
  ];
}

function saidIn(message: Message): Said {
  if (message.role === "assistant") {
    return { by: "model", calls: message.content.flatMap((block) => (block.type === "tool_use" ? [block.id] : [])) };
  }
  const results = message.content.filter((block) => block.type === "tool_result");
  if (results.length === 0) return { by: "user", text: message.content.map(textIn).join("") };
  return { by: "tools", answers: new Map(results.map((result) => [result.tool_use_id, textsOf(result.content)])) };
}

function textIn(block: UserBlock): string {
  return block.type === "text" ? block.text : "";
}

function textsOf(content: readonly { text: string }[]): string {
  return content.map(({ text }) => text).join("");
}
