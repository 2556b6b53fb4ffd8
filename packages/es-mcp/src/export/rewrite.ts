import { matchesWildcard } from "../elasticsearch/wildcard.ts";
import { decodeString } from "./profile.ts";
import { ScanError, skipComment } from "./scan.ts";

const QUOTE = 0x22;
const BACKSLASH = 0x5c;
const SLASH = 0x2f;
const OPEN_BRACE = 0x7b;
const CLOSE_BRACE = 0x7d;
const OPEN_BRACKET = 0x5b;
const CLOSE_BRACKET = 0x5d;
const COMMA = 0x2c;
const COLON = 0x3a;

/** Position after the string whose opening quote is at `start`, in a document that was scanned before. */
function stringEnd(bytes: Buffer, start: number): number {
  let at = start + 1;
  for (; bytes[at] !== QUOTE; at++) {
    if (bytes[at] === BACKSLASH) at++;
    if (at >= bytes.length) throw new ScanError("a string does not end", at);
  }
  return at + 1;
}

/**
 * Copies a scanned document without the white space, comments and byte order mark around its tokens; every token
 * keeps its bytes. Returns the position in `target` after the copy.
 */
export function compactDocument(
  bytes: Buffer,
  start: number,
  end: number,
  target: Buffer,
  targetStart: number,
): number {
  let at = start;
  let to = targetStart;
  if (bytes[at] === 0xef) at += 3;
  while (at < end) {
    const byte = bytes[at] ?? 0;
    if (byte === QUOTE) {
      const stop = stringEnd(bytes, at);
      bytes.copy(target, to, at, stop);
      to += stop - at;
      at = stop;
    } else if (byte <= 0x20) at++;
    else if (byte === SLASH) at = skipComment(bytes, at, end);
    else {
      target[to++] = byte;
      at++;
    }
  }
  return to;
}

/** Which paths an export keeps: a dotted path keeps all beneath it, and `*` stands for any characters. */
export class FieldSelection {
  readonly #patterns: string[];
  readonly #segments: { exact: string; open: boolean }[];
  readonly #known = new Map<string, Verdict>();

