import type { Operation } from "./operation.ts";

/**
 * How an operation failed, as a word of a bounded set: a code of ours, an SQLSTATE or the name of an error. A message
 * can hold values of rows, and is never told.
 */
export function failureOf({ failure, error }: Operation & { error?: unknown }): string | undefined {
  if (failure !== undefined) return asWord(failure);
  if (error === undefined) return undefined;
  if (typeof error !== "object" || error === null) return "_OTHER";
  if ("code" in error && typeof error.code === "string") return asWord(error.code);
  return error instanceof Error ? asWord(error.name) : "_OTHER";
}

function asWord(text: string): string {
  return /^\w{1,60}$/.test(text) ? text : "_OTHER";
}
