import { addressBits, addressNumber, networkOf } from "./addresses.ts";
import {
  DEFAULT_DATE_FORMAT,
  DEFAULT_DATE_NANOS_FORMAT,
  dateReader,
  type Instant,
  instantText,
  isInTimestampRange,
  roundInstant,
  TEXT_DATE_FORMAT,
} from "./dates.ts";
import { compileVector, extensionConvert, isPostgisPoint, isVector, vectorElements } from "./extension-types.ts";
import { NUMERIC_FIELDS } from "./fields.ts";
import { isCoordinatePair, readGeoPoint } from "./geo-point.ts";
import type { JsonValue } from "./json-value.ts";
import {
  compareDecimals,
  type Decimal,
  decimalText,
  integerDigits,
  NUMERIC_INTEGER_DIGITS_MAX,
  NUMERIC_SCALE_MAX,
  parseDecimal,
  readFloat,
  rescale,
} from "./numbers.ts";
import { takePart, takesCoordinates, type ValuePart } from "./parts.ts";
import type { PlannedColumn } from "./plan.ts";
import { RANGE_FIELDS, readSides } from "./ranges.ts";
import { Refusal } from "./refusal.ts";
import { parseValueType, type ValueType } from "./value-type.ts";

/** What was done to a value on the way: the load counts both per column. */
export interface Notes {
  rounded: boolean;
  replaced: boolean;
}

/** The text that PostgreSQL's input function reads without a choice of its own, null, or why there is none. */
export type Converted = string | null | Refusal;

export type Convert = (value: JsonValue, notes: Notes) => Converted;

const INTEGER_FIELDS = new Set(["long", "integer", "short", "byte", "unsigned_long"]);
/** Binary floats and the mantissa bits Elasticsearch gives them: to them a long fraction means its nearest float. */
const FLOAT_FIELDS: Record<string, number> = {
  double: 53,
  float: 24,
  half_float: 24,
  dense_vector: 24,
  rank_feature: 24,
};
const DATE_FIELDS = new Set(["date", "date_nanos"]);
/** Deepest jsonb that PostgreSQL's default stack surely parses. */
const JSON_DEPTH_MAX = 1000;
const LABEL_BYTES_MAX = 63;

/**
 * Compiles the exact conversion of one column. Its grammar is what Elasticsearch means by a value of the field, never
 * what PostgreSQL would make of it:
 * - arrays: nulls in them count for nothing where a single value is wanted, nested arrays are flattened;
 * - in a numeric field a string is the number it spells and `""` is null; elsewhere a string must be a plain JSON number;
 * - 12.7 in an integer column is a reject, or by `round` what Elasticsearch indexed (12) or the nearest (13) elsewhere;
 * - dates are read by the field's `format`, zone-less as UTC.
 */
export function compileConvert(column: PlannedColumn): Convert {
  const type = column.valueType;
  const { part } = column;
  if (type.kind === "json" && !type.array && part === null) return compileJson(column);
  if (isVector(column)) return compileVector();
  const whole = type.kind === "json" ? compileJson(column) : compileScalar(column, type);
  const element = part === null ? whole : partConvert(part, whole);
  const isPoint = type.kind === "point" || takesCoordinates(part) || isPostgisPoint(column);
  if (type.array) return arrayConvert(column, element, isPoint);
  return (value, notes) => {
    if (value.kind === "array" && !(isPoint && isCoordinatePair(value.items))) {
      if (column.array === "json") return element(asText(value), notes);
      const items = leaves(value.items, isPoint).filter((item) => item.kind !== "null");
      const [first] = items;
      if (first === undefined) return null;
      if (items.length === 1 || column.array === "first") return element(first, notes);
      if (column.array === "join") {
        const texts: string[] = [];
        for (const item of items) {
          const text = plainText(item);
          if (text === null) return isObject();
          texts.push(text);
        }
        return element({ kind: "string", text: texts.join(","), raw: "" }, notes);
      }
      return new Refusal(
        "is_array",
        `The value is an array of ${items.length} and the column holds one value.`,
        "22P02",
      );
    }
    if (value.kind === "object" && column.array === "json" && type.kind === "text")
      return element(asText(value), notes);
    return value.kind === "null" ? null : element(value, notes);
  };
}

