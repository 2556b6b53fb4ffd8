import { expect, test, vi } from "vitest";
import { z } from "zod";
import { callTool } from "./call.ts";
import { Cursors } from "./cursor.ts";
import { createLogger } from "./log.ts";
import { type ToolCall, toolsFor } from "./tool.ts";
import { ToolError } from "./tool-error.ts";

interface Context {
  answer: () => { text: string; more?: number };
}

const tool = toolsFor<Context>()({
  name: "answer",
  title: "Answer",
  description: "Answers.",
  input: z.strictObject({ size: z.int().optional() }),
  output: z.object({ text: z.string() }),
  annotations: { readOnlyHint: true, destructiveHint: false, idempotentHint: true, openWorldHint: false },
  handler: async (_params, { answer }) => answer(),
});

function translate(error: unknown): ToolError | undefined {
  return error instanceof RangeError ? new ToolError("out_of_range", "Too far.") : undefined;
}

function callUntil(signal: AbortSignal): ToolCall {
  return { signal, progress: vi.fn<ToolCall["progress"]>(), cursors: new Cursors() };
}

function run(
  answer: Context["answer"],
  options: { given?: unknown; structuredOutput?: boolean; call?: ToolCall } = {},
) {
  const written: string[] = [];
  const logger = createLogger({ level: "info", write: (line) => written.push(line) });
  const call = options.call ?? callUntil(new AbortController().signal);
  const structuredOutput = options.structuredOutput ?? true;
  const result = callTool(tool, options.given ?? {}, call, {
    context: { answer },
    caller: { name: "a client\u202e", version: "1" },
    structuredOutput,
    logger,
    translate,
  });
  return { result, written };
}

async function errorOf(answer: Context["answer"], options?: Parameters<typeof run>[1]) {
  const { content, isError, structuredContent } = await run(answer, options).result;
  expect(isError).toBe(true);
  expect(structuredContent).toBeUndefined();
  return JSON.parse(content[0].text).error;
}

function quiet() {
  return createLogger({ level: "error", write: () => {} });
}

function throwing(error: Error) {
  return () => {
    throw error;
  };
}

test("answers with compact JSON and the same as structured content", async () => {
  const { result } = run(() => ({ text: "a" }));
  expect(await result).toEqual({ content: [{ type: "text", text: '{"text":"a"}' }], structuredContent: { text: "a" } });
});

test("answers with text alone where structured output is off", async () => {
  const { result } = run(() => ({ text: "a" }), { structuredOutput: false });
  expect(await result).toEqual({ content: [{ type: "text", text: '{"text":"a"}' }] });
});

test("leaves out what the output schema does not name", async () => {
  const { result } = run(() => ({ text: "a", more: 1 }));
  expect((await result).structuredContent).toEqual({ text: "a" });
});

test("answers an expected failure with all that it says", async () => {
  const error = new ToolError("index_not_found", "There is no index x.", {
    retryable: true,
    next: "Call list_indices.",
    details: { nearest: ["y"], code: "never this one" },
  });
  expect(await errorOf(throwing(error))).toEqual({
    code: "index_not_found",
    message: "There is no index x.",
    retryable: true,
    next: "Call list_indices.",
    nearest: ["y"],
  });
});

test("shows the corrected call where the failure says how it would have been right", async () => {
  const given = { size: 5 };
  const example = async (options: ConstructorParameters<typeof ToolError>[2]) =>
    (await errorOf(throwing(new ToolError("x", "No.", options)), { given })).example;
  expect(await example({ instead: { arguments: { size: 3 } } })).toEqual({ tool: "answer", arguments: { size: 3 } });
  expect(await example({ instead: { arguments: { size: undefined } } })).toEqual({ tool: "answer", arguments: {} });
  expect(await example({ instead: { tool: "other", arguments: { a: 1 } } })).toEqual({
    tool: "other",
    arguments: { a: 1 },
  });
  // What the tool itself would refuse is no example.
  expect(await example({ instead: { arguments: { size: "many" } } })).toBeUndefined();
  expect(await example({ instead: { tool: "other", arguments: { a: "x".repeat(2_000) } } })).toBeUndefined();
  expect((await errorOf(() => ({ text: "a" }), { given: { sise: 1 } })).example).toEqual({
    tool: "answer",
    arguments: { size: 1 },
  });
});

test("puts the nearest name in place of the wrong one, wherever it stands by itself", async () => {
  const named = {
    ...tool,
    input: z.strictObject({ index: z.string(), query: z.record(z.string(), z.unknown()) }),
    handler: async (_params: unknown, { answer }: Context) => answer(),
  };
  const error = new ToolError("unknown_field", "No.", { details: { field: "titel", nearest: ["title", "tile"] } });
  const given = { index: "titel_2", query: { match: { titel: "a titel" } } };
  const boundary = { context: { answer: throwing(error) }, structuredOutput: true, logger: quiet() };
  const call = callUntil(new AbortController().signal);
  const { content } = await callTool(named, given, call, boundary);
  expect(JSON.parse(content[0].text).error.example.arguments).toEqual({
    index: "titel_2",
    query: { match: { title: "a titel" } },
  });
});

