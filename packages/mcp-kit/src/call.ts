import { ANSWER_BYTES_MAX, clip, visibleJson } from "./answer.ts";
import { readArguments } from "./arguments.ts";
import { digest } from "./digest.ts";
import { type Example, exampleOf } from "./example.ts";
import type { Logger } from "./log.ts";
import { QuestionOpen } from "./question.ts";
import { withoutHostPhrases, withoutPasswords } from "./redact.ts";
import { toolErrors } from "./telemetry/instruments.ts";
import { traced } from "./telemetry/operation.ts";
import { callOperation, type RequestOrigin } from "./telemetry/request.ts";
import type { AnyTool, ToolCall } from "./tool.ts";
import { ToolError } from "./tool-error.ts";

/** Longest message of an error, in characters: a driver may quote a whole statement back. */
const MESSAGE_CHARACTERS_MAX = 2000;

/** Longest name of a caller in a log line, and digits of the arguments' digest: enough to tell calls apart. */
const CALLER_CHARACTERS_MAX = 100;
const DIGEST_DIGITS = 16;

/** What a tool call comes back with. */
export interface ToolResult {
  content: [{ type: "text"; text: string }];
  structuredContent?: Record<string, unknown>;
  isError?: true;
}

/** Who calls, as the client names itself. */
export interface Caller {
  name: string;
  version: string;
}

/** What the boundary needs to know of a server, besides the tool. */
export interface Boundary<Context> {
  context: Context;
  caller?: Caller | undefined;
  /** The request that the tool answers; a call that came by none has no span. */
  origin?: RequestOrigin | undefined;
  structuredOutput: boolean;
  logger: Logger;
  /** Makes an expected failure of what a domain or a driver threw; undefined for a programmer's error. */
  translate?: ((error: unknown) => ToolError | undefined) | undefined;
}

/**
 * The boundary around every tool: checks the arguments, runs the handler, and turns its answer, or whatever it throws,
 * into a result. Nothing else in a server catches to report. Every call leaves one line in the log, the audit. Throws
 * `QuestionOpen` where a person is to be asked first.
 */
export async function callTool<Context>(
  tool: AnyTool<Context>,
  given: unknown,
  call: ToolCall,
  boundary: Boundary<Context>,
): Promise<ToolResult> {
  const { result } = await observed(tool, given, call, boundary);
  if (result instanceof QuestionOpen) throw result;
  return result;
}

/** The call as telemetry sees it. A question to a person is no failure. */
async function observed<Context>(
  tool: AnyTool<Context>,
  given: unknown,
  call: ToolCall,
  boundary: Boundary<Context>,
): Promise<Done> {
  const { origin } = boundary;
  if (origin === undefined) return await audited(tool, given, call, boundary);
  return await traced(callOperation(tool.name, origin), async (operation) => {
    const done = await audited(tool, given, call, boundary);
    if (!(done.result instanceof QuestionOpen) && done.result.isError === true) {
      operation.failure = "tool_error";
      operation.attributes["etl.error.code"] = done.outcome;
      toolErrors.add(1, { "gen_ai.tool.name": tool.name, code: done.outcome });
    }
    return done;
  });
}

/** The call with its line in the log. */
async function audited<Context>(
  tool: AnyTool<Context>,
  given: unknown,
  call: ToolCall,
  boundary: Boundary<Context>,
): Promise<Done> {
  const startedAt = performance.now();
  const done = await run(tool, given, call, boundary);
  const { result, outcome, rows } = done;
  const { caller } = boundary;
  boundary.logger.info("tool_call", {
    tool: tool.name,
    caller: caller === undefined ? null : clip(`${caller.name} ${caller.version}`, CALLER_CHARACTERS_MAX),
    // The arguments themselves may hold what no log should: values of rows, and what a model was told.
    arguments: digestOf(given),
    outcome,
    ...(rows === undefined ? {} : { rows }),
    durationMs: Math.round(performance.now() - startedAt),
    bytes: result instanceof QuestionOpen ? 0 : Buffer.byteLength(result.content[0].text),
  });
  return done;
}

/** Null where arguments are nested deeper than the stack, which no tool was run with: the call leaves its line all the same. */
function digestOf(given: unknown): string | null {
  try {
    return digest(given ?? {}).slice(0, DIGEST_DIGITS);
  } catch (error) {
    if (error instanceof RangeError) return null;
    throw error;
  }
}

/** What a call came to, for the audit besides the caller. */
interface Done {
  result: ToolResult | QuestionOpen;
  /** `ok`, or the code of the failure. */
  outcome: string;
  rows?: number | undefined;
}

/** Fields of answers that count what was read or written, the most telling first. */
const ROW_FIELDS = ["returned", "staged", "count", "total"];

function rowsOf(answer: object): number | undefined {
  const fields = new Map<string, unknown>(Object.entries(answer));
  for (const name of ROW_FIELDS) {
    const value = fields.get(name);
    if (typeof value === "number") return value;
  }
  return undefined;
}

async function run<Context>(
  tool: AnyTool<Context>,
  given: unknown,
  call: ToolCall,
  boundary: Boundary<Context>,
): Promise<Done> {
  try {
    const params = readArguments(tool, given);
    const answer = tool.output.parse(await tool.handler(params, { ...boundary.context, ...call }));
    const text = visibleJson(answer);
    const bytes = Buffer.byteLength(text);
    if (bytes > ANSWER_BYTES_MAX) {
      boundary.logger.error("answer_too_large", { tool: tool.name, bytes });
      throw new ToolError(
        "answer_too_large",
        `The answer has ${bytes} bytes; at most ${ANSWER_BYTES_MAX} are given out.`,
        {
          next: "Ask for less: fewer fields, a smaller page, a narrower pattern.",
        },
      );
    }
    const result: ToolResult = {
      content: [{ type: "text", text }],
      ...(boundary.structuredOutput ? { structuredContent: answer } : {}),
    };
    return { result, outcome: "ok", rows: rowsOf(answer) };
  } catch (error) {
    if (error instanceof QuestionOpen) return { result: error, outcome: "input_required" };
    const failure = expected(error, tool.name, call, boundary);
    return { result: errorResult(failure, exampleOf(failure, tool, given)), outcome: failure.code };
  }
}

function expected<Context>(error: unknown, tool: string, call: ToolCall, boundary: Boundary<Context>): ToolError {
  if (error instanceof ToolError) return error;
  const translated = boundary.translate?.(error);
  if (translated !== undefined) return translated;
  if (call.signal.aborted) return new ToolError("call_cancelled", "The call was cancelled.", { retryable: true });
  boundary.logger.error("tool_failed", { tool, error });
  return new ToolError("internal_error", `${tool} failed for a reason of its own; the server's log has it.`);
}

/** A failure as the model reads it. The text is made harmless last, so that no field is forgotten. */
function errorResult(error: ToolError, example: Example | undefined): ToolResult {
  const { code, retryable, next, details } = error;
  const short = {
    code,
    message: clip(error.message, MESSAGE_CHARACTERS_MAX),
    retryable,
    ...(next === undefined ? {} : { next: clip(next, MESSAGE_CHARACTERS_MAX) }),
  };
  const shown = example === undefined ? {} : { example };
  let text = visibleJson({ error: { ...short, ...details, ...short, ...shown } });
  if (Buffer.byteLength(text) > ANSWER_BYTES_MAX) text = visibleJson({ error: short });
  return { content: [{ type: "text", text: withoutHostPhrases(withoutPasswords(text)) }], isError: true };
}
