import { z } from "zod";
import type { Turn } from "./script.ts";
import type { Asked, Said, Usage, Wire } from "./scripted-model.ts";

const textPart = z.looseObject({ type: z.literal("text"), text: z.string() });
const contentSchema = z
  .union([z.string(), z.array(textPart)])
  .transform((content) => (typeof content === "string" ? content : content.map(({ text }) => text).join("")));

const toolCallSchema = z.looseObject({
  id: z.string(),
  type: z.literal("function"),
  function: z.looseObject({ name: z.string(), arguments: z.string() }),
});

const messageSchema = z.discriminatedUnion("role", [
  z.looseObject({ role: z.literal("system"), content: contentSchema }),
  z.looseObject({ role: z.literal("user"), content: contentSchema }),
  z.looseObject({
    role: z.literal("assistant"),
    content: contentSchema.nullish(),
    tool_calls: z.array(toolCallSchema).optional(),
  }),
  z.looseObject({ role: z.literal("tool"), tool_call_id: z.string(), content: contentSchema }),
]);
type Message = z.infer<typeof messageSchema>;

/** What OpenAI asks of a tool; it refuses a whole request for one name or schema that is not so. */
const toolSchema = z.looseObject({
  type: z.literal("function"),
  function: z.looseObject({
    name: z.string().regex(/^[a-zA-Z0-9_-]{1,64}$/),
    description: z.string().optional(),
    parameters: z
      .looseObject({ type: z.literal("object") })
      .refine((schema) => !["anyOf", "oneOf", "allOf", "enum", "not"].some((combinator) => combinator in schema), {
        message: "no combinator at the top of a tool's schema",
      }),
  }),
});

const requestSchema = z.looseObject({
  model: z.string(),
  stream: z.literal(false).optional(),
  messages: z.array(messageSchema).min(2),
  tools: z.array(toolSchema),
});

/** `POST /v1/chat/completions` */
export const openaiWire: Wire = {
  path: () => "/v1/chat/completions",
  base: "/v1",
  keyOf: (headers) => headers.authorization?.replace(/^Bearer /, ""),
  read(body): Asked {
    const { messages, tools } = requestSchema.parse(body);
    const [system, ...rest] = messages;
    if (system?.role !== "system") throw new Error("the conversation should begin with the agent's prompt");
    return { tools: tools.map((listed) => listed.function.name), said: rest.reduce(addMessage, []), isStreamed: false };
  },
  write: (turn, { id, model, toolName, usage }) => ({
    id: `chatcmpl-${id}`,
    object: "chat.completion",
    created: 0,
    model,
    choices: [
      {
        index: 0,
        message: { role: "assistant", content: "say" in turn ? turn.say : null, ...toolCalls(turn, id, toolName) },
        finish_reason: "say" in turn ? "stop" : "tool_calls",
      },
    ],
    ...(usage === null ? {} : { usage: usageOf(usage) }),
  }),
  writeError: (type, message) => ({ error: { message, type } }),
};

function addMessage(said: Said[], message: Message): Said[] {
  switch (message.role) {
    case "system":
      throw new Error("only the first message is the system's");
    case "user":
      return [...said, { by: "user", text: message.content }];
    case "assistant":
      return [...said, { by: "model", calls: (message.tool_calls ?? []).map(({ id }) => id) }];
    case "tool": {
      const last = said.at(-1);
      const answers = last?.by === "tools" ? last.answers : new Map<string, string>();
      return [
        ...(last?.by === "tools" ? said.slice(0, -1) : said),
        { by: "tools", answers: new Map([...answers, [message.tool_call_id, message.content]]) },
      ];
    }
    default:
      return message satisfies never;
  }
}

function toolCalls(turn: Turn, id: number, toolName: (tool: string) => string): object {
  if ("say" in turn) return {};
  return {
    tool_calls: turn.calls.map(({ tool, args }, index) => ({
      id: `call_${id}_${index}`,
      type: "function",
      function: { name: toolName(tool), arguments: JSON.stringify(args) },
    })),
  };
}

function usageOf({ input, output }: Usage): object {
  return { prompt_tokens: input, completion_tokens: output, total_tokens: input + output };
}
