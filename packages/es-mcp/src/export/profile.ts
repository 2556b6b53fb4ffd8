import type { FieldProfile } from "@es-to-pg/staging";
import { dateFormat } from "./date-format.ts";

/** Paths that are profiled. It bounds memory and the manifest where keys are data; the rest is only said to exist. */
export const PROFILE_PATHS_MAX = 5000;
/** Characters of a sample, a least and a greatest value. */
const TEXT_CHARACTERS_MAX = 64;
const SAMPLES_MAX = 3;
const DATE_FORMATS_MAX = 5;
/** Strings of every n-th document, and of the first ones, are looked at for samples, least and greatest value. */
const SAMPLED_EACH = 16;
const SAMPLED_FIRST = 64;

const QUOTE = 0x22;
const BACKSLASH = 0x5c;
const MINUS = 0x2d;
const ZERO = 0x30;
const NINE = 0x39;

/** What was met at one path. Counts are exact; strings' samples, least and greatest are of the sampled documents. */
export class FieldStatistics {
  readonly path: string;
  string = 0;
  integer = 0;
  decimal = 0;
  boolean = 0;
  object = 0;
  nulls = 0;
  present = 0;
  arrays = 0;
  arrayLengthMax = 0;
  lengthMax = 0;
  bytesMax = 0;
  integerDigitsMax = 0;
  scaleMax = 0;
  dates = 0;
  numbers = 0;
  booleans = 0;
  uuids = 0;
  empty = 0;
  nul = 0;
  numberLeast = Number.POSITIVE_INFINITY;
  numberGreatest = Number.NEGATIVE_INFINITY;
  numberLeastText: string | null = null;
  numberGreatestText: string | null = null;
  stringLeast: string | null = null;
  stringGreatest: string | null = null;
  readonly samples: string[] = [];
  readonly dateFormats: string[] = [];
  /** Serial number of the document that was last counted in `present`, and in `arrays`. */
  document = -1;
  arrayDocument = -1;
  /** Values met in arrays of this document. */
  values = 0;

  constructor(path: string) {
    this.path = path;
  }

  /** Counts a string whose raw bytes lie between its quotes at [start, end). */
  addString(bytes: Buffer, start: number, end: number, escaped: boolean, sampled: boolean): void {
    this.string++;
    const length = end - start;
    if (length === 0) {
      this.empty++;
      return;
    }
    // The raw length bounds both figures from above, so most strings need no counting.
    if (length > this.bytesMax || length > this.lengthMax) this.#measure(bytes, start, end, escaped);
    if (escaped) {
      if (hasNul(bytes, start, end)) this.nul++;
    } else {
      const first = bytes[start] ?? 0;
      if (length === 36 && isUuid(bytes, start)) this.uuids++;
      else if (first <= NINE && (first >= ZERO || first === MINUS)) {
        if (isDate(bytes, start, end)) this.dates++;
        else if (isNumber(bytes, start, end)) this.numbers++;
      } else if ((length === 4 || length === 5) && isBoolean(bytes, start, end)) this.booleans++;
    }
    if (sampled) this.#sampleString(decodeString(bytes, start, Math.min(end, start + 4096), escaped));
  }

  /** Counts a number without exponent by its digits before and after the point. */
  addNumber(
    bytes: Buffer,
    start: number,
    end: number,
    digits: number,
    scale: number,
    decimal: boolean,
    value: number,
    sampled: boolean,
  ) {
    if (decimal) this.decimal++;
    else this.integer++;
    if (digits > this.integerDigitsMax) this.integerDigitsMax = digits;
    if (scale > this.scaleMax) this.scaleMax = scale;
    if (value < this.numberLeast) {
      this.numberLeast = value;
      this.numberLeastText = clipText(bytes.toString("latin1", start, end));
    }
    if (value > this.numberGreatest) {
      this.numberGreatest = value;
      this.numberGreatestText = clipText(bytes.toString("latin1", start, end));
    }
    if (sampled && this.samples.length < SAMPLES_MAX) this.#sample(clipText(bytes.toString("latin1", start, end)));
  }

