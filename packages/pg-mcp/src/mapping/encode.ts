import { isUtf8 } from "node:buffer";
import { type Convert, type Converted, cleanText, compileConvert, type Notes } from "./convert.ts";
import { copyEscape, textArrayLiteral } from "./copy-text.ts";
import { compileFast, copyBytes, type FastWrite } from "./fast.ts";
import { InOrder, type MemberColumn, memberNames } from "./in-order.ts";
import { arrayOf, JsonError, type JsonValue, mergedObject, parseJsonValue } from "./json-value.ts";
import { emptyHead, type LineHead, readHead, type Span } from "./line-head.ts";
import { type LoadPlan, META_PATHS, type PlannedColumn, type StageColumn, stageColumns } from "./plan.ts";
import { Refusal, type RejectReason } from "./refusal.ts";
import { DECODE, type Occurrence, Scanner, SEVERAL } from "./scan.ts";

/** Where a line stands in its export. */
interface LinePosition {
  part: number;
  line: number;
}

/** A document that stays out of the table, and why. The value is foreign text, clipped. */
export interface EncodedReject {
  documentId: string;
  column: string | null;
  reason: RejectReason;
  message: string;
  sqlstate: string | null;
  value: string;
}

interface EncodedRow {
  /** One line of COPY text with its LF. */
  copy: Buffer;
  /** Columns whose value lost digits under their `round` policy. */
  rounded: readonly string[];
  /** Columns whose value is not the document's, by the `nul`, `encoding` or `on_error` policy. */
  replaced: readonly string[];
  reject?: undefined;
}

export type Encoded = EncodedRow | { reject: EncodedReject };

/** A row that is not just what the document says, or a document without a row. */
export type Remark = Omit<EncodedRow, "copy"> | { reject: EncodedReject };

/** Which columns a row has: the stage's, or those that are loaded alone, for a COPY straight into the target. */
export type RowLayout = "stage" | "target";

export interface Encoder {
  /** Names of the stage's columns in COPY order. */
  columns: string[];
  stage: StageColumn[];
  /** The COPY row of one staged line in memory of its own, or the reason it has none. */
  encode(line: Buffer, at: LinePosition): Encoded;
  /**
   * Adds the COPY row of the line in [start, end) of `bytes` to those that `take` will give; answers only what there is
   * to say of it. Behind the line is an LF or the end of the bytes; `isValid` says that they are known to be UTF-8.
   */
  add(bytes: Buffer, start: number, end: number, isValid: boolean, at: LinePosition): Remark | null;
  /** The rows added since the last call, in memory that the next `add` uses again. */
  take(): Buffer;
  /** Every column that refuses the line or changes its value, each by the exact conversion: for forecasts. */
  judge(line: Buffer): Judgement[];
}

interface Judgement {
  /** Null where the document itself is refused. */
  column: string | null;
  outcome: RejectReason | "rounded" | "replaced";
  value: string;
}

/** First size of the memory that rows are added up in, because a buffer of its own for each costs more than the row. */
const SLAB_BYTES = 256 * 1024;
const REJECT_VALUE_CHARACTERS_MAX = 200;
const TAB = 9;
const BACKSLASH = 92;
const LF = 10;
/** Only null starts with it. */
const LETTER_N = 110;
const NONE: readonly string[] = [];

interface CompiledColumn {
  plan: PlannedColumn;
  /** Index of the document path among the scanned ones; -1 for a constant and for `_id` and its like. */
  slot: number;
  meta: (typeof META_PATHS)[number] | null;
  fast: FastWrite | null;
  convert: Convert;
  /** COPY text of a constant; null: the value comes from the document. */
  constant: string | null;
  /** COPY text of null after `on_null`; null where null is a reject. */
  nullText: string | null;
  /** COPY text with its TAB where the document has no value; null where that is for the exact conversion to judge. */
  missingText: string | null;
  isKey: boolean;
}

/** Documents after which an order that fewer than half of them have is given up. */
const ORDER_TRIES = 1_000;

const REPLACE = { nul: "replace", encoding: "replace" } as const;

