import { createCipheriv, createDecipheriv, createSecretKey, hkdfSync, type KeyObject, randomBytes } from "node:crypto";
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

const CIPHER = "aes-256-gcm";
const NONCE_BYTES = 12;
const TAG_BYTES = 16;

/**
 * Makes and reads cursors: opaque texts from which the same call goes on. A position may hold what no caller may name,
 * such as a snapshot of Elasticsearch, so it is sealed, and bound to its tool and arguments.
 */
export class Cursors {
  readonly #key: KeyObject;

  /** Cursors of processes with the same secret are good in each of them; without one, only in this one. */
  constructor(secret?: string) {
    this.#key = createSecretKey(
      secret === undefined ? randomBytes(32) : Buffer.from(hkdfSync("sha256", secret, "", "cursors", 32)),
    );
  }

  encode(scope: CursorScope, position: unknown): string {
    const nonce = randomBytes(NONCE_BYTES);
    const cipher = createCipheriv(CIPHER, this.#key, nonce, { authTagLength: TAG_BYTES }).setAAD(binding(scope));
    const sealed = Buffer.concat([cipher.update(JSON.stringify(position), "utf8"), cipher.final()]);
    return Buffer.concat([nonce, sealed, cipher.getAuthTag()]).toString("base64url");
  }

  /** The position in a cursor that `encode` made for the same tool and arguments; `invalid_cursor` for any other text. */
  decode<S extends z.ZodType>(scope: CursorScope, cursor: string, position: S): z.output<S> {
    const parsed = position.safeParse(this.#open(scope, cursor));
    if (parsed.success) return parsed.data;
    throw new ToolError(
      "invalid_cursor",
      "The cursor is none that this tool gave out for these arguments, or the server has started anew since.",
      {
        next: "Repeat the call that gave the cursor with the same arguments, or call without cursor to start over.",
        instead: { arguments: { cursor: undefined } },
      },
    );
  }

  #open(scope: CursorScope, cursor: string): unknown {
    if (cursor.length > CURSOR_LENGTH_MAX || !/^[\w-]+$/.test(cursor)) return undefined;
    const bytes = Buffer.from(cursor, "base64url");
    if (bytes.length < NONCE_BYTES + TAG_BYTES) return undefined;
    const decipher = createDecipheriv(CIPHER, this.#key, bytes.subarray(0, NONCE_BYTES), { authTagLength: TAG_BYTES })
      .setAAD(binding(scope))
      .setAuthTag(bytes.subarray(-TAG_BYTES));
    try {
      const opened = decipher.update(bytes.subarray(NONCE_BYTES, -TAG_BYTES));
      return JSON.parse(Buffer.concat([opened, decipher.final()]).toString("utf8"));
    } catch {
      return undefined;
    }
  }
}

function binding({ tool, arguments: given }: CursorScope): Buffer {
  const counted = typeof given === "object" && given !== null ? { ...given, cursor: undefined } : given;
  return Buffer.from(digest([tool, counted]));
}