test("answers wrong arguments without running the handler", async () => {
  const answer = vi.fn<Context["answer"]>(() => ({ text: "a" }));
  expect(await errorOf(answer, { given: { sise: 1 } })).toMatchObject({ code: "invalid_arguments" });
  expect(answer).not.toHaveBeenCalled();
});

test("translates what a driver threw", async () => {
  expect(await errorOf(throwing(new RangeError("x")))).toMatchObject({ code: "out_of_range", message: "Too far." });
});

test("tells nothing of a bug but to the log", async () => {
  const { result, written } = run(throwing(new TypeError("inner secret")));
  const { text } = (await result).content[0];
  expect(JSON.parse(text).error.code).toBe("internal_error");
  expect(text).not.toContain("inner secret");
  expect(written.join("")).toContain("inner secret");
});

test("calls a failure after the caller has gone away what it is", async () => {
  const call = callUntil(AbortSignal.abort());
  expect(await errorOf(throwing(new Error("aborted")), { call })).toMatchObject({ code: "call_cancelled" });
});

test("refuses to give out an answer beyond the limit", async () => {
  expect(await errorOf(() => ({ text: "é".repeat(13_000) }))).toMatchObject({ code: "answer_too_large" });
});

test("keeps an error within the limit too", async () => {
  const error = new ToolError("x", "m".repeat(50_000), { details: { list: ["d".repeat(50_000)] } });
  const { content } = await run(throwing(error)).result;
  expect(Buffer.byteLength(content[0].text)).toBeLessThan(3000);
});

test.each([
  "invalid token",
  "Invalid_Token",
  "token expired",
  "expired token",
  "token_expired",
  "invalid bearer",
  'bearer realm="x"',
])("breaks the phrase %s, which a host would take for its own login", async (phrase) => {
  const { content } = await run(throwing(new ToolError("x", `says ${phrase} here`))).result;
  expect(content[0].text.toLowerCase()).not.toContain(phrase.toLowerCase().replaceAll('"', '\\"'));
});

test("shows no password of an address", async () => {
  const { content } = await run(throwing(new ToolError("x", "no postgres://me:geheim@db:5432"))).result;
  expect(content[0].text).toContain("postgres://me:***@db:5432");
});

test("leaves one line of audit for a call that was answered, and for one that failed", async () => {
  const answered = run(() => ({ text: "a" }), { given: { size: 1 } });
  await answered.result;
  const failed = run(throwing(new ToolError("index_not_found", "There is no index x.")), { given: { size: 1 } });
  await failed.result;
  const lines = [answered, failed].map(({ written }) => written.map((line) => JSON.parse(line)));
  expect(lines).toMatchObject([
    [{ event: "tool_call", tool: "answer", caller: "a client\\u202e 1", outcome: "ok", bytes: 12 }],
    [{ event: "tool_call", tool: "answer", outcome: "index_not_found" }],
  ]);
  expect(lines[0]?.[0].arguments).toMatch(/^[0-9a-f]{16}$/);
  expect(lines[1]?.[0].arguments).toBe(lines[0]?.[0].arguments);
});

test("keeps the arguments' values out of the audit", async () => {
  const { result, written } = run(() => ({ text: "a" }), { given: { size: 1, password: "geheim" } });
  await result;
  expect(written.join("")).not.toContain("geheim");
});

test("refuses arguments that are nested deeper than the stack, and leaves its line all the same", async () => {
  const given: unknown = JSON.parse(`${'{"a":'.repeat(50_000)}1${"}".repeat(50_000)}`);
  const answer = vi.fn<Context["answer"]>(() => ({ text: "a" }));
  const { result, written } = run(answer, { given });
  const { content } = await result;
  expect(JSON.parse(content[0].text).error).toMatchObject({ code: "invalid_arguments" });
  expect(answer).not.toHaveBeenCalled();
  expect(written.map((line) => JSON.parse(line))).toMatchObject([
    { event: "tool_call", outcome: "invalid_arguments", arguments: null },
  ]);
});

test("gives equal arguments one digest, whatever the order of their members", async () => {
  const digests = await Promise.all(
    [
      { size: 1, deep: { a: 1, b: [1, 2] } },
      { deep: { b: [1, 2], a: 1 }, size: 1 },
      { size: 1, deep: { a: 1, b: [2, 1] } },
    ].map(async (given) => {
      const { result, written } = run(() => ({ text: "a" }), { given });
      await result;
      return JSON.parse(written[0] ?? "").arguments;
    }),
  );
  expect(digests[1]).toBe(digests[0]);
  expect(digests[2]).not.toBe(digests[0]);
});

test("is forged by no name that a caller gives itself or an argument", async () => {
  const written: string[] = [];
  const logger = createLogger({ level: "info", write: (line) => written.push(line) });
  const forged = '\n{"event":"tool_call","tool":"drop","outcome":"ok"}\u2028\u001b[1A';
  await callTool(tool, { [forged]: forged }, callUntil(new AbortController().signal), {
    context: { answer: () => ({ text: "a" }) },
    caller: { name: forged, version: forged },
    structuredOutput: true,
    logger,
  });
  expect(written).toHaveLength(1);
  expect(written[0]?.trimEnd()).toMatch(/^[\x20-\x7e…]+$/);
  expect(JSON.parse(written[0] ?? "")).toMatchObject({ tool: "answer", outcome: "invalid_arguments" });
});