/** Compiles a plan once into the encoder of its rows; `exact` takes no fast path, which changes speed and nothing else. */
export function createEncoder(
  plan: LoadPlan,
  options: { exact?: boolean; layout?: RowLayout; like?: Buffer | undefined } = {},
): Encoder {
  const isBare = options.layout === "target";
  const paths = [...new Set(plan.columns.flatMap(({ from }) => (from === null || isMetaPath(from) ? [] : [from])))];
  const scanner = new Scanner(paths);
  const key = new Set(plan.key);
  const compiled = plan.columns
    .filter(({ staged }) => staged)
    .map((column) => compileColumn(column, paths, key, options.exact === true));
  const usual = options.like === undefined ? undefined : usualOrder(options.like, compiled);
  const columns = usual === undefined ? compiled : [...usual.members, ...usual.others];
  const placeOf = new Map(columns.map((column, place) => [column.plan.column, place]));
  const stage = stageColumns(plan)
    .filter(({ meta }) => meta === null || !isBare)
    // The stage's own columns stay behind the plan's.
    .toSorted(
      (left, right) => (placeOf.get(left.name) ?? columns.length) - (placeOf.get(right.name) ?? columns.length),
    );
  /** Writes rows of the usual order; null where there is none, or too few documents have it. */
  let inOrder = usual?.inOrder ?? null;
  let tried = 0;
  let written = 0;
  const hasKeep = stage.some(({ meta }) => meta === "keep");
  const hasDefault = stage.some(({ meta }) => meta === "default");

  const head = emptyHead();
  let slab = Buffer.allocUnsafeSlow(SLAB_BYTES);
  /** Where the current row starts in the slab, and where writing goes on. */
  let rowStart = 0;
  let at = 0;
  /** What there is to say of the row in hand, by column: see `EncodedRow`, and `stageColumns` for the last two. */
  let rounded: string[] | null = null;
  let replaced: string[] | null = null;
  let kept: string[] | null = null;
  let defaulted: string[] | null = null;

  function reserve(bytes: number): void {
    if (at + bytes > slab.length) grow(bytes);
  }

  function grow(bytes: number): void {
    const next = Buffer.allocUnsafeSlow(2 * (at + bytes));
    slab.copy(next, 0, 0, at);
    slab = next;
  }

  function writeText(text: string): void {
    reserve(text.length * 3);
    at += slab.write(text, at);
  }

  function writeNull(): void {
    reserve(2);
    slab[at++] = BACKSLASH;
    slab[at++] = 78;
  }

  function writeInteger(number: number): void {
    reserve(20);
    let length = 1;
    for (let rest = number; rest >= 10; rest = Math.floor(rest / 10)) length += 1;
    at += length;
    for (let rest = number, to = at; length > 0; length -= 1, rest = Math.floor(rest / 10))
      slab[--to] = 48 + (rest % 10);
  }

  /** Writes a text of the head for the stage's own columns, which must never stop a row. */
  function writeMeta(line: Buffer, { start, end, flag }: Span, isValid: boolean): void {
    if (start < 0) writeNull();
    else if (flag === DECODE || !isValid) writeText(copyEscape(clean(headText(line, { start, end, flag }))));
    else {
      reserve(end - start);
      at = copyBytes(line, start + 1, end - 1, slab, at);
    }
  }

  function encode(line: Buffer, position: LinePosition): Encoded {
    at = 0;
    const remark = add(line, 0, line.length, isUtf8(line), position);
    const copy = Buffer.from(take());
    if (remark === null) return { copy, rounded: NONE, replaced: NONE };
    return remark.reject === undefined ? { ...remark, copy } : remark;
  }

  function take(): Buffer {
    const rows = slab.subarray(0, at);
    at = 0;
    return rows;
  }

  function add(line: Buffer, from: number, to: number, isValid: boolean, position: LinePosition): Remark | null {
    rowStart = at;
    if (!readHead(line, head, from)) {
      return failed("", null, new Refusal("invalid_line", "The line is no staged document."), "");
    }
    if (inOrder !== null && isValid && addInOrder(inOrder, line, to)) {
      rounded = null;
      replaced = null;
      kept = null;
      defaulted = null;
      return endRow(line, position, isValid);
    }
    const end = scanner.scan(line, head.source, to);
    if (end < 0 || line[end] !== 125 || end !== to - 1) {
      const refusal = new Refusal(
        "invalid_json",
        "The document is not JSON, or nests deeper than 1000 levels.",
        "22P02",
      );
      return failed(headText(line, head.id), null, refusal, "");
    }
    rounded = null;
    replaced = null;
    kept = null;
    defaulted = null;
    const { starts, ends, flags } = scanner;
    // Places in local variables: those of the closure would be read and written for every value.
    let out = slab;
    let o = at;
    for (const column of columns) {
      const { slot, meta, fast } = column;
      const span = meta === null ? null : metaSpan(head, meta);
      const start = span === null ? (starts[slot] ?? -1) : span.start;
      if (start !== -1 && fast !== null && isValid) {
        const stop = span === null ? (ends[slot] ?? 0) : span.end;
        const flag = span === null ? (flags[slot] ?? DECODE) : span.flag;
        const room = 2 * (stop - start) + 64;
        if (o + room > out.length) {
          at = o;
          reserve(room);
          out = slab;
        }
        const next = flag === SEVERAL ? -1 : fast(line, start, stop, flag, out, o);
        if (next >= 0) {
          out[next] = TAB;
          o = next + 1;
          continue;
        }
      }
      at = o;
      const refused = addExact(column, line, span, start, isValid);
      if (refused !== null) return columns === compiled ? refused : (firstRefusal(line, isValid) ?? refused);
      out = slab;
      o = at;
    }
    at = o;
    return endRow(line, position, isValid);
  }

  /** Of several reasons the one that comes first in the mapping, whatever order the part's first document has. */
  function firstRefusal(line: Buffer, isValid: boolean): { reject: EncodedReject } | undefined {
    for (const column of compiled) {
      const span = column.meta === null ? null : metaSpan(head, column.meta);
      const start = span === null ? (scanner.starts[column.slot] ?? -1) : span.start;
      const refused = addExact(column, line, span, start, isValid);
      if (refused !== null) return refused;
    }
    return undefined;
  }

  /** Writes the values of a document of the usual order, and those that no member feeds; false with nothing written. */
  function addInOrder(order: InOrder, line: Buffer, to: number): boolean {
    if (tried++ === ORDER_TRIES && written < ORDER_TRIES / 2) inOrder = null;
    reserve(2 * (to - head.source) + order.roomBytes);
    const next = order.write(line, head.source, to, slab, at);
    if (next < 0) return false;
    at = next;
    for (const { constant, meta, fast, missingText } of usual?.others ?? []) {
      if (constant !== null) writeText(constant);
      else if (meta === null) writeText(missingText ?? "");
      else {
        const { start, end, flag } = metaSpan(head, meta);
        const length = end - start;
        reserve(2 * length + 64);
        const stop = start === -1 || fast === null ? -1 : fast(line, start, end, flag, slab, at);
        if (stop < 0) {
          at = rowStart;
          return false;
        }
        slab[stop] = TAB;
        at = stop + 1;
      }
    }
    written++;
    return true;
  }

  function endRow(line: Buffer, position: LinePosition, isValid: boolean): Remark | null {
    // The last value's TAB ends the row where nothing follows.
    if (isBare) slab[at - 1] = LF;
    else {
      writeStageMeta(line, position, isValid);
      if (hasKeep) writeText(`\t${kept === null ? "\\N" : copyEscape(textArrayLiteral(kept))}`);
      if (hasDefault) writeText(`\t${defaulted === null ? "\\N" : copyEscape(textArrayLiteral(defaulted))}`);
      reserve(1);
      slab[at++] = LF;
    }
    return rounded === null && replaced === null ? null : { rounded: rounded ?? NONE, replaced: replaced ?? NONE };
  }

  /** Writes a value and its TAB by the exact conversion; answers why the document has no row, if it has none. */
  function addExact(
    column: CompiledColumn,
    line: Buffer,
    span: Span | null,
    start: number,
    isValid: boolean,
  ): { reject: EncodedReject } | null {
    if (column.constant !== null) {
      writeText(column.constant);
      return null;
    }
    const { plan: planned } = column;
    const notes: Notes = { rounded: false, replaced: false };
    const value = valueOf(column, line, span, start, isValid, notes);
    let converted: Converted = null;
    if (value instanceof Refusal) converted = value;
    else if (value !== undefined) converted = column.convert(value, notes);
    else if (planned.onMissing !== "null") {
      // The stage holds null and the name of the column: what it stands for is known only in the merge.
      if (planned.onMissing === "keep") (kept ??= []).push(planned.column);
      else (defaulted ??= []).push(planned.column);
      writeText("\\N\t");
      return null;
    }

    if (converted instanceof Refusal) {
      if (planned.onError === "reject") {
        const end = span === null ? (scanner.ends[column.slot] ?? 0) : span.end;
        return failed(headText(line, head.id), planned.column, converted, shownValue(line, value, start, end));
      }
      if (planned.onError === "default") {
        (defaulted ??= []).push(planned.column);
        (replaced ??= []).push(planned.column);
        writeText("\\N\t");
        return null;
      }
      notes.rounded = false;
      notes.replaced = true;
      converted = null;
    }
    if (notes.rounded) (rounded ??= []).push(planned.column);
    if (notes.replaced) (replaced ??= []).push(planned.column);
    if (converted !== null) writeText(copyEscape(converted));
    else if (column.nullText !== null) writeText(column.nullText);
    else {
      const why = value === undefined ? "is missing" : "is null";
      const refusal = column.isKey
        ? new Refusal("null_key", `The key column's value ${why}.`, "23502")
        : new Refusal("null_not_allowed", `The value ${why}, and the column is NOT NULL.`, "23502");
      const shown = value === undefined || value instanceof Refusal ? "" : value.raw;
      return failed(headText(line, head.id), planned.column, refusal, shown);
    }
    reserve(1);
    slab[at++] = TAB;
    return null;
  }

  /** The stage's own columns, which say where the row comes from. */
  function writeStageMeta(line: Buffer, position: LinePosition, isValid: boolean): void {
    writeInteger(position.part);
    slab[at++] = TAB;
    writeInteger(position.line);
    slab[at++] = TAB;
    writeMeta(line, head.index, isValid);
    reserve(3);
    slab[at++] = TAB;
    writeMeta(line, head.id, isValid);
    reserve(3);
    slab[at++] = TAB;
    writeMeta(line, head.routing, isValid);
    reserve(32);
    slab[at++] = TAB;
    if (head.seqNo.start < 0) writeNull();
    else at = copyBytes(line, head.seqNo.start, head.seqNo.end, slab, at);
  }

  function judge(line: Buffer): Judgement[] {
    if (!readHead(line, head)) return [{ column: null, outcome: "invalid_line", value: "" }];
    const isValid = isUtf8(line);
    if (scanner.scan(line, head.source, line.length) !== line.length - 1) {
      return [{ column: null, outcome: "invalid_json", value: "" }];
    }
    const found: Judgement[] = [];
    for (const column of columns) {
      if (column.constant !== null) continue;
      const notes: Notes = { rounded: false, replaced: false };
      const span = column.meta === null ? null : metaSpan(head, column.meta);
      const start = span === null ? (scanner.starts[column.slot] ?? -1) : span.start;
      const value = valueOf(column, line, span, start, isValid, notes);
      if (value === undefined && column.plan.onMissing !== "null") continue;
      const converted = value === undefined ? null : value instanceof Refusal ? value : column.convert(value, notes);
      const shown = value === undefined || value instanceof Refusal ? "" : clipValue(value.raw);
      const note = (outcome: Judgement["outcome"]) => found.push({ column: column.plan.column, outcome, value: shown });
      if (converted instanceof Refusal) note(converted.reason);
      else if (converted === null && column.nullText === null) note(column.isKey ? "null_key" : "null_not_allowed");
      else if (notes.rounded) note("rounded");
      else if (notes.replaced) note("replaced");
    }
    return found;
  }

  /** The value a column reads; undefined: the document has none. */
  function valueOf(
    column: CompiledColumn,
    line: Buffer,
    span: Span | null,
    start: number,
    isValid: boolean,
    notes: Notes,
  ): JsonValue | undefined | Refusal {
    const constant = column.plan.field?.constant;
    // A constant_keyword has its value in every document, whether `_source` says it, says null, or says nothing.
    if (constant !== undefined && (start === -1 || line[start] === LETTER_N)) {
      return { kind: "string", text: constant, raw: JSON.stringify(constant) };
    }
    if (start === -1) return undefined;
    const several = span === null ? scanner.several.get(column.slot) : undefined;
    const end = span === null ? (scanner.ends[column.slot] ?? 0) : span.end;
    const places = several ?? [{ start, end, flag: DECODE, inside: [] }];
    if (!isValid) {
      for (const place of places) {
        if (isUtf8(line.subarray(place.start, place.end))) continue;
        if (column.plan.encoding === "reject") {
          return new Refusal("invalid_utf8", "The value holds bytes that are not UTF-8.", "22021");
        }
        notes.replaced = true;
      }
    }
    try {
      return several === undefined ? parseAt(line, places[0] ?? NOWHERE) : combine(line, several);
    } catch (error) {
      if (error instanceof JsonError) return new Refusal(error.reason, error.message, "22P02");
      throw error;
    }
  }

  /** Forgets the row and says why. */
  function failed(
    documentId: string,
    column: string | null,
    refusal: Refusal,
    value: string,
  ): { reject: EncodedReject } {
    at = rowStart;
    const { reason, message, sqlstate } = refusal;
    return { reject: { documentId: clean(documentId), column, reason, message, sqlstate, value: clipValue(value) } };
  }

  return { columns: stage.map(({ name }) => name), stage, encode, add, take, judge };
}