/** Converts a piece of the value; a value that lacks the piece is null. */
function partConvert(part: ValuePart, convert: Convert): Convert {
  return (value, notes) => {
    const taken = takePart(part, value);
    if (taken instanceof Refusal) return taken;
    if (!taken.exact) notes.rounded = true;
    return taken.value === null ? null : convert(taken.value, notes);
  };
}

function arrayConvert(column: PlannedColumn, element: Convert, isPoint: boolean): Convert {
  return (given, notes) => {
    if (given.kind === "null") return null;
    const value = vectorElements(column, given);
    const isOne = value.kind !== "array" || (isPoint && isCoordinatePair(value.items));
    let items = isOne ? [value] : column.valueType.kind === "json" ? value.items : leaves(value.items, isPoint);
    if (column.array === "first") items = items.filter((item) => item.kind !== "null").slice(0, 1);
    if (column.array === "json") items = [asText(value)];
    const texts: string[] = [];
    for (const item of items) {
      const text = item.kind === "null" ? null : element(item, notes);
      if (text instanceof Refusal) return text;
      texts.push(text === null ? "NULL" : `"${text.replace(/["\\]/g, "\\$&")}"`);
    }
    return `{${texts.join(",")}}`;
  };
}

/** The values of an array and of the arrays in it, as Elasticsearch indexes them. */
function leaves(items: readonly JsonValue[], isPoint: boolean): JsonValue[] {
  return items.flatMap((item) =>
    item.kind === "array" && !(isPoint && isCoordinatePair(item.items)) ? leaves(item.items, isPoint) : [item],
  );
}

function asText(value: JsonValue): JsonValue {
  return { kind: "string", text: value.raw, raw: value.raw };
}

/** A scalar as it is written; null for objects. */
function plainText(value: JsonValue): string | null {
  if (value.kind === "string") return value.text;
  return value.kind === "number" || value.kind === "boolean" ? value.raw : null;
}

function isObject(): Refusal {
  return new Refusal("is_object", "The value is an object and the column holds one value.", "22P02");
}

function compileScalar(column: PlannedColumn, type: ValueType): Convert {
  switch (type.kind) {
    case "integer":
      return compileInteger(column, type);
    case "numeric":
      return compileNumeric(column, type);
    case "float":
      return compileFloat(column, type);
    case "boolean":
      return compileBoolean(column);
    case "text":
      return compileText(column, type);
    case "timestamptz":
    case "timestamp":
    case "date":
      return compileDate(column, type);
    case "point":
      return compilePoint(column);
    case "range":
      return compileRange(column, type);
    case "time":
      return compileTime(column, type);
    case "json":
      return compileJson(column);
    case "uuid":
      return matching(
        /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/i,
        new Refusal("not_a_uuid", "The value is not a UUID of 36 characters.", "22P02"),
      );
    case "macaddr":
      return matching(
        /^[0-9a-f]{2}(?:([:-])[0-9a-f]{2})(?:\1[0-9a-f]{2}){4}$/i,
        new Refusal("not_a_macaddr", "The value is not six pairs of hexadecimal digits.", "22P02"),
      );
    case "interval":
      return matching(
        /^-?P(?=[\dT])(?:-?\d{1,9}Y)?(?:-?\d{1,9}M)?(?:-?\d{1,9}W)?(?:-?\d{1,9}D)?(?:T(?=[-\d])(?:-?\d{1,9}H)?(?:-?\d{1,9}M)?(?:-?\d{1,9}(?:\.\d{1,6})?S)?)?$/,
        new Refusal("not_an_interval", "The value is not a duration of ISO 8601 such as P1DT2H.", "22007"),
      );
    case "inet":
    case "cidr":
      return compileAddress(column, type.kind);
    case "bytea":
      return compileBytes(column);
    case "enum":
      return compileEnum(type);
    default:
      return extensionConvert(column, (text, notes) => cleanText(text, column, notes)) ?? compileText(column, type);
  }
}

