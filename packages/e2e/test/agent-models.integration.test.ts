import Anthropic from "@anthropic-ai/sdk";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { anthropicConversation } from "../src/agent/anthropic.ts";
import {
  type Conversation,
  type ModelAddress,
  ModelFailed,
  type ModelTool,
  protocols,
} from "../src/agent/conversation.ts";
import { geminiWire } from "../src/agent/gemini-wire.ts";
import { openaiConversation } from "../src/agent/openai.ts";
import { play, type Recording } from "../src/agent/recording.ts";
import { type ScriptedModel, serveScript, serveWire } from "../src/agent/scripted-model.ts";

const conversations = { openai: openaiConversation, anthropic: anthropicConversation };
const { signal } = new AbortController();

const tools = ["es-mcp__bulk_export", "es-mcp__get_export", "pg-mcp__bulk_insert"].map((name) => ({
  name,
  description: "A tool.",
  inputSchema: { type: "object", properties: { index: { type: "string" } } },
}));

const recording: Recording = [
  [["bulk_export", { index: "a" }]],
  "Shall I?",
  [
    ["bulk_insert", { mapping: { id: "$.mapping.id" }, table: "t", export_id: "$.export_id" }],
    ["bulk_export", { index: "b" }],
  ],
  "Done.",
];