const NOWHERE: Occurrence = { start: 0, end: 0, flag: DECODE, inside: [] };

function parseAt(line: Buffer, place: Occurrence): JsonValue {
  return parseJsonValue(line.toString("utf8", place.start, place.end));
}

/** A path met several times is several values to Elasticsearch; pieces of one object, met by dotted names, are one. */
export function combine(line: Buffer, places: readonly Occurrence[]): JsonValue {
  const values = places.map((place) =>
    place.inside.reduceRight<JsonValue>((value, name) => mergedObject([[name, value]]), parseAt(line, place)),
  );
  const isPieces = places.some((place) => place.inside.length > 0);
  if (isPieces && values.every((value) => value.kind === "object")) {
    return mergedObject(values.flatMap((value) => (value.kind === "object" ? value.entries : [])));
  }
  const [only] = values;
  if (only !== undefined && values.length === 1) return only;
  return arrayOf(values.flatMap((value) => (value.kind === "array" ? value.items : [value])));
}

function isMetaPath(path: string): path is (typeof META_PATHS)[number] {
  return META_PATHS.some((meta) => meta === path);
}

function metaSpan(head: LineHead, meta: (typeof META_PATHS)[number]): Span {
  switch (meta) {
    case "_id":
      return head.id;
    case "_index":
      return head.index;
    case "_routing":
      return head.routing;
    default:
      return head.seqNo;
  }
}