  #measure(bytes: Buffer, start: number, end: number, escaped: boolean): void {
    let byteLength = end - start;
    let length = 0;
    if (escaped) {
      const text = decodeString(bytes, start, end, true);
      byteLength = Buffer.byteLength(text);
      for (const _ of text) length++;
    } else {
      for (let at = start; at < end; at++) if (((bytes[at] ?? 0) & 0xc0) !== 0x80) length++;
    }
    if (byteLength > this.bytesMax) this.bytesMax = byteLength;
    if (length > this.lengthMax) this.lengthMax = length;
  }

  #sampleString(text: string): void {
    const clipped = clipText(text);
    if (this.stringLeast === null || clipped < this.stringLeast) this.stringLeast = clipped;
    if (this.stringGreatest === null || clipped > this.stringGreatest) this.stringGreatest = clipped;
    if (this.samples.length < SAMPLES_MAX) this.#sample(clipped);
    // Every format begins with a digit.
    const first = text.charCodeAt(0);
    if (first >= ZERO && first <= NINE && this.dateFormats.length < DATE_FORMATS_MAX) this.#sampleDate(clipped);
  }

  #sampleDate(text: string): void {
    const format = dateFormat(text);
    if (format !== undefined && !this.dateFormats.includes(format)) this.dateFormats.push(format);
  }

  #sample(text: string): void {
    if (!this.samples.includes(text)) this.samples.push(text);
  }

  /** Takes the counts of another one back. */
  subtract(other: FieldStatistics): void {
    for (const count of COUNTS) this[count] -= other[count];
  }

  toProfile(): FieldProfile {
    const hasNumbers = this.numberLeastText !== null;
    return {
      path: this.path,
      kinds: {
        string: this.string,
        integer: this.integer,
        decimal: this.decimal,
        boolean: this.boolean,
        object: this.object,
        null: this.nulls,
      },
      present: this.present,
      arrays: this.arrays,
      array_length_max: this.arrayLengthMax,
      length_max: this.lengthMax,
      bytes_max: this.bytesMax,
      integer_digits_max: this.integerDigitsMax,
      scale_max: this.scaleMax,
      min: hasNumbers ? this.numberLeastText : this.stringLeast,
      max: hasNumbers ? this.numberGreatestText : this.stringGreatest,
      shapes: {
        date: this.dates,
        number: this.numbers,
        boolean: this.booleans,
        uuid: this.uuids,
        empty: this.empty,
        nul: this.nul,
      },
      date_formats: [...this.dateFormats],
      samples: [...this.samples],
    };
  }

  static fromProfile(profile: FieldProfile): FieldStatistics {
    const field = new FieldStatistics(profile.path);
    field.string = profile.kinds.string;
    field.integer = profile.kinds.integer;
    field.decimal = profile.kinds.decimal;
    field.boolean = profile.kinds.boolean;
    field.object = profile.kinds.object;
    field.nulls = profile.kinds.null;
    field.present = profile.present;
    field.arrays = profile.arrays;
    field.arrayLengthMax = profile.array_length_max;
    field.lengthMax = profile.length_max;
    field.bytesMax = profile.bytes_max;
    field.integerDigitsMax = profile.integer_digits_max;
    field.scaleMax = profile.scale_max;
    field.dates = profile.shapes.date;
    field.numbers = profile.shapes.number;
    field.booleans = profile.shapes.boolean;
    field.uuids = profile.shapes.uuid;
    field.empty = profile.shapes.empty;
    field.nul = profile.shapes.nul;
    field.samples.push(...profile.samples);
    field.dateFormats.push(...profile.date_formats);
    if (profile.kinds.integer + profile.kinds.decimal > 0) {
      if (profile.min !== null) {
        field.numberLeast = Number(profile.min);
        field.numberLeastText = profile.min;
      }
      if (profile.max !== null) {
        field.numberGreatest = Number(profile.max);
        field.numberGreatestText = profile.max;
      }
    } else {
      field.stringLeast = profile.min;
      field.stringGreatest = profile.max;
    }
    return field;
  }
}

/** The figures of a field that are sums over documents. */
const COUNTS = [
  "string",
  "integer",
  "decimal",
  "boolean",
  "object",
  "nulls",
  "present",
  "arrays",
  "dates",
  "numbers",
  "booleans",
  "uuids",
  "empty",
  "nul",
] as const;

/**
 * One key of the documents, as a tree. Documents of one index tend to repeat their keys in one order, so each node
 * remembers what followed it: the next key is found by comparing bytes, and only a surprise costs a look-up.
 */
export class KeyNode {
  /** Raw bytes of the key and its closing quote, to be compared four at a time. */
  readonly key: DataView;
  /** Its length, because asking a DataView for it is a call. */
  readonly keyBytes: number;
  /** Undefined at the root and beyond `PROFILE_PATHS_MAX`. */
  readonly field: FieldStatistics | undefined;
  readonly #children = new Map<string, KeyNode>();
  readonly #profile: Profile;
  first: KeyNode | undefined;
  next: KeyNode | undefined;

  constructor(profile: Profile, key: Uint8Array, field: FieldStatistics | undefined) {
    this.#profile = profile;
    const quoted = new Uint8Array(key.length + 1);
    quoted.set(key);
    quoted[key.length] = QUOTE;
    this.key = new DataView(quoted.buffer);
    this.keyBytes = quoted.length;
    this.field = field;
  }

  /** The child for the key at [start, end) of `bytes`. */
  child(bytes: Buffer, start: number, end: number): KeyNode {
    const raw = bytes.toString("latin1", start, end);
    let child = this.#children.get(raw);
    if (child === undefined) {
      child = this.#profile.node(this, bytes.subarray(start, end));
      // Only what is profiled is remembered: where keys are data they never end.
      if (child.field !== undefined) this.#children.set(raw, child);
    }
    return child;
  }
}

/** Gathers what documents really hold, per dotted path, while they are scanned. */
export class Profile {
  documents = 0;
  readonly root: KeyNode;
  /** True when there were more paths than `PROFILE_PATHS_MAX`. */
  truncated = false;
  readonly #fields = new Map<string, FieldStatistics>();
  readonly #beyond: KeyNode;

