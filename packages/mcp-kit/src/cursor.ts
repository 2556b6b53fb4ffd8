import type { z } from "zod";
import { digest } from "./digest.ts";
import { ToolError } from "./tool-error.ts";

/** What a cursor belongs to: a page of one tool's answer to one set of arguments (`cursor` itself is not counted). */
export interface CursorScope {
  tool: string;
  arguments: unknown;
}

/** Longest cursor that is looked at, in characters. */
const CURSOR_LENGTH_MAX = 16_384;

/** An opaque text from which the same call goes on at `position`. */
export function encodeCursor(scope: CursorScope, position: unknown): string {
  return Buffer.from(JSON.stringify([binding(scope, position), position])).toString("base64url");
}

/** The position in a cursor that `encodeCursor` made for the same tool and arguments; `invalid_cursor` for any other text. */
export function decodeCursor<S extends z.ZodType>(scope: CursorScope, cursor: string, position: S): z.output<S> {
  const content = readContent(cursor);
  if (content === undefined) {
    throw invalidCursor("The cursor is not one that this tool gave out.");
  }
  const [bound, value] = content;
  if (bound !== binding(scope, value)) {
    throw invalidCursor("The cursor belongs to a call with other arguments, or has been changed.");
  }
  const parsed = position.safeParse(value);
  if (!parsed.success) throw invalidCursor("The cursor is not one that this tool gave out.");
  return parsed.data;
}

function readContent(cursor: string): [string, unknown] | undefined {
  if (cursor.length > CURSOR_LENGTH_MAX) return undefined;
  try {
    const content: unknown = JSON.parse(Buffer.from(cursor, "base64url").toString("utf8"));
    return Array.isArray(content) && content.length === 2 && typeof content[0] === "string"
      ? [content[0], content[1]]
      : undefined;
  } catch {
    return undefined;
  }
}

/**
 * Ties a cursor to its call and to what it holds, so that a model cannot make one up or amend it. It keeps no attacker
 * out, who could compute it too: a position holds nothing that a caller may not ask for.
 */
function binding(scope: CursorScope, position: unknown): string {
  const { arguments: given } = scope;
  const counted = typeof given === "object" && given !== null ? { ...given, cursor: undefined } : given;
  return digest([scope.tool, counted, position]).slice(0, 16);
}

function invalidCursor(message: string): ToolError {
  return new ToolError("invalid_cursor", message, {
    next: "Repeat the call that gave the cursor with the same arguments, or call without cursor to start over.",
  });
}