function compileInteger(column: PlannedColumn, type: ValueType): Convert {
  const most = 2n ** BigInt(type.bits - 1) - 1n;
  const truncates = INTEGER_FIELDS.has(column.field?.type ?? "");
  const refusal = new Refusal("not_an_integer", `The value is not a number, and the column is ${type.base}.`, "22P02");
  const tooBig = new Refusal("out_of_range", `The number is out of range for ${type.base}.`, "22003");
  const fraction = new Refusal("fraction", `The number has a fraction, and the column is ${type.base}.`, "22P02");
  if (column.field?.type === "date_nanos") return compileNanos(column, tooBig, most);
  return (value, notes) => {
    const decimal = readNumber(value, column, refusal);
    if (decimal === null || decimal instanceof Refusal) return decimal;
    if (decimal === "huge" || integerDigits(decimal) > 19) return tooBig;
    const whole = rescale(decimal, 0, truncates ? "truncate" : "half-up");
    if (!whole.exact) {
      if (column.round === "reject") return fraction;
      notes.rounded = true;
    }
    const text = decimalText(whole.decimal.digits === "" ? { ...whole.decimal, scale: 0 } : whole.decimal);
    const integer = BigInt(text);
    return integer > most || integer < -most - 1n ? tooBig : text;
  };
}

/** A date_nanos in an integer column is what Elasticsearch indexes: the nanoseconds since 1970. */
function compileNanos(column: PlannedColumn, tooBig: Refusal, most: bigint): Convert {
  const read = readInstant(column);
  return (value) => {
    const instant = read(value);
    if (instant instanceof Refusal) return instant;
    const nanos = BigInt(instant.seconds) * 1_000_000_000n + BigInt(instant.nanos);
    return nanos > most || nanos < -most - 1n ? tooBig : String(nanos);
  };
}

function compileNumeric(column: PlannedColumn, type: ValueType): Convert {
  const refusal = new Refusal("not_a_number", "The value is not a number, and the column is numeric.", "22P02");
  const scale = type.scale ?? NUMERIC_SCALE_MAX;
  const digitsMax = type.precision === null ? NUMERIC_INTEGER_DIGITS_MAX : type.precision - scale;
  const named = type.precision === null ? "numeric" : `numeric(${type.precision},${scale})`;
  const tooBig = new Refusal("out_of_range", `The number has more digits than ${named} holds.`, "22003");
  const tooFine = new Refusal("too_precise", `The number has more fraction digits than ${named} keeps.`, null);
  return (value, notes) => {
    const decimal = readNumber(value, column, refusal);
    if (decimal === null || decimal instanceof Refusal) return decimal;
    if (decimal === "huge" || integerDigits(decimal) > Math.max(0, digitsMax)) return tooBig;
    const scaled = rescale(decimal, scale, "half-up");
    if (!scaled.exact) {
      if (column.round === "reject") return tooFine;
      notes.rounded = true;
    }
    if (scaled.decimal.digits !== "") {
      // Below the point leading zeros count too: numeric(2,4) holds 0.0012 and not 0.0123.
      if (scaled.decimal.digits.length - scaled.decimal.scale > digitsMax) return tooBig;
    }
    return decimalText(scaled.decimal);
  };
}

function compileFloat(column: PlannedColumn, type: ValueType): Convert {
  const refusal = new Refusal("not_a_number", `The value is not a number, and the column is ${type.base}.`, "22P02");
  const tooBig = new Refusal("out_of_range", `The number is out of range for ${type.base}.`, "22003");
  const tooFine = new Refusal("too_precise", `The number has more digits than ${type.base} keeps.`, null);
  // To a float field of the same width a long fraction means its nearest float; a long integer is an id, not a measure.
  const meansFloat = (FLOAT_FIELDS[column.field?.type ?? ""] ?? 64) <= type.bits;
  return (value, notes) => {
    const decimal = readNumber(value, column, refusal);
    if (decimal === null || decimal instanceof Refusal) return decimal;
    const float = decimal === "huge" ? "out_of_range" : readFloat(decimal, type.bits);
    if (decimal === "huge" || float === "out_of_range") return tooBig;
    if (!float.exact) {
      if (column.round === "reject" && !(meansFloat && decimal.scale > 0)) return tooFine;
      notes.rounded = true;
    }
    return float.text;
  };
}

