import type { FastWrite } from "./fast.ts";
import { ESCAPED, isSimpleEscape, PLAIN, skipBracketed } from "./scan.ts";

/** What a document of the usual order needs to know of the column that one of its members feeds. */
export interface MemberColumn {
  fast: FastWrite;
  /** Of a text that may go through as it stands: most bytes; null for every other type. */
  textBytesMax: number | null;
  /** COPY text with its TAB for a null, and for a member that is missing; null: the exact conversion must judge it. */
  nullText: Buffer | null;
  missingText: Buffer | null;
}

interface Step {
  /** The member's name with its quotes, as it stands in documents. */
  name: Buffer;
  /** Null where no column reads the member. */
  column: MemberColumn | null;
}

/** Members beyond which a document is no row of a table any more. */
const MEMBERS_MAX = 2_000;
/** A larger document is parsed for nothing but its members' names, and has few like it in a part. */
const LIKE_BYTES_MAX = 1024 * 1024;
/** Bytes of a text that are copied one by one; for more of them a call out of V8 costs less. */
const LOOKED_AT_MAX = 96;
const NULL = Buffer.from("null");
const NO = -1;
const TAB = 9;
const QUOTE = 34;
const COMMA = 44;
const COLON = 58;
const BACKSLASH = 92;
const SPACE = 32;

/** The members of the object at `start`, in their order; undefined where a name is not plain or comes twice. */
export function memberNames(bytes: Buffer, start: number, end: number): string[] | undefined {
  if (end - start > LIKE_BYTES_MAX) return undefined;
  let source: unknown;
  const text = bytes.toString("utf8", start, end);
  try {
    source = JSON.parse(text);
  } catch {
    return undefined;
  }
  if (typeof source !== "object" || source === null || Array.isArray(source)) return undefined;
  const names = Object.keys(source);
  // Names like numbers come first from JSON.parse, wherever they stand; a dot leads into an object.
  const isPlain = names.every((name) => !/^\d|\./.test(name) && JSON.stringify(name) === `"${name}"`);
  return isPlain && names.length <= MEMBERS_MAX ? names : undefined;
}

/**
 * Writes the rows of documents that have their members in one order, each value in one pass over its bytes: nothing is
 * noted down first and copied later. Members may be missing. Whatever is not just so is answered with -1, and the
 * general way begins anew.
 */
export class InOrder {
  /** Most bytes that a document adds to the row beyond twice its own. */
  readonly roomBytes: number;
  readonly #steps: readonly Step[];

  constructor(members: readonly { name: string; column: MemberColumn | null }[]) {
    this.#steps = members.map(({ name, column }) => ({ name: Buffer.from(JSON.stringify(name)), column }));
    const texts = members.map(({ column }) =>
      Math.max(column?.nullText?.length ?? 0, column?.missingText?.length ?? 0),
    );
    this.roomBytes = texts.reduce((sum, bytes) => sum + bytes + 64, 0);
  }

  /** Writes the values of the object at `start`, a TAB behind each; the object's line ends at `end`. */
  write(bytes: Buffer, start: number, end: number, out: Buffer, to: number): number {
    if (bytes[start] !== 123) return NO;
    let p = start + 1;
    let o = to;
    let isFirst = true;
    for (const { name, column } of this.#steps) {
      let q = p;
      if (!isFirst) {
        // The document's end is behind its last member: all others are missing.
        if (bytes[q] === COMMA) q += 1;
        while (bytes[q] === SPACE) q += 1;
      }
      if (!startsWith(bytes, q, name) || bytes[q + name.length] !== COLON) {
        if (column === null) continue;
        if (column.missingText === null) return NO;
        o += column.missingText.copy(out, o);
        continue;
      }
      if (!isFirst && bytes[p] !== COMMA) return NO;
      isFirst = false;
      p = q + name.length + 1;
      while (bytes[p] === SPACE) p += 1;
      const c = bytes[p] ?? 0;
      if (c === QUOTE && column !== null && column.textBytesMax !== null) {
        const first = p + 1;
        // A text's bytes go through as they are, and are looked at on the way.
        for (p = first; ; p += 1) {
          const byte = bytes[p] ?? 0;
          if (byte === QUOTE) break;
          if (p - first >= LOOKED_AT_MAX) {
            const rest = p;
            p = textEnd(bytes, rest);
            if (p < 0 || p >= end) return NO;
            o += bytes.copy(out, o, rest, p);
            break;
          }
          if (byte < 32) return NO;
          out[o++] = byte;
          if (byte === BACKSLASH) {
            p += 1;
            const next = bytes[p] ?? 0;
            if (!isSimpleEscape(next)) return NO;
            out[o++] = next;
          }
        }
        if (p >= end || p - first > column.textBytesMax) return NO;
        p += 1;
        out[o++] = TAB;
        continue;
      }
      const valueStart = p;
      let flag = PLAIN;
      if (c === QUOTE) {
        for (p += 1; bytes[p] !== QUOTE; p += 1) {
          const byte = bytes[p] ?? 0;
          if (byte < 32) return NO;
          if (byte !== BACKSLASH) continue;
          flag = ESCAPED;
          p += 1;
          if (!isSimpleEscape(bytes[p] ?? 0)) return NO;
        }
        p += 1;
      } else if (c === 91 || c === 123) {
        p = skipBracketed(bytes, p, end);
        if (p < 0) return NO;
      } else {
        for (let byte = c; isOfToken(byte); byte = bytes[p] ?? 0) p += 1;
        if (p === valueStart) return NO;
      }
      if (p >= end) return NO;
      if (column === null) continue;
      if (c === 110) {
        if (column.nullText === null || p - valueStart !== 4 || !startsWith(bytes, valueStart, NULL)) return NO;
        o += column.nullText.copy(out, o);
        continue;
      }
      o = column.fast(bytes, valueStart, p, flag, out, o);
      if (o < 0) return NO;
      out[o++] = TAB;
    }
    // Behind the document's own bracket is the line's.
    return bytes[p] === 125 && bytes[p + 1] === 125 && p + 2 === end ? o : NO;
  }
}

/** The position of the quote that ends a text, from somewhere inside of it; -1 where the text is not plain. */
function textEnd(bytes: Buffer, start: number): number {
  for (let p = start; ; p += 1) {
    const byte = bytes[p] ?? 0;
    if (byte === QUOTE) return p;
    if (byte < 32) return NO;
    if (byte !== BACKSLASH) continue;
    p += 1;
    if (!isSimpleEscape(bytes[p] ?? 0)) return NO;
  }
}

function startsWith(bytes: Buffer, at: number, expected: Buffer): boolean {
  const { length } = expected;
  for (let i = 0; i < length; i += 1) if (bytes[at + i] !== expected[i]) return false;
  return true;
}

/** Of numbers, and of the words true, false and null. */
function isOfToken(c: number): boolean {
  return (c >= 48 && c <= 57) || (c >= 97 && c <= 122) || c === 46 || c === 45 || c === 43 || c === 69;
}
