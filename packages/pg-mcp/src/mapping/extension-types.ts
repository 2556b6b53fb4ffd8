import type { Convert, Notes } from "./convert.ts";
import { readGeoPoint } from "./geo-point.ts";
import type { JsonValue } from "./json-value.ts";
import { parseDecimal, readFloat } from "./numbers.ts";
import type { PlannedColumn } from "./plan.ts";
import { Refusal } from "./refusal.ts";
import type { ValueType } from "./value-type.ts";

/** Mantissa bits of the elements of pgvector's vector. */
const VECTOR_BITS = 24;

/** Whether a type of an extension has this name, in whatever schema the extension is. */
function isNamed(type: ValueType, names: readonly string[]): boolean {
  return type.kind === "other" && !type.array && names.includes(type.base.replace(/\(.*$/, "").replace(/^.*\./, ""));
}

/** Whether the column is pgvector's, to which an array of numbers is one value. */
export function isVector({ valueType }: PlannedColumn): boolean {
  return isNamed(valueType, ["vector", "halfvec"]);
}

/** Whether the column holds a point of PostGIS. */
export function isPostgisPoint({ valueType, field }: PlannedColumn): boolean {
  return field?.type === "geo_point" && isNamed(valueType, ["geography", "geometry"]);
}

/** The conversion into a type of a well-known extension; undefined where text is all there is to it. */
export function extensionConvert(column: PlannedColumn, clean: (text: string, notes: Notes) => string | Refusal) {
  const { valueType, field } = column;
  if (isPostgisPoint(column)) return convertPoint;
  if (
    isNamed(valueType, ["geography", "geometry"]) &&
    field !== null &&
    /^(?:geo_shape|shape|point)$/.test(field.type)
  ) {
    return convertShape(clean);
  }
  return isNamed(valueType, ["hstore"]) ? convertMap(clean) : undefined;
}

const convertPoint: Convert = (value, notes) => {
  const point = readGeoPoint(value);
  if (point === null) return new Refusal("not_a_point", "The value is none of the six forms of a geo_point.", "22P02");
  if (!point.exact) notes.rounded = true;
  return `SRID=4326;POINT(${point.longitude} ${point.latitude})`;
};

/** PostGIS reads WKT and GeoJSON itself. */
function convertShape(clean: (text: string, notes: Notes) => string | Refusal): Convert {
  return (value, notes) => {
    if (value.kind === "string") return clean(value.text, notes);
    if (value.kind === "object") return clean(value.raw, notes);
    return new Refusal("wrong_kind", "The value is neither WKT nor GeoJSON.", "22P02");
  };
}

/** The leaves of an object by their dotted paths, each as text: what `flattened` makes of it. */
function convertMap(clean: (text: string, notes: Notes) => string | Refusal): Convert {
  return (value, notes) => {
    if (value.kind !== "object")
      return new Refusal("wrong_kind", "The value is no object, and the column is hstore.", "22P02");
    const pairs: string[] = [];
    const refusal = collect(value, "");
    return refusal ?? pairs.join(",");

    function collect(object: Extract<JsonValue, { kind: "object" }>, prefix: string): Refusal | undefined {
      for (const [name, entry] of object.entries) {
        if (entry.kind === "object") {
          const inside = collect(entry, `${prefix}${name}.`);
          if (inside !== undefined) return inside;
          continue;
        }
        if (entry.kind === "array") {
          return new Refusal("is_array", "The object holds an array, and hstore one text per name.", "22P02");
        }
        const key = clean(`${prefix}${name}`, notes);
        const text = clean(entry.kind === "string" ? entry.text : entry.raw, notes);
        if (key instanceof Refusal) return key;
        if (text instanceof Refusal) return text;
        pairs.push(`${quote(key)}=>${entry.kind === "null" ? "NULL" : quote(text)}`);
      }
      return undefined;
    }
  };
}

function quote(text: string): string {
  return `"${text.replace(/["\\]/g, "\\$&")}"`;
}

/** An array of numbers as one value of pgvector, its elements rounded to what a vector of Elasticsearch keeps too. */
export function compileVector(): Convert {
  const refusal = new Refusal("not_a_number", "The value is no array of numbers.", "22P02");
  return (value) => {
    if (value.kind === "null") return null;
    if (value.kind !== "array") return refusal;
    const texts: string[] = [];
    for (const item of value.items) {
      const decimal = item.kind === "number" ? parseDecimal(item.raw, { lenient: false }) : null;
      if (decimal === null) return refusal;
      const float = decimal === "huge" ? "out_of_range" : readFloat(decimal, VECTOR_BITS);
      if (float === "out_of_range")
        return new Refusal("out_of_range", "A number is out of range for a vector.", "22003");
      texts.push(float.text);
    }
    return `[${texts.join(",")}]`;
  };
}

/** A vector of bytes written as hexadecimal digits, as the array that it stands for; other values as they are. */
export function vectorElements({ field }: PlannedColumn, value: JsonValue): JsonValue {
  const element = field?.parameters?.["element_type"];
  const isBytes = field?.type === "dense_vector" && (element === "byte" || element === "bit");
  if (!isBytes || value.kind !== "string" || !/^(?:[0-9a-fA-F]{2})+$/.test(value.text)) return value;
  const items = [...Buffer.from(value.text, "hex")].map((byte): JsonValue => {
    return { kind: "number", raw: String(byte > 127 ? byte - 256 : byte) };
  });
  return { kind: "array", items, raw: value.raw };
}
