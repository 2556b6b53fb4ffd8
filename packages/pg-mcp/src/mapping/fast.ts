import { dateFormat } from "./convert.ts";
import { daysInMonth, readsIso } from "./dates.ts";
import type { PlannedColumn } from "./plan.ts";
import { DECODE, isSimpleEscape, PLAIN } from "./scan.ts";
import type { ValueType } from "./value-type.ts";

/**
 * Writes the COPY text of the value at [start, end) of `bytes` to `out` at `to`, and answers the position after it; -1
 * where the bytes do not match the narrow grammar of review §1a. `out` has room for twice the value and 64 bytes.
 */
export type FastWrite = (bytes: Buffer, start: number, end: number, flag: number, out: Buffer, to: number) => number;

const NO = -1;
const QUOTE = 34;
const BACKSLASH = 92;

/** The fast path of a column, or null where every value is judged by the exact conversion. */
export function compileFast(column: PlannedColumn): FastWrite | null {
  const type = column.valueType;
  const fieldType = column.field?.type;
  if (column.part !== null) return null;
  if (type.kind === "integer" && fieldType === "date_nanos") return null;
  if (type.array) {
    if (column.array === "first" || column.array === "json") return null;
    const element = compileElement(type);
    return element === null ? null : array(element, type.length);
  }
  switch (type.kind) {
    case "text":
      return text(type.length);
    case "integer":
      return integer(safeDigits(type));
    case "numeric":
      return type.precision === null
        ? numeric(1000, 1000)
        : numeric(type.precision - (type.scale ?? 0), type.scale ?? 0);
    case "float":
      return float(type.bits === 24 ? 6 : 15);
    case "boolean":
      return boolean;
    case "timestamptz":
    case "timestamp":
    case "date":
      return compileDate(column, type.kind, type.scale);
    case "json":
      return column.array === "first" ? null : json;
    default:
      return null;
  }
}

type Element = "text" | { kind: "number"; write: FastWrite };

function compileElement(type: ValueType): Element | null {
  switch (type.kind) {
    case "text":
      return "text";
    case "integer":
      return { kind: "number", write: integer(safeDigits(type)) };
    case "numeric":
      return {
        kind: "number",
        write:
          type.precision === null ? numeric(1000, 1000) : numeric(type.precision - (type.scale ?? 0), type.scale ?? 0),
      };
    case "float":
      return { kind: "number", write: float(type.bits === 24 ? 6 : 15) };
    default:
      return null;
  }
}

/** Digits of which every number is in range. */
function safeDigits(type: ValueType): number {
  return type.bits === 16 ? 4 : type.bits === 32 ? 9 : 18;
}

/** Copies bytes, and answers the position after them; for few of them a loop costs less than a call out of V8. */
export function copyBytes(bytes: Buffer, start: number, end: number, out: Buffer, to: number): number {
  const length = end - start;
  if (length > 48) return to + bytes.copy(out, to, start, end);
  for (let i = 0; i < length; i += 1) out[to + i] = bytes[start + i] ?? 0;
  return to + length;
}

/** JSON's simple escapes mean the same in COPY text, so a string's bytes go through as they are. */
function text(lengthMax: number | null): FastWrite {
  return (bytes, start, end, flag, out, to) => {
    const c = bytes[start] ?? 0;
    if (c === QUOTE) {
      // Bytes are at least as many as characters.
      if (flag === DECODE || (lengthMax !== null && end - start - 2 > lengthMax)) return NO;
      return copyBytes(bytes, start + 1, end - 1, out, to);
    }
    if (c === 45 || (c >= 48 && c <= 57)) {
      if ((lengthMax !== null && end - start > lengthMax) || !isNumber(bytes, start, end)) return NO;
      return copyBytes(bytes, start, end, out, to);
    }
    if (lengthMax !== null && lengthMax < 5) return NO;
    return boolean(bytes, start, end, flag, out, to);
  };
}

const boolean: FastWrite = (bytes, start, end, _flag, out, to) => {
  const isTrue =
    end - start === 4 &&
    bytes[start] === 116 &&
    bytes[start + 1] === 114 &&
    bytes[start + 2] === 117 &&
    bytes[start + 3] === 101;
  const isFalse =
    end - start === 5 &&
    bytes[start] === 102 &&
    bytes[start + 1] === 97 &&
    bytes[start + 2] === 108 &&
    bytes[start + 3] === 115 &&
    bytes[start + 4] === 101;
  return isTrue || isFalse ? copyBytes(bytes, start, end, out, to) : NO;
};