function compileColumn(
  plan: PlannedColumn,
  paths: readonly string[],
  key: ReadonlySet<string>,
  isExact: boolean,
): CompiledColumn {
  const meta = plan.from !== null && isMetaPath(plan.from) ? plan.from : null;
  const isKey = plan.load && key.has(plan.column);
  const rejectsNull = plan.notNull && plan.onNull === null;
  const nullText = rejectsNull ? null : plan.onNull === null ? "\\N" : copyEscape(plan.onNull);
  const isPlainlyMissing = plan.onMissing === "null" && plan.field?.constant === undefined;
  return {
    plan,
    slot: plan.from === null || meta !== null ? -1 : paths.indexOf(plan.from),
    meta,
    fast: isExact ? null : compileFast(plan),
    convert: compileConvert(plan),
    constant: plan.constant === undefined ? null : `${plan.constant === null ? "\\N" : copyEscape(plan.constant)}\t`,
    nullText,
    missingText: nullText !== null && isPlainlyMissing ? `${nullText}\t` : null,
    isKey,
  };
}

/** How the documents of a part are written where they are like the given line. */
interface UsualOrder {
  inOrder: InOrder;
  /** Columns that the line's members feed, in the members' order. */
  members: CompiledColumn[];
  /** Constants, columns of the document's head, and those that the line has no value for. */
  others: CompiledColumn[];
}