/** The number a value spells, null where Elasticsearch takes it for null. */
function readNumber(value: JsonValue, column: PlannedColumn, refusal: Refusal): Decimal | "huge" | null | Refusal {
  if (value.kind === "number") return parseDecimal(value.raw, { lenient: false }) ?? refusal;
  if (value.kind === "object") return isObject();
  if (value.kind !== "string") return new Refusal("wrong_kind", `The value is a ${value.kind}, no number.`, "22P02");
  const isNumeric = NUMERIC_FIELDS.has(column.field?.type ?? "");
  if (isNumeric && value.text === "") return null;
  return parseDecimal(value.text, { lenient: isNumeric }) ?? refusal;
}

function compileBoolean(column: PlannedColumn): Convert {
  const isBoolean = column.field?.type === "boolean";
  return (value) => {
    const text = value.kind === "string" ? value.text : value.raw;
    if (value.kind === "boolean" || value.kind === "string") {
      if (text === "true" || text === "false") return text;
      if (text === "" && isBoolean) return "false";
    }
    if (value.kind === "object") return isObject();
    return new Refusal("not_a_boolean", 'The value is neither true nor false, nor "true" or "false".', "22P02");
  };
}

function compileText(column: PlannedColumn, type: ValueType): Convert {
  return (value, notes) => {
    let text = plainText(value);
    if (text === null) {
      const relation =
        column.field?.type === "join" && value.kind === "object" ? new Map(value.entries).get("name") : undefined;
      if (relation?.kind !== "string") return isObject();
      text = relation.text;
    }
    const clean = cleanText(text, column, notes);
    if (clean instanceof Refusal) return clean;
    if (type.length !== null && isLonger(clean, type.length)) {
      return new Refusal("too_long", `The text is longer than the ${type.length} characters of the column.`, "22001");
    }
    return clean;
  };
}

function isLonger(text: string, characters: number): boolean {
  if (text.length <= characters) return false;
  // A character outside of the basic plane is two units of a JavaScript string and one character to PostgreSQL.
  return text.length > characters * 2 || Array.from(text).length > characters;
}

/** The text without what PostgreSQL cannot hold, by the column's policies. */
export function cleanText(
  text: string,
  column: Pick<PlannedColumn, "nul" | "encoding">,
  notes: Notes,
): string | Refusal {
  let clean = text;
  if (clean.includes("\0")) {
    if (column.nul === "reject") {
      return new Refusal("nul", "The text holds U+0000, which PostgreSQL cannot store.", "22021");
    }
    clean = clean.replaceAll("\0", column.nul === "strip" ? "" : "\uFFFD");
    notes.replaced = true;
  }
  if (!clean.isWellFormed()) {
    if (column.encoding === "reject") {
      return new Refusal("lone_surrogate", "The text holds half of a surrogate pair, which is no character.", "22P05");
    }
    clean = clean.toWellFormed();
    notes.replaced = true;
  }
  return clean;
}

/** The formats a column's texts are dates by. */
export function dateFormat(column: PlannedColumn): string {
  if (column.format !== null) return column.format;
  const { field } = column;
  if (field?.format !== undefined) return field.format;
  if (field?.type === "date_nanos") return DEFAULT_DATE_NANOS_FORMAT;
  return DATE_FIELDS.has(field?.type ?? "") || field?.type === "date_range" ? DEFAULT_DATE_FORMAT : TEXT_DATE_FORMAT;
}

function readInstant(column: PlannedColumn): (value: JsonValue) => Instant | Refusal {
  const format = dateFormat(column);
  const reader = dateReader(format);
  const notADate = new Refusal("not_a_date", `The value is no date of the format ${format}.`, "22007");
  return (value) => {
    if (reader.read === null) {
      return new Refusal("unknown_date_format", `The date format ${reader.unknown} is not known here.`, null);
    }
    if (value.kind === "object") return isObject();
    if (value.kind === "boolean" || value.kind === "null" || value.kind === "array") return notADate;
    const instant = reader.read(value.kind === "number" ? value.raw : value.text);
    if (instant === null) return notADate;
    return isInTimestampRange(instant)
      ? instant
      : new Refusal("out_of_range", "The date is beyond what a timestamp holds.", "22008");
  };
}