/** A number token of JSON's grammar; in texts its bytes are kept. */
function isNumber(bytes: Buffer, start: number, end: number): boolean {
  let p = start;
  if (bytes[p] === 45) p += 1;
  const first = p;
  p = digits(bytes, p, end);
  if (p === first || (bytes[first] === 48 && p - first > 1)) return false;
  if (bytes[p] === 46 && p < end) {
    const fraction = p + 1;
    p = digits(bytes, fraction, end);
    if (p === fraction) return false;
  }
  if (p < end && (bytes[p] === 101 || bytes[p] === 69)) {
    p += 1;
    if (bytes[p] === 43 || bytes[p] === 45) p += 1;
    const exponent = p;
    p = digits(bytes, exponent, end);
    if (p === exponent) return false;
  }
  return p === end;
}

function digits(bytes: Buffer, start: number, end: number): number {
  let p = start;
  while (p < end) {
    const c = bytes[p] ?? 0;
    if (c < 48 || c > 57) break;
    p += 1;
  }
  return p;
}

/** Strips the quotes of a string that spells a number: both kinds follow one grammar. */
function unquoted(bytes: Buffer, start: number): 0 | 1 {
  return bytes[start] === QUOTE ? 1 : 0;
}

function integer(digitsMax: number): FastWrite {
  return (bytes, start, end, _flag, out, to) => {
    const quote = unquoted(bytes, start);
    const last = end - quote;
    let p = start + quote;
    if (bytes[p] === 45) p += 1;
    const first = p;
    p = digits(bytes, p, last);
    const count = p - first;
    if (p !== last || count === 0 || count > digitsMax || bytes[first] === 48) {
      // A lone zero is the only number that starts with one; "-0" is left to the exact conversion.
      if (!(count === 1 && p === last && first === start + quote)) return NO;
    }
    return copyBytes(bytes, start + quote, last, out, to);
  };
}

function numeric(integerDigitsMax: number, scaleMax: number): FastWrite {
  return (bytes, start, end, _flag, out, to) => {
    const quote = unquoted(bytes, start);
    const last = end - quote;
    let p = start + quote;
    const negative = bytes[p] === 45;
    if (negative) p += 1;
    const first = p;
    p = digits(bytes, p, last);
    const count = p - first;
    const isZero = count === 1 && bytes[first] === 48;
    if (count === 0 || (bytes[first] === 48 && !isZero)) return NO;
    if (!isZero && count > integerDigitsMax) return NO;
    if (integerDigitsMax < 0 || (isZero && negative)) return NO;
    if (p < last) {
      if (bytes[p] !== 46) return NO;
      const fraction = p + 1;
      p = digits(bytes, fraction, last);
      if (p !== last || p === fraction || p - fraction > scaleMax) return NO;
    }
    return copyBytes(bytes, start + quote, last, out, to);
  };
}

/** Numbers of so few digits that the nearest float's shortest text is the number again. */
function float(digitsMax: number): FastWrite {
  return (bytes, start, end, _flag, out, to) => {
    const quote = unquoted(bytes, start);
    const last = end - quote;
    const first = start + quote;
    if (last - first > digitsMax || !isNumber(bytes, first, last)) return NO;
    for (let p = first; p < last; p += 1) if (bytes[p] === 101 || bytes[p] === 69) return NO;
    return copyBytes(bytes, first, last, out, to);
  };
}

function compileDate(
  column: PlannedColumn,
  kind: "timestamptz" | "timestamp" | "date",
  scale: number | null,
): FastWrite | null {
  const iso = readsIso(dateFormat(column));
  return iso === "never" || (kind !== "date" && scale !== 6) ? null : date(kind, iso === "with_seconds");
}

