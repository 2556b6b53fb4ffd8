import type { MappingField } from "@es-to-pg/staging";
import { parseIpRange } from "./addresses.ts";
import { readGeoPoint } from "./geo-point.ts";
import type { JsonValue } from "./json-value.ts";
import { decimalText, parseDecimal, rescale } from "./numbers.ts";
import { RANGE_FIELDS, readSides, type Sides } from "./ranges.ts";
import { Refusal } from "./refusal.ts";

/** A piece of a value that a column of its own takes: `location.lat` of a geo_point, `period.lower` of a range. */
export interface ValuePart {
  name: string;
  /** Elasticsearch type of the whole value. */
  of: string;
}

const JOIN_PARTS = ["name", "parent"];
const POINT_PARTS = ["lat", "lon"];
const RANGE_PARTS = ["lower", "upper", "gte", "gt", "lte", "lt"];
const INTEGER_RANGES = ["integer_range", "long_range"];

/** The field by which a piece of a field's value is read; undefined where such values have no such piece. */
export function partOf(field: MappingField, name: string): { field: MappingField; part: ValuePart } | undefined {
  const type = partType(field.type, name);
  if (type === undefined) return undefined;
  const { format } = field;
  return {
    field: { path: `${field.path}.${name}`, type, ...(format === undefined ? {} : { format }) },
    part: { name, of: field.type },
  };
}

function partType(type: string, name: string): string | undefined {
  if (type === "geo_point") return POINT_PARTS.includes(name) ? "double" : undefined;
  if (type === "join") return JOIN_PARTS.includes(name) ? "keyword" : undefined;
  if (!RANGE_PARTS.includes(name)) return undefined;
  return type === "ip_range" ? "ip" : RANGE_FIELDS[type];
}

/** Whether an array such as `[lon,lat]` is one value and not two. */
export function takesCoordinates(part: ValuePart | null): boolean {
  return part?.of === "geo_point";
}

/** The piece as a value of its own; null where the value has none, such as the open side of a range. */
export function takePart(part: ValuePart, value: JsonValue): { value: JsonValue | null; exact: boolean } | Refusal {
  if (part.of === "geo_point") {
    const point = readGeoPoint(value);
    if (point === null)
      return new Refusal("not_a_point", "The value is none of the six forms of a geo_point.", "22P02");
    return { value: number(part.name === "lat" ? point.latitude : point.longitude), exact: point.exact };
  }
  if (part.of === "join") return takeJoin(part.name, value);
  const sides = part.of === "ip_range" ? parseIpRange(value) : readSides(value);
  if (sides instanceof Refusal) return sides;
  return { value: takeBound(part, sides), exact: true };
}

/** A join value is the relation's name, or an object of name and parent. */
function takeJoin(name: string, value: JsonValue): { value: JsonValue | null; exact: true } | Refusal {
  if (value.kind === "string") return { value: name === "name" ? value : null, exact: true };
  if (value.kind === "object") {
    const found = value.entries.find(([entry]) => entry === name)?.[1];
    return { value: found === undefined || found.kind === "null" ? null : found, exact: true };
  }
  return new Refusal("wrong_kind", "The value is neither a relation's name nor an object of name and parent.", "22P02");
}

/**
 * `lower` and `upper` of integers are inclusive, as Elasticsearch holds them; of dates and decimals they are the bounds
 * as written, whether the range includes them or not.
 */
function takeBound({ name, of }: ValuePart, { lower, upper }: Sides): JsonValue | null {
  const side = name === "lower" || name === "gte" || name === "gt" ? lower : upper;
  if (side === null) return null;
  if (name === "gte" || name === "lte") return side.open ? null : side.limit;
  if (name === "gt" || name === "lt") return side.open ? side.limit : null;
  if (!side.open || !INTEGER_RANGES.includes(of)) return side.limit;
  const text = side.limit.kind === "string" ? side.limit.text : side.limit.raw;
  const decimal = parseDecimal(text, { lenient: true });
  if (decimal === null || decimal === "huge") return side.limit;
  const whole = rescale(decimal, 0, "truncate").decimal;
  const integer = BigInt(decimalText(whole.digits === "" ? { ...whole, scale: 0 } : whole));
  return number(String(name === "lower" ? integer + 1n : integer - 1n));
}

function number(raw: string): JsonValue {
  return { kind: "number", raw };
}