/** Undefined where the line is no document whose members feed columns one to one. */
function usualOrder(line: Buffer, columns: readonly CompiledColumn[]): UsualOrder | undefined {
  const head = emptyHead();
  if (!isUtf8(line) || !readHead(line, head)) return undefined;
  const names = memberNames(line, head.source, line.length - 1);
  if (names === undefined) return undefined;
  const fed = columns.filter(({ slot }) => slot >= 0);
  const paths = fed.map(({ plan }) => plan.from ?? "");
  if (new Set(paths).size < paths.length) return undefined;
  // What stands inside of a member is for the scanner to find.
  if (paths.some((path) => names.some((name) => path.startsWith(`${name}.`)))) return undefined;
  const byPath = new Map(fed.map((column) => [column.plan.from, column]));
  const steps: { name: string; column: MemberColumn | null }[] = [];
  const members: CompiledColumn[] = [];
  for (const name of names) {
    const column = byPath.get(name);
    const member = column === undefined ? null : memberColumn(column);
    if (member === undefined) return undefined;
    if (column !== undefined) members.push(column);
    steps.push({ name, column: member });
  }
  const others = columns.filter((column) => !members.includes(column));
  const areSure = others.every(({ constant, meta, missingText }) => constant ?? meta ?? missingText);
  return areSure ? { inOrder: new InOrder(steps), members, others } : undefined;
}