function compileDate(column: PlannedColumn, type: ValueType): Convert {
  const read = readInstant(column);
  const digits = type.kind === "date" ? 6 : (type.scale ?? 6);
  const rounds = column.round === "round" || DATE_FIELDS.has(column.field?.type ?? "");
  const tooFine = new Refusal("too_precise", `The date has more than ${digits} fraction digits of a second.`, null);
  const timeOfDay = new Refusal("time_of_day", "The date has a time of day, and the column is date.", null);
  return (value, notes) => {
    const precise = read(value);
    if (precise instanceof Refusal) return precise;
    if (type.kind === "date") {
      const { date, time, era } = instantText(precise);
      if (time !== "00:00:00") {
        if (column.round === "reject") return timeOfDay;
        notes.rounded = true;
      }
      return `${date}${era}`;
    }
    const { instant, exact } = roundInstant(precise, digits);
    if (!exact) {
      if (!rounds) return tooFine;
      notes.rounded = true;
    }
    const { date, time, era } = instantText(instant);
    return `${date} ${time}${type.kind === "timestamptz" ? "+00" : ""}${era}`;
  };
}

function compileTime(column: PlannedColumn, type: ValueType): Convert {
  const refusal = new Refusal("not_a_time", "The value is not a time of day such as 10:00:00.", "22007");
  const tooFine = new Refusal("too_precise", "The time has more fraction digits than the column keeps.", null);
  const reader = column.format === null ? null : readInstant(column);
  const plain = dateReader("strict_hour_minute_second_fraction||strict_hour_minute_second||strict_hour_minute");
  return (value, notes) => {
    const precise =
      reader !== null ? reader(value) : value.kind === "string" ? (plain.read?.(value.text) ?? refusal) : refusal;
    if (precise instanceof Refusal) return precise;
    const { instant, exact } = roundInstant(precise, type.scale ?? 6);
    if (!exact) {
      if (column.round === "reject") return tooFine;
      notes.rounded = true;
    }
    // Only texts without a day are times; 24:00 by rounding is the end of the day to PostgreSQL too.
    if (instant.seconds === 86_400) return "24:00:00";
    return instant.seconds < 0 || instant.seconds > 86_400 ? refusal : instantText(instant).time;
  };
}

function matching(expression: RegExp, refusal: Refusal): Convert {
  return (value) => {
    if (value.kind === "object") return isObject();
    return value.kind === "string" && expression.test(value.text) ? value.text : refusal;
  };
}

function compileAddress(column: PlannedColumn, kind: "inet" | "cidr"): Convert {
  const takesPrefix = column.field?.type !== "ip";
  // The bits behind the prefix of an ip_range count for nothing to Elasticsearch.
  const isRange = column.field?.type === "ip_range";
  const refusal = new Refusal(
    "not_an_ip",
    `The value is not an IPv4 or IPv6 ${kind === "cidr" ? "network" : "address"}.`,
    "22P02",
  );
  return (value) => {
    if (isRange && kind === "cidr" && (value.kind === "string" || value.kind === "object")) return networkOf(value);
    if (value.kind === "object") return isObject();
    if (value.kind !== "string") return refusal;
    const [address = "", prefix, ...rest] = value.text.split("/");
    const bits = addressBits(address);
    if (bits === 0 || rest.length > 0) return refusal;
    if (prefix !== undefined && !(takesPrefix && /^\d{1,3}$/.test(prefix) && Number(prefix) <= bits)) return refusal;
    if (kind === "cidr" && prefix !== undefined && !isNetwork(address, Number(prefix), bits)) return refusal;
    return value.text;
  };
}

/** Whether no bit of the address is set behind the prefix. */
function isNetwork(address: string, prefix: number, bits: number): boolean {
  return (addressNumber(address) & ((1n << BigInt(bits - prefix)) - 1n)) === 0n;
}