  constructor(fields: readonly string[]) {
    this.#patterns = fields.flatMap((field) => [field, `${field}.*`]);
    // What stands before the first star: a path can lead to a match only if the two agree as far as both go.
    this.#segments = fields.map((field) => {
      const star = field.indexOf("*");
      return { exact: star < 0 ? field : field.slice(0, star), open: star >= 0 };
    });
  }

  /** Whether the value at a path is kept whole, may hold something that is kept, or is dropped. */
  judge(path: string): Verdict {
    const known = this.#known.get(path);
    if (known !== undefined) return known;
    let verdict: Verdict = "dropped";
    if (this.#patterns.some((pattern) => matchesWildcard(pattern, path))) verdict = "kept";
    else if (
      this.#segments.some(({ exact, open }) => exact.startsWith(`${path}.`) || (open && `${path}.`.startsWith(exact)))
    ) {
      verdict = "searched";
    }
    if (this.#known.size < KNOWN_PATHS_MAX) this.#known.set(path, verdict);
    return verdict;
  }
}

type Verdict = "kept" | "searched" | "dropped";

/** Verdicts remembered. It bounds memory where keys are data. */
const KNOWN_PATHS_MAX = 10_000;

/**
 * Copies what a selection keeps of a scanned document, compacted; kept values keep their bytes. Objects of which
 * nothing is kept disappear, as in Elasticsearch. Returns the position in `target` after the copy.
 */
export function cutDocument(
  bytes: Buffer,
  start: number,
  end: number,
  selection: FieldSelection,
  target: Buffer,
  targetStart: number,
): number {
  const cutter = new Cutter(bytes, end, selection, target, targetStart);
  return cutter.document(bytes[start] === 0xef ? start + 3 : start);
}

class Cutter {
  readonly #bytes: Buffer;
  readonly #end: number;
  readonly #selection: FieldSelection;
  readonly #target: Buffer;
  #to: number;

  constructor(bytes: Buffer, end: number, selection: FieldSelection, target: Buffer, targetStart: number) {
    this.#bytes = bytes;
    this.#end = end;
    this.#selection = selection;
    this.#target = target;
    this.#to = targetStart;
  }

  document(start: number): number {
    const documentStart = this.#to;
    this.#object(this.#space(start), "");
    if (this.#to === documentStart) {
      this.#target[this.#to++] = OPEN_BRACE;
      this.#target[this.#to++] = CLOSE_BRACE;
    }
    return this.#to;
  }

  #space(start: number): number {
    let at = start;
    for (;;) {
      const byte = this.#bytes[at] ?? 0xff;
      if (byte <= 0x20) at++;
      else if (byte === SLASH) at = skipComment(this.#bytes, at, this.#end);
      else return at;
    }
  }

  /** Writes what is kept of the object at `start`, nothing if nothing is, and returns the position after it. */
  #object(start: number, prefix: string): number {
    const objectStart = this.#to;
    this.#target[this.#to++] = OPEN_BRACE;
    let written = 0;
    let at = this.#space(start + 1);
    while (this.#bytes[at] !== CLOSE_BRACE) {
      if (this.#bytes[at] === COMMA) at = this.#space(at + 1);
      const keyStart = at;
      const keyEnd = stringEnd(this.#bytes, keyStart);
      const name = decodeString(this.#bytes, keyStart + 1, keyEnd - 1, true);
      const path = prefix === "" ? name : `${prefix}.${name}`;
      at = this.#space(keyEnd);
      if (this.#bytes[at] !== COLON) throw new ScanError("a key is not followed by a colon", at);
      at = this.#space(at + 1);
      const memberStart = this.#to;
      if (written > 0) this.#target[this.#to++] = COMMA;
      this.#to += this.#bytes.copy(this.#target, this.#to, keyStart, keyEnd);
      this.#target[this.#to++] = COLON;
      const valueStart = this.#to;
      at = this.#value(at, path, this.#selection.judge(path));
      if (this.#to === valueStart) this.#to = memberStart;
      else written++;
      at = this.#space(at);
    }
    if (written === 0) this.#to = objectStart;
    else this.#target[this.#to++] = CLOSE_BRACE;
    return at + 1;
  }

  #array(start: number, path: string): number {
    const arrayStart = this.#to;
    this.#target[this.#to++] = OPEN_BRACKET;
    let written = 0;
    let at = this.#space(start + 1);
    while (this.#bytes[at] !== CLOSE_BRACKET) {
      if (this.#bytes[at] === COMMA) at = this.#space(at + 1);
      const elementStart = this.#to;
      if (written > 0) this.#target[this.#to++] = COMMA;
      const valueStart = this.#to;
      at = this.#value(at, path, "searched");
      if (this.#to === valueStart) this.#to = elementStart;
      else written++;
      at = this.#space(at);
    }
    if (written === 0) this.#to = arrayStart;
    else this.#target[this.#to++] = CLOSE_BRACKET;
    return at + 1;
  }

  #value(start: number, path: string, verdict: Verdict): number {
    if (verdict === "searched") {
      if (this.#bytes[start] === OPEN_BRACE) return this.#object(start, path);
      if (this.#bytes[start] === OPEN_BRACKET) return this.#array(start, path);
    }
    const end = this.#valueEnd(start);
    if (verdict === "kept") this.#to = compactDocument(this.#bytes, start, end, this.#target, this.#to);
    return end;
  }

  #valueEnd(start: number): number {
    let depth = 0;
    let at = start;
    for (;;) {
      const byte = this.#bytes[at];
      if (byte === QUOTE) {
        at = stringEnd(this.#bytes, at);
        if (depth === 0) return at;
      } else if (byte === OPEN_BRACE || byte === OPEN_BRACKET) {
        depth++;
        at++;
      } else if (byte === CLOSE_BRACE || byte === CLOSE_BRACKET) {
        if (depth === 0) return at;
        at++;
        if (--depth === 0) return at;
      } else if (byte === COMMA || (byte ?? 0) <= 0x20) {
        if (depth === 0) return at;
        at++;
      } else if (byte === SLASH) {
        if (depth === 0) return at;
        at = skipComment(this.#bytes, at, this.#end);
      } else at++;
      if (at > this.#end) throw new ScanError("a value does not end", at);
    }
  }
}
