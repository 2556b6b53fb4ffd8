import { createServer } from "node:http";
import { text as bodyText } from "node:stream/consumers";
import { z } from "zod";
import type { Heard, Script, Turn, Wish } from "./script.ts";

/** A model behind OpenAI's interface, played by a script. */
export interface ChatServer extends AsyncDisposable {
  /** What a client takes as `baseURL`. */
  url: string;
  model: string;
}

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
  stream: z.literal(true),
  messages: z.array(messageSchema).min(2),
  tools: z.array(toolSchema),
});
type Request = z.infer<typeof requestSchema>;

const model = "scripted-1";

/** Serves `POST /v1/chat/completions` on a free port of loopback, streamed. Nothing is kept between two requests. */
export async function serveScript(script: (wish: string) => Script): Promise<ChatServer> {
  const server = createServer((request, response) => {
    const answer = async (): Promise<void> => {
      if (request.method !== "POST" || request.url !== "/v1/chat/completions") throw new Error("no such path");
      const chunks = completion(requestSchema.parse(JSON.parse(await bodyText(request))), script);
      response.writeHead(200, { "content-type": "text/event-stream" });
      for (const chunk of chunks) response.write(`data: ${JSON.stringify(chunk)}\n\n`);
      response.end("data: [DONE]\n\n");
    };
    answer().catch((error: unknown) => {
      const message = error instanceof Error ? error.message : String(error);
      response.writeHead(400, { "content-type": "application/json" });
      response.end(JSON.stringify({ error: { message, type: "invalid_request_error" } }));
    });
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const address = server.address();
  if (address === null || typeof address === "string") throw new Error("the system gave no port");
  return {
    url: `http://127.0.0.1:${address.port}/v1`,
    model,
    async [Symbol.asyncDispose]() {
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}

/** One answer in the pieces in which OpenAI streams it: a call's name first, then its arguments. */
function completion(request: Request, script: (wish: string) => Script): object[] {
  const turn = nextTurn(request.messages, script);
  const deltas =
    "say" in turn
      ? [{ role: "assistant", content: turn.say }]
      : [
          { role: "assistant", content: null },
          ...turn.calls.flatMap((wish, index) => toolCallDeltas(wish, index, request)),
        ];
  const head = { id: `chatcmpl-${request.messages.length}`, object: "chat.completion.chunk", created: 0, model };
  return [
    ...deltas.map((delta) => ({ ...head, choices: [{ index: 0, delta, finish_reason: null }] })),
    { ...head, choices: [{ index: 0, delta: {}, finish_reason: "say" in turn ? "stop" : "tool_calls" }] },
  ];
}

function toolCallDeltas({ tool, args }: Wish, index: number, { tools, messages }: Request): object[] {
  // As the platform names them: the server's name, two underscores, the tool's.
  const name = tools.map((listed) => listed.function.name).find((listed) => listed.endsWith(`__${tool}`));
  if (name === undefined) throw new Error(`the script wants ${tool}, which is not among the tools`);
  const start = { index, id: `call_${messages.length}_${index}`, type: "function", function: { name, arguments: "" } };
  return [{ tool_calls: [start] }, { tool_calls: [{ index, function: { arguments: JSON.stringify(args) } }] }];
}

/** Runs the script over what was said so far, and answers its next turn. */
function nextTurn(messages: readonly Message[], script: (wish: string) => Script): Turn {
  if (messages[0]?.role !== "system") throw new Error("the conversation should begin with the agent's prompt");
  let at = messages.findIndex(({ role }) => role === "user");
  let running = script(messages[at]?.content ?? "");
  let step = running.next([]);
  at++;
  while (at < messages.length) {
    const past = replies(messages, at, turnOf(step));
    at = past.at;
    // After its last words, what the user says next is a new wish.
    if (step.done === true) running = script(past.heard[0] ?? "");
    step = running.next(past.heard);
  }
  return turnOf(step);
}

function turnOf(step: IteratorResult<Turn, string>): Turn {
  return step.done === true ? { say: step.value } : step.value;
}

/** What came of a turn that was taken already, and where the messages go on. */
function replies(messages: readonly Message[], at: number, turn: Turn): { heard: Heard; at: number } {
  const taken = messages[at];
  if (taken?.role !== "assistant") throw new Error(`message ${at} should be the assistant's`);
  const expected = "say" in turn ? 0 : turn.calls.length;
  const calls = taken.tool_calls ?? [];
  if (calls.length !== expected) throw new Error(`message ${at} should have ${expected} calls`);
  if (expected === 0) {
    const next = messages[at + 1];
    if (next?.role !== "user") throw new Error(`message ${at + 1} should be the user's`);
    return { heard: [next.content], at: at + 2 };
  }
  const results = messages.slice(at + 1, at + 1 + expected);
  const heard = calls.map(({ id }) => {
    const result = results.find((message) => message.role === "tool" && message.tool_call_id === id);
    if (result?.role !== "tool") throw new Error(`no tool message answers ${id}`);
    return result.content;
  });
  return { heard, at: at + 1 + expected };
}