function compileBytes(column: PlannedColumn): Convert {
  // A binary field holds base64; other texts may also be what PostgreSQL writes, which base64 cannot be taken for.
  const takesHex = column.field?.type !== "binary";
  const refusal = new Refusal("not_base64", "The value is not base64.", "22023");
  return (value) => {
    if (value.kind === "object") return isObject();
    if (value.kind !== "string") return refusal;
    if (takesHex && /^\\x(?:[0-9a-f]{2})*$/i.test(value.text)) return value.text;
    const base64 = value.text.replace(/[ \t\r\n]/g, "");
    if (base64.length % 4 !== 0 || !/^[A-Za-z0-9+/]*={0,2}$/.test(base64)) return refusal;
    return `\\x${Buffer.from(base64, "base64").toString("hex")}`;
  };
}

function compileEnum(type: ValueType): Convert {
  const labels = new Set(type.labels);
  const refusal = new Refusal("unknown_label", `The value is no label of ${type.base}.`, "22P02");
  return (value) => {
    if (value.kind === "object") return isObject();
    const text = plainText(value);
    return text !== null && Buffer.byteLength(text) <= LABEL_BYTES_MAX && labels.has(text) ? text : refusal;
  };
}

function compilePoint(column: PlannedColumn): Convert {
  const refusal = new Refusal("not_a_point", "The value is none of the six forms of a geo_point.", "22P02");
  const isGeo = column.field === null || column.field.type === "geo_point" || column.field.type === "object";
  return (value, notes) => {
    const point = isGeo ? readGeoPoint(value) : null;
    if (point === null) return refusal;
    if (!point.exact) notes.rounded = true;
    return `(${point.longitude},${point.latitude})`;
  };
}

const RANGE_ELEMENTS: Record<string, string> = {
  int4range: "integer",
  int8range: "bigint",
  numrange: "numeric",
  tsrange: "timestamp without time zone",
  tstzrange: "timestamp with time zone",
  daterange: "date",
};
function compileRange(column: PlannedColumn, type: ValueType): Convert {
  const elementType = parseValueType(RANGE_ELEMENTS[type.base] ?? "text");
  const fieldType = RANGE_FIELDS[column.field?.type ?? ""];
  const bound = compileScalar(
    {
      ...column,
      valueType: elementType,
      field: column.field === null || fieldType === undefined ? null : { ...column.field, type: fieldType },
    },
    elementType,
  );
  const reversed = new Refusal("not_a_range", "The range ends before it starts, or holds nothing.", "22000");
  const isInteger = elementType.kind === "integer";
  return (value, notes) => {
    const sides = readSides(value);
    if (sides instanceof Refusal) return sides;
    let { lower, upper } = sides;
    const low = lower === null ? null : bound(lower.limit, notes);
    if (low instanceof Refusal) return low;
    const high = upper === null ? null : bound(upper.limit, notes);
    if (high instanceof Refusal) return high;
    if (low === null) lower = null;
    if (high === null) upper = null;
    if (low !== null && high !== null && isEmpty(low, high, lower?.open === true, upper?.open === true, elementType)) {
      return reversed;
    }
    const greatest = isInteger && 2n ** BigInt(elementType.bits - 1) - 1n;
    if (low !== null && lower?.open === true && greatest !== false && BigInt(low) === greatest) return reversed;
    // PostgreSQL writes integer ranges with an open end, which the greatest integer has no room for.
    const isEndless = high === null || (upper?.open === false && greatest !== false && BigInt(high) === greatest);
    return `${low === null || lower?.open === true ? "(" : "["}${quoteBound(low ?? "")},${isEndless ? "" : quoteBound(high)}${isEndless || upper?.open === true ? ")" : "]"}`;
  };
}

function quoteBound(text: string): string {
  return text === "" ? "" : `"${text}"`;
}

/** Whether no value lies between two bounds, which are texts that this module wrote. */
function isEmpty(lower: string, upper: string, openLower: boolean, openUpper: boolean, type: ValueType): boolean {
  if (type.kind === "integer") {
    return BigInt(lower) + (openLower ? 1n : 0n) > BigInt(upper) - (openUpper ? 1n : 0n);
  }
  const order = type.kind === "numeric" ? compareNumbers(lower, upper) : compareMoments(lower, upper);
  return order > 0 || (order === 0 && (openLower || openUpper));
}