describe.each(protocols)("a model behind the interface of %s", (protocol) => {
  let model: ScriptedModel;

  beforeEach(async () => {
    model = await serveScript({ protocol, script: () => play(recording), usage: { input: 70, output: 7 } });
  });

  afterEach(() => model[Symbol.asyncDispose]());

  function open(address: Partial<ModelAddress> = {}, listed: readonly ModelTool[] = tools): Conversation {
    return conversations[protocol]({
      address: { ...model.address, ...address },
      systemPrompt: "You move data.",
      tools: listed,
    });
  }

  it("calls, polls, asks, calls side by side with what it was told, and comes to an end", async () => {
    const conversation = open();
    const usage = { input: 70, output: 7 };

    const first = await conversation.say("Copy a.", signal);
    expect(first).toMatchObject({ text: "", calls: [{ name: "es-mcp__bulk_export", args: '{"index":"a"}' }], usage });
    const [id = ""] = first.calls.map((call) => call.id);
    const working = { id, text: '{"export_id":"exp_1","status":"working"}', isError: false };
    const polled = await conversation.answer([working], signal);
    expect(polled.calls.map(({ name, args }) => [name, args])).toEqual([
      ["es-mcp__get_export", '{"export_id":"exp_1","wait_seconds":20}'],
    ]);

    const done = '{"export_id":"exp_1","status":"completed","mapping":{"id":"map_1"}}';
    const question = await conversation.answer([{ id: polled.calls[0]?.id ?? "", text: done, isError: false }], signal);
    expect(question).toEqual({ text: "Shall I?", calls: [], usage });

    const both = await conversation.say("Yes.", signal);
    expect(both.calls.map(({ name, args }) => [name, JSON.parse(args)])).toEqual([
      ["pg-mcp__bulk_insert", { mapping: { id: "map_1" }, table: "t", export_id: "exp_1" }],
      ["es-mcp__bulk_export", { index: "b" }],
    ]);
    expect(new Set(both.calls.map((call) => call.id)).size).toBe(2);

    // In whatever order: the id says which call is answered.
    const results = both.calls.map((call) => ({ id: call.id, text: '{"error":{"code":"busy"}}', isError: true }));
    expect(await conversation.answer(results.toReversed(), signal)).toEqual({ text: "Done.", calls: [], usage });
  });

  it("says nothing of tokens where the interface says nothing", async () => {
    await using silent = await serveScript({ protocol, script: () => play(["Hello."]) });
    expect(await open(silent.address).say("Hello?", signal)).toEqual({ text: "Hello.", calls: [], usage: null });
  });

  it("names what the interface said of a wrong key, which no other conversation cures", async () => {
    const failed = open({ apiKey: "wrong" }).say("Copy a.", signal);
    await expect(failed).rejects.toThrow(/^the model's interface failed: 401 .*not the key/);
    await expect(failed).rejects.toMatchObject({ isRefusal: false });
  });

  it("names what the interface refused: a tool's name, a recording that wants what nobody said", async () => {
    const named = open({}, [{ name: "a tool", description: "", inputSchema: { type: "object" } }]);
    await expect(named.say("Copy a.", signal)).rejects.toThrow(/400 .*name/s);
    const conversation = open();
    const { calls } = await conversation.say("Copy a.", signal);
    await conversation.answer([{ id: calls[0]?.id ?? "", text: "{}", isError: false }], signal);
    const failed = conversation.say("Yes.", signal);
    await expect(failed).rejects.toThrow(ModelFailed);
    await expect(failed).rejects.toThrow(/400 .*the recording wants \$\.mapping\.id, which no answer has/);
    await expect(failed).rejects.toMatchObject({ isRefusal: true });
  });

  it("ends a request when the caller's signal says so", async () => {
    await expect(open().say("Copy a.", AbortSignal.abort())).rejects.not.toBeInstanceOf(ModelFailed);
  });
});

it("streams the same reply to a client of Anthropic's that asks for it", async () => {
  await using model = await serveScript({ protocol: "anthropic", script: () => play(recording) });
  const client = new Anthropic({ apiKey: model.address.apiKey, baseURL: model.address.baseUrl });
  const request = {
    model: model.address.model,
    max_tokens: 100,
    system: "You move data.",
    messages: [{ role: "user" as const, content: "Copy a." }],
    tools: tools.map(({ name }) => ({ name, input_schema: { type: "object" as const } })),
  };
  const streamed = await client.messages.stream(request).finalMessage();
  const whole = await client.messages.create(request);
  expect(streamed).toMatchObject({ content: whole.content, stop_reason: "tool_use" });
  expect(streamed.content).toMatchObject([{ name: "es-mcp__bulk_export", input: { index: "a" } }]);
});

it("streams calls to a client of Gemini's, hears answers and failures, and wants each turn's signature back", async () => {
  await using model = await serveWire(geminiWire, { script: () => play(recording) });
  const { baseUrl, apiKey, model: name } = model.address;
  const ask = async (...contents: object[]): Promise<string> => {
    const response = await fetch(`${baseUrl}/v1beta/models/${name}:streamGenerateContent?alt=sse`, {
      method: "POST",
      headers: { "x-goog-api-key": apiKey },
      body: JSON.stringify({
        systemInstruction: { parts: [{ text: "You move data." }] },
        contents: [{ role: "user", parts: [{ text: "Copy a." }] }, ...contents],
        tools: [{ functionDeclarations: [{ name: "mcp_es_bulk_export", description: "A tool." }] }],
      }),
    });
    return await response.text();
  };
  const part = { functionCall: { id: "call_1_0", name: "mcp_es_bulk_export", args: { index: "a" } } };
  const signed = { role: "model", parts: [{ ...part, thoughtSignature: "dGhvdWdodCAx" }] };
  const output = '<untrusted_context>\n{"status":"completed"}\n</untrusted_context>';
  const content = [{ type: "text", text: '{"error":{"code":"busy"}}' }];
  const failure = JSON.stringify([{ functionResponse: { response: { content, isError: true } } }]);

  expect(await ask()).toContain(JSON.stringify(signed.parts));
  expect(await ask(signed, answered({ output }))).toContain("Shall I?");
  expect(await ask(signed, answered({ error: `The tool failed with response: ${failure}` }))).toContain("Shall I?");
  expect(await ask({ role: "model", parts: [part] }, answered({ output }))).toContain("keep its thoughtSignature");
});

function answered(response: object): object {
  return {
    role: "user",
    parts: [{ functionResponse: { id: "call_1_0", name: "mcp_es_bulk_export", response } }],
  };
}
