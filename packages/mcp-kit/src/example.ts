import { meant } from "./meant.ts";
import type { AnyTool } from "./tool.ts";
import type { ToolError } from "./tool-error.ts";

/** A call that a model can make as it stands. */
export interface Example {
  tool: string;
  arguments: Record<string, unknown>;
}

/** Largest call that is worth its tokens, in characters of JSON. */
const EXAMPLE_CHARACTERS_MAX = 1_500;

/** Details that say which of the caller's own words was wrong, the most telling first. */
const WRONG_NAMES = ["field", "column", "type", "index", "reason", "schema"] as const;

/**
 * The failed call as it would have been right: with what the error says should be different, or with the nearest name in
 * place of the wrong one. Undefined where that cannot be told, is too long, or would not pass the tool's own schema.
 */
export function exampleOf<Context>(error: ToolError, tool: AnyTool<Context>, given: unknown): Example | undefined {
  const example = correctedCall(error, tool, given);
  if (example === undefined || JSON.stringify(example).length > EXAMPLE_CHARACTERS_MAX) return undefined;
  return example.tool !== tool.name || tool.input.safeParse(example.arguments).success ? example : undefined;
}

function correctedCall<Context>(error: ToolError, tool: AnyTool<Context>, given: unknown): Example | undefined {
  const { instead, details } = error;
  if (instead?.tool !== undefined) return { tool: instead.tool, arguments: instead.arguments };
  // Which table a call that writes was meant for is not to be guessed.
  if (error.code === "table_not_found" && !tool.annotations.readOnlyHint) return undefined;
  const own = record(meant(tool.input, given ?? {}, 0));
  if (instead !== undefined) {
    const kept = Object.entries({ ...own, ...instead.arguments }).filter(([, value]) => value !== undefined);
    return { tool: tool.name, arguments: Object.fromEntries(kept) };
  }
  const near: unknown = Array.isArray(details["nearest"]) ? details["nearest"][0] : undefined;
  if (typeof near !== "string") return undefined;
  for (const wrong of WRONG_NAMES.map((name) => details[name])) {
    if (typeof wrong !== "string" || near === wrong) continue;
    const corrected = renamed(own, wrong, near);
    if (JSON.stringify(corrected) !== JSON.stringify(own)) return { tool: tool.name, arguments: record(corrected) };
  }
  return undefined;
}

/** The value with one name in place of another, wherever it stands by itself, or in a sort such as `name:desc`. */
function renamed(value: unknown, from: string, to: string): unknown {
  if (value === from) return to;
  if (typeof value === "string" && value.startsWith(`${from}:`)) return `${to}${value.slice(from.length)}`;
  if (Array.isArray(value)) return value.map((item) => renamed(item, from, to));
  if (typeof value !== "object" || value === null) return value;
  return Object.fromEntries(
    Object.entries(value).map(([key, member]) => [key === from ? to : key, renamed(member, from, to)]),
  );
}

function record(value: unknown): Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value) ? { ...value } : {};
}