function compareNumbers(lower: string, upper: string): number {
  const left = parseDecimal(lower, { lenient: false });
  const right = parseDecimal(upper, { lenient: false });
  if (left === null || left === "huge" || right === null || right === "huge") return 0;
  return compareDecimals(left, right);
}

function compareMoments(lower: string, upper: string): number {
  const left = momentKey(lower);
  const right = momentKey(upper);
  if (left.year !== right.year) return left.year - right.year;
  return left.rest === right.rest ? 0 : left.rest > right.rest ? 1 : -1;
}

function momentKey(text: string): { year: number; rest: string } {
  const year = Number(/^\d+/.exec(text)?.[0]);
  return { year: text.endsWith(" BC") ? -year : year, rest: text.replace(/^\d+/, "").replace(/\+00| BC/g, "") };
}

function compileJson(column: PlannedColumn): Convert {
  return (value, notes) => {
    if (value.kind === "null" && !column.valueType.array) return null;
    const source = column.array === "first" && value.kind === "array" ? (value.items[0] ?? value) : value;
    const problem = judgeJson(source, 0);
    if (problem === null) return source.raw;
    if (problem === "too_deep") {
      return new Refusal("too_deep", `The value nests deeper than ${JSON_DEPTH_MAX} levels.`, "54001");
    }
    if (problem === "out_of_range") {
      return new Refusal("out_of_range", "The value holds a number beyond what numeric keeps.", "22003");
    }
    return writeClean(source, column, notes);
  };
}

/** Why a value cannot be handed to jsonb byte by byte; null: it can. */
function judgeJson(value: JsonValue, depth: number): "too_deep" | "out_of_range" | "text" | null {
  if (depth > JSON_DEPTH_MAX) return "too_deep";
  switch (value.kind) {
    case "string":
      return isStorable(value.text) ? null : "text";
    case "number": {
      if (!/[eE]/.test(value.raw) && value.raw.length < NUMERIC_SCALE_MAX) return null;
      const decimal = parseDecimal(value.raw, { lenient: false });
      if (decimal === null || decimal === "huge") return "out_of_range";
      return decimal.scale > NUMERIC_SCALE_MAX || integerDigits(decimal) > NUMERIC_INTEGER_DIGITS_MAX
        ? "out_of_range"
        : null;
    }
    case "array":
      return worst(value.items, depth);
    case "object":
      for (const [name] of value.entries) if (!isStorable(name)) return worst(entryValues(value), depth) ?? "text";
      return worst(entryValues(value), depth);
    default:
      return null;
  }
}

function entryValues(value: Extract<JsonValue, { kind: "object" }>): JsonValue[] {
  return value.entries.map(([, entry]) => entry);
}

function worst(values: readonly JsonValue[], depth: number): "too_deep" | "out_of_range" | "text" | null {
  let found: "text" | null = null;
  for (const value of values) {
    const problem = judgeJson(value, depth + 1);
    if (problem === "too_deep" || problem === "out_of_range") return problem;
    found = problem ?? found;
  }
  return found;
}

function isStorable(text: string): boolean {
  return !text.includes("\0") && text.isWellFormed();
}

/** Writes JSON anew with clean strings; numbers keep their text. */
function writeClean(value: JsonValue, column: PlannedColumn, notes: Notes): string | Refusal {
  const string = (text: string) => {
    const clean = cleanText(text, column, notes);
    return clean instanceof Refusal ? clean : JSON.stringify(clean);
  };
  switch (value.kind) {
    case "string":
      return string(value.text);
    case "array":
      return listText(
        value.items.map((item) => writeClean(item, column, notes)),
        "[",
        "]",
      );
    case "object":
      return listText(
        value.entries.map(([name, entry]) => {
          const key = string(name);
          if (key instanceof Refusal) return key;
          const text = writeClean(entry, column, notes);
          return text instanceof Refusal ? text : `${key}:${text}`;
        }),
        "{",
        "}",
      );
    default:
      return value.raw;
  }
}

function listText(parts: readonly (string | Refusal)[], open: string, close: string): string | Refusal {
  const texts: string[] = [];
  for (const part of parts) {
    if (part instanceof Refusal) return part;
    texts.push(part);
  }
  return `${open}${texts.join(",")}${close}`;
}
