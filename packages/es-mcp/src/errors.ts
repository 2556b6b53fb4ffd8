import { ToolError } from "@es-to-pg/mcp-kit";
import { StagingError } from "@es-to-pg/staging";

/** The `ToolError` of an expected failure below the tools; undefined for a programmer's error. */
export function translateError(error: unknown): ToolError | undefined {
  if (!(error instanceof StagingError)) return undefined;
  const { code, message, retryable, next, details } = error;
  return new ToolError(code, message, { retryable, ...(next === undefined ? {} : { next }), details, cause: error });
}
