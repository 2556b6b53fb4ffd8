/** The grammars that a value can be held to; `other` is text that only a cast in the merge can judge. */
type ValueKind =
  | "integer"
  | "numeric"
  | "float"
  | "boolean"
  | "text"
  | "timestamptz"
  | "timestamp"
  | "date"
  | "time"
  | "interval"
  | "uuid"
  | "inet"
  | "cidr"
  | "macaddr"
  | "bytea"
  | "json"
  | "point"
  | "range"
  | "enum"
  | "other";

/** A PostgreSQL type as the row encoder sees it: the grammar of one value, and whether the column holds an array. */
export interface ValueType {
  kind: ValueKind;
  /** Name as `format_type` spells it, without modifier and brackets. */
  base: string;
  array: boolean;
  /** Bits of an integer, mantissa bits of a float. */
  bits: number;
  /** Most characters of a text; null: any. */
  length: number | null;
  /** Modifier of numeric; `scale` also holds the fraction digits of a time. */
  precision: number | null;
  scale: number | null;
  /** Labels of an enum. */
  labels: readonly string[] | null;
}

const KINDS: Record<string, Partial<ValueType> & { kind: ValueKind }> = {
  smallint: { kind: "integer", bits: 16 },
  integer: { kind: "integer", bits: 32 },
  bigint: { kind: "integer", bits: 64 },
  numeric: { kind: "numeric" },
  real: { kind: "float", bits: 24 },
  "double precision": { kind: "float", bits: 53 },
  boolean: { kind: "boolean" },
  text: { kind: "text" },
  "character varying": { kind: "text" },
  character: { kind: "text" },
  bpchar: { kind: "text" },
  citext: { kind: "text" },
  "timestamp with time zone": { kind: "timestamptz", scale: 6 },
  "timestamp without time zone": { kind: "timestamp", scale: 6 },
  date: { kind: "date", scale: 6 },
  "time without time zone": { kind: "time", scale: 6 },
  interval: { kind: "interval" },
  uuid: { kind: "uuid" },
  inet: { kind: "inet" },
  cidr: { kind: "cidr" },
  macaddr: { kind: "macaddr" },
  bytea: { kind: "bytea" },
  json: { kind: "json" },
  jsonb: { kind: "json" },
  point: { kind: "point" },
  int4range: { kind: "range" },
  int8range: { kind: "range" },
  numrange: { kind: "range" },
  tsrange: { kind: "range" },
  tstzrange: { kind: "range" },
  daterange: { kind: "range" },
};

/** Reads a type as `format_type` spells it: `numeric(10,2)`, `character varying(50)[]`, `timestamp(3) with time zone`. */
export function parseValueType(formatted: string): ValueType {
  const array = formatted.endsWith("[]");
  const element = array ? formatted.slice(0, formatted.indexOf("[]")) : formatted;
  const modifier = /\(([-\d, ]+)\)/.exec(element);
  const base = element.replace(/\([-\d, ]+\)/, "");
  const numbers = (modifier?.[1] ?? "").split(",").filter(Boolean).map(Number);
  const known: Partial<ValueType> & { kind: ValueKind } = KINDS[base] ?? { kind: "other" };
  const type: ValueType = {
    base,
    array,
    bits: 0,
    length: null,
    precision: null,
    scale: null,
    labels: null,
    ...known,
  };
  const [first, second] = numbers;
  if (type.kind === "text") {
    // format_type writes character(n) in full; "character" alone is character(1), and bpchar has no limit.
    type.length = first ?? (base === "character" ? 1 : null);
  } else if (type.kind === "numeric" && first !== undefined) {
    type.precision = first;
    type.scale = second ?? 0;
  } else if (
    (type.kind === "timestamptz" || type.kind === "timestamp" || type.kind === "time") &&
    first !== undefined
  ) {
    type.scale = first;
  }
  return type;
}

/** The type of a value's column in the stage: no modifier, no constraint, text where only a later cast can judge. */
export function stageTypeOf(type: ValueType): string {
  const plain = type.kind === "text" || type.kind === "enum" || type.kind === "other" ? "text" : type.base;
  return type.array ? `${plain}[]` : plain;
}