/** `YYYY-MM-DD[THH:MM[:SS[.f{1,6}]][Z|±HH:MM]]` with a real day; a zone-less text of a timestamptz gets its Z. */
function date(kind: "timestamptz" | "timestamp" | "date", needsSeconds: boolean): FastWrite {
  return (bytes, start, end, flag, out, to) => {
    if (bytes[start] !== QUOTE || flag !== PLAIN) return NO;
    const s = start + 1;
    const last = end - 1;
    const length = last - s;
    if (length < 10 || bytes[s + 4] !== 45 || bytes[s + 7] !== 45) return NO;
    const century = two(bytes, s);
    const years = two(bytes, s + 2);
    const month = two(bytes, s + 5);
    const day = two(bytes, s + 8);
    if (century > 99 || years > 99 || month < 1 || month > 12 || day < 1) return NO;
    const year = century * 100 + years;
    if (year < 1 || (day > 28 && day > daysInMonth(year, month))) return NO;
    if (length === 10) {
      if (kind === "date") return copyBytes(bytes, s, last, out, to);
      const o = copyBytes(bytes, s, last, out, to);
      return o + out.write(kind === "timestamptz" ? " 00:00:00Z" : " 00:00:00", o, "latin1");
    }
    if (kind === "date" || length < 16 || bytes[s + 10] !== 84 || bytes[s + 13] !== 58) return NO;
    if (two(bytes, s + 11) > 23 || two(bytes, s + 14) > 59) return NO;
    let p = s + 16;
    if (bytes[p] === 58 && p + 3 <= last) {
      if (two(bytes, p + 1) > 59) return NO;
      p += 3;
      if (bytes[p] === 46) {
        const fraction = p + 1;
        p = digits(bytes, fraction, last);
        if (p === fraction || p - fraction > 6) return NO;
      }
    } else if (needsSeconds) return NO;
    const clock = p;
    if (p < last) {
      const zone = bytes[p];
      if (zone === 90) p += 1;
      else if (zone === 43 || zone === 45) {
        // A timestamp without time zone would drop the offset silently.
        if (kind === "timestamp" || bytes[p + 3] !== 58) return NO;
        if (two(bytes, p + 1) > 14 || two(bytes, p + 4) > 59) return NO;
        p += 6;
      } else return NO;
    }
    if (p !== last) return NO;
    if (kind === "timestamp") return copyBytes(bytes, s, clock, out, to);
    const o = copyBytes(bytes, s, last, out, to);
    if (clock !== last) return o;
    out[o] = 90;
    return o + 1;
  };
}

/** Two digits as a number; more than any two are where they are none. */
function two(bytes: Buffer, at: number): number {
  const high = (bytes[at] ?? 0) - 48;
  const low = (bytes[at + 1] ?? 0) - 48;
  return high >= 0 && high <= 9 && low >= 0 && low <= 9 ? high * 10 + low : 1_000;
}

/** A flat JSON array as an array literal. In strings the backslash of `\"` and `\\` is doubled for the literal's sake. */
function array(element: Element, lengthMax: number | null): FastWrite {
  /** Where the value ends that `one` has written. */
  let ended = 0;

  return (bytes, start, end, flag, out, to) => {
    let o = to;
    out[o++] = 123;
    if (bytes[start] !== 91) {
      // A null is no array of one null.
      if (flag === DECODE || bytes[start] === 110) return NO;
      o = one(bytes, start, end, out, o);
      if (o < 0 || ended !== end) return NO;
    } else {
      let p = space(bytes, start + 1);
      let isFirst = true;
      while (bytes[p] !== 93) {
        if (!isFirst) {
          if (bytes[p] !== 44) return NO;
          out[o++] = 44;
          p = space(bytes, p + 1);
        }
        isFirst = false;
        o = one(bytes, p, end, out, o);
        if (o < 0) return NO;
        p = space(bytes, ended);
      }
    }
    out[o++] = 125;
    return o;
  };

  /** Writes the flat value at `start`, which ends before `limit`. */
  function one(bytes: Buffer, start: number, limit: number, out: Buffer, to: number): number {
    const c = bytes[start];
    if (c === QUOTE) return element === "text" ? quoted(bytes, start, limit, out, to) : NO;
    const end = tokenEnd(bytes, start, limit);
    ended = end;
    if (c === 110) return end - start === 4 ? to + out.write("NULL", to, "latin1") : NO;
    return element === "text" ? NO : element.write(bytes, start, end, PLAIN, out, to);
  }

  function quoted(bytes: Buffer, start: number, limit: number, out: Buffer, to: number): number {
    let o = to;
    out[o++] = QUOTE;
    let p = start + 1;
    for (; p < limit; p += 1) {
      const c = bytes[p] ?? 0;
      if (c === QUOTE) break;
      if (c < 32) return NO;
      if (c === BACKSLASH) {
        p += 1;
        const next = bytes[p] ?? 0;
        if (!isSimpleEscape(next)) return NO;
        out[o++] = BACKSLASH;
        if (next === QUOTE || next === BACKSLASH) {
          out[o++] = BACKSLASH;
          if (next === BACKSLASH) out[o++] = BACKSLASH;
        }
        out[o++] = next;
      } else out[o++] = c;
    }
    // Bytes are at least as many as characters.
    if (p >= limit || (lengthMax !== null && p - start - 1 > lengthMax)) return NO;
    ended = p + 1;
    out[o++] = QUOTE;
    return o;
  }
}