  constructor(earlier: readonly FieldProfile[] = [], documents = 0) {
    this.documents = documents;
    this.root = new KeyNode(this, new Uint8Array(0), undefined);
    // A node that is its own child takes every path that is not profiled, without memory for its keys.
    this.#beyond = new KeyNode(this, new Uint8Array([QUOTE]), undefined);
    for (const profile of earlier) this.#fields.set(profile.path, FieldStatistics.fromProfile(profile));
  }

  /** Starts the next document and tells whether its strings are sampled. */
  begin(): boolean {
    const serial = this.documents++;
    return serial < SAMPLED_FIRST || serial % SAMPLED_EACH === 0;
  }

  node(parent: KeyNode, key: Uint8Array): KeyNode {
    if (parent === this.#beyond) return this.#beyond;
    const name = decodeString(Buffer.from(key), 0, key.length, key.includes(BACKSLASH));
    const path = parent.field === undefined ? name : `${parent.field.path}.${name}`;
    let field = this.#fields.get(path);
    if (field === undefined) {
      if (this.#fields.size >= PROFILE_PATHS_MAX) {
        this.truncated = true;
        return this.#beyond;
      }
      field = new FieldStatistics(path);
      this.#fields.set(path, field);
    }
    return new KeyNode(this, key, field);
  }

  /**
   * Takes back the counts of a document that is read once more, given the profile of it alone. What it has extended, as a
   * length or a sample, stays: it comes again.
   */
  subtract(document: Profile): void {
    for (const [path, field] of document.#fields) this.#fields.get(path)?.subtract(field);
  }

  /** The profile so far, by path. */
  fields(): FieldProfile[] {
    return [...this.#fields.values()]
      .filter(({ present }) => present > 0)
      .map((field) => field.toProfile())
      .sort((a, b) => (a.path < b.path ? -1 : a.path > b.path ? 1 : 0));
  }
}

/** The text of a JSON string, given its raw bytes without the quotes. */
export function decodeString(bytes: Buffer, start: number, end: number, escaped: boolean): string {
  const raw = bytes.toString("utf8", start, end);
  if (!escaped) return raw;
  for (let length = raw.length; length > raw.length - 12 && length > 0; length--) {
    try {
      const text: unknown = JSON.parse(`"${raw.slice(0, length)}"`);
      if (typeof text === "string") return text;
    } catch {
      // A cut at a byte limit may fall inside an escape; a shorter piece parses.
    }
  }
  return raw;
}

function clipText(text: string): string {
  if (text.length <= TEXT_CHARACTERS_MAX) return text;
  return text.slice(0, TEXT_CHARACTERS_MAX).toWellFormed();
}

function isDigit(byte: number | undefined): boolean {
  return byte !== undefined && byte >= ZERO && byte <= NINE;
}

function isDate(bytes: Buffer, start: number, end: number): boolean {
  if (end - start < 10 || bytes[start + 4] !== MINUS || bytes[start + 7] !== MINUS) return false;
  for (const at of DATE_DIGITS) if (!isDigit(bytes[start + at])) return false;
  if (end - start === 10) return true;
  const separator = bytes[start + 10];
  if (separator !== 0x54 && separator !== 0x20) return false;
  for (let at = start + 11; at < end; at++) {
    const byte = bytes[at] ?? 0;
    // digits, then : . , + - and Z
    if (!isDigit(byte) && !(byte >= 0x2b && byte <= 0x2e) && byte !== 0x3a && byte !== 0x5a) return false;
  }
  return true;
}
const DATE_DIGITS = [0, 1, 2, 3, 5, 6, 8, 9];

function isNumber(bytes: Buffer, start: number, end: number): boolean {
  // The last byte tells most of what begins with a digit and is none.
  if (end - start > 64 || !isDigit(bytes[end - 1])) return false;
  return /^-?\d+(\.\d+)?([eE][+-]?\d+)?$/.test(bytes.toString("latin1", start, end));
}

function isBoolean(bytes: Buffer, start: number, end: number): boolean {
  const word = bytes[start] === 0x74 ? TRUE : FALSE;
  if (end - start !== word.length) return false;
  for (let at = 0; at < word.length; at++) if (bytes[start + at] !== word[at]) return false;
  return true;
}
const TRUE = Buffer.from("true");
const FALSE = Buffer.from("false");

function isUuid(bytes: Buffer, start: number): boolean {
  if (bytes[start + 8] !== MINUS || bytes[start + 13] !== MINUS) return false;
  return /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/i.test(
    bytes.toString("latin1", start, start + 36),
  );
}

/** Whether the raw bytes of a string hold the escape of U+0000. */
function hasNul(bytes: Buffer, start: number, end: number): boolean {
  for (let at = start; at < end; at++) {
    if (bytes[at] !== BACKSLASH) continue;
    at++;
    if (bytes[at] === 0x75 && bytes.toString("latin1", at + 1, at + 5) === "0000") return true;
  }
  return false;
}