function memberColumn(column: CompiledColumn): MemberColumn | undefined {
  const { fast, plan, missingText } = column;
  if (fast === null) return undefined;
  const { valueType: type } = plan;
  const isText = type.kind === "text" && !type.array;
  const notes: Notes = { rounded: false, replaced: false };
  const ofNull = plan.field?.constant === undefined ? column.convert({ kind: "null", raw: "null" }, notes) : undefined;
  const isSure = ofNull === null && column.nullText !== null && !notes.rounded && !notes.replaced;
  return {
    fast,
    textBytesMax: isText ? (type.length ?? Number.MAX_SAFE_INTEGER) : null,
    nullText: isSure ? Buffer.from(`${column.nullText}\t`) : null,
    missingText: missingText === null ? null : Buffer.from(missingText),
  };
}

/** A refused value as text; where it has no value because its bytes are broken, what can be read of them. */
function shownValue(line: Buffer, value: JsonValue | undefined | Refusal, start: number, end: number): string {
  if (value === undefined) return "";
  if (!(value instanceof Refusal)) return value.raw;
  return start < 0 ? "" : line.toString("utf8", start, Math.min(end, start + REJECT_VALUE_CHARACTERS_MAX * 4));
}

/** A string of the head, decoded; what is not UTF-8 in it is U+FFFD. */
export function headText(line: Buffer, { start, end }: Span): string {
  const raw = line.toString("utf8", start, end);
  try {
    const value = parseJsonValue(raw);
    return value.kind === "string" ? value.text : raw;
  } catch (error) {
    if (error instanceof JsonError) return raw;
    throw error;
  }
}

/** The stage's own texts must never stop a row: what PostgreSQL cannot hold is U+FFFD there. */
function clean(text: string): string {
  if (!text.includes("\0") && text.isWellFormed()) return text;
  const cleaned = cleanText(text, REPLACE, { rounded: false, replaced: false });
  return cleaned instanceof Refusal ? "" : cleaned;
}

/** The first characters of a value on one line, fit to be stored and shown. */
function clipValue(value: string): string {
  const start = clean(value.slice(0, REJECT_VALUE_CHARACTERS_MAX * 2)).replace(/\p{Cc}/gu, " ");
  const characters = Array.from(start);
  return characters.length <= REJECT_VALUE_CHARACTERS_MAX && value.length <= start.length
    ? start
    : `${characters.slice(0, REJECT_VALUE_CHARACTERS_MAX - 1).join("")}…`;
}
