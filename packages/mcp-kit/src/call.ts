import { ANSWER_BYTES_MAX, clip, visibleJson } from "./answer.ts";
import { readArguments } from "./arguments.ts";
import type { Logger } from "./log.ts";
import { withoutHostPhrases, withoutPasswords } from "./redact.ts";
import type { AnyTool, ToolCall } from "./tool.ts";
import { ToolError } from "./tool-error.ts";

/** Longest message of an error, in characters: a driver may quote a whole statement back. */
const MESSAGE_CHARACTERS_MAX = 2000;

/** What a tool call comes back with. */
export interface ToolResult {
  content: [{ type: "text"; text: string }];
  structuredContent?: Record<string, unknown>;
  isError?: true;
}

/** What the boundary needs to know of a server, besides the tool. */
export interface Boundary<Context> {
  context: Context;
  structuredOutput: boolean;
  logger: Logger;
  /** Makes an expected failure of what a domain or a driver threw; undefined for a programmer's error. */
  translate?: ((error: unknown) => ToolError | undefined) | undefined;
}

/**
 * The boundary around every tool: checks the arguments, runs the handler, and turns its answer, or whatever it throws,
 * into a result. Nothing else in a server catches to report.
 */
export async function callTool<Context>(
  tool: AnyTool<Context>,
  given: unknown,
  call: ToolCall,
  boundary: Boundary<Context>,
): Promise<ToolResult> {
  const startedAt = performance.now();
  const result = await run(tool, given, call, boundary);
  boundary.logger.debug("tool_call", {
    tool: tool.name,
    durationMs: Math.round(performance.now() - startedAt),
    ok: result.isError !== true,
    bytes: Buffer.byteLength(result.content[0].text),
  });
  return result;
}

async function run<Context>(
  tool: AnyTool<Context>,
  given: unknown,
  call: ToolCall,
  boundary: Boundary<Context>,
): Promise<ToolResult> {
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
    return {
      content: [{ type: "text", text }],
      ...(boundary.structuredOutput ? { structuredContent: answer } : {}),
    };
  } catch (error) {
    return errorResult(expected(error, tool.name, call, boundary));
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
function errorResult(error: ToolError): ToolResult {
  const { code, retryable, next, details } = error;
  const short = {
    code,
    message: clip(error.message, MESSAGE_CHARACTERS_MAX),
    retryable,
    ...(next === undefined ? {} : { next: clip(next, MESSAGE_CHARACTERS_MAX) }),
  };
  let text = visibleJson({ error: { ...short, ...details, ...short } });
  if (Buffer.byteLength(text) > ANSWER_BYTES_MAX) text = visibleJson({ error: short });
  return { content: [{ type: "text", text: withoutHostPhrases(withoutPasswords(text)) }], isError: true };
}