function space(bytes: Buffer, start: number): number {
  let p = start;
  while (bytes[p] === 32) p += 1;
  return p;
}

/** The position after a number or a word inside of an array. */
function tokenEnd(bytes: Buffer, start: number, end: number): number {
  let p = start;
  while (p < end && bytes[p] !== 44 && bytes[p] !== 93 && bytes[p] !== 32) p += 1;
  return p;
}

/** Deepest value that is judged here; deeper ones are left to the exact conversion. */
const JSON_DEPTH_MAX = 100;
/** Longest number whose digits are surely few enough for numeric. */
const JSON_NUMBER_BYTES_MAX = 1000;

/** Any JSON value without `\u`, exponents and great depth: its bytes with every backslash doubled. */
const json: FastWrite = (bytes, start, end, _flag, out, to) => {
  // A null is SQL's null, not JSON's.
  if (bytes[start] === 110 || jsonEnd(bytes, start, end, 0) !== end) return NO;
  let o = to;
  for (let p = start; p < end; p += 1) {
    const c = bytes[p] ?? 0;
    if (c === BACKSLASH) out[o++] = BACKSLASH;
    out[o++] = c;
  }
  return o;
};

/**
 * The position after the JSON value at `start`, or -1. It holds the value to the whole grammar, because one broken value
 * would end the COPY of all others.
 */
function jsonEnd(bytes: Buffer, start: number, end: number, depth: number): number {
  const c = bytes[start];
  if (c === QUOTE) return jsonStringEnd(bytes, start, end);
  if (c !== 123 && c !== 91) return jsonTokenEnd(bytes, start, end);
  if (depth === JSON_DEPTH_MAX) return NO;
  // Both closing brackets stand two behind the opening ones.
  const close = c + 2;
  let p = space(bytes, start + 1);
  if (bytes[p] === close) return p + 1;
  for (;;) {
    if (c === 123) {
      if (bytes[p] !== QUOTE) return NO;
      p = jsonStringEnd(bytes, p, end);
      if (p < 0) return NO;
      p = space(bytes, p);
      if (bytes[p] !== 58) return NO;
      p = space(bytes, p + 1);
    }
    p = jsonEnd(bytes, p, end, depth + 1);
    if (p < 0) return NO;
    p = space(bytes, p);
    if (bytes[p] === close) return p + 1;
    if (bytes[p] !== 44) return NO;
    p = space(bytes, p + 1);
  }
}

function jsonStringEnd(bytes: Buffer, start: number, end: number): number {
  for (let p = start + 1; p < end; p += 1) {
    const c = bytes[p] ?? 0;
    if (c === QUOTE) return p + 1;
    if (c < 32) return NO;
    if (c === BACKSLASH) {
      p += 1;
      if (!isSimpleEscape(bytes[p] ?? 0)) return NO;
    }
  }
  return NO;
}

function jsonTokenEnd(bytes: Buffer, start: number, end: number): number {
  let p = start;
  while (p < end && bytes[p] !== 44 && bytes[p] !== 93 && bytes[p] !== 125 && bytes[p] !== 32) p += 1;
  const first = bytes[start];
  if (first === 110) return bytes.toString("latin1", start, p) === "null" ? p : NO;
  if (first === 116 || first === 102) {
    const word = bytes.toString("latin1", start, p);
    return word === "true" || word === "false" ? p : NO;
  }
  if (p - start > JSON_NUMBER_BYTES_MAX || !isNumber(bytes, start, p)) return NO;
  for (let at = start; at < p; at += 1) if (bytes[at] === 101 || bytes[at] === 69) return NO;
  return p;
}
