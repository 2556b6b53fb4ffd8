/** Names of the built-in types as `format_type` prints them; other types are looked up in the catalog once. */
const builtInTypes: ReadonlyMap<number, string> = new Map([
  [16, "boolean"],
  [17, "bytea"],
  [18, '"char"'],
  [19, "name"],
  [20, "bigint"],
  [21, "smallint"],
  [23, "integer"],
  [25, "text"],
  [26, "oid"],
  [114, "json"],
  [700, "real"],
  [701, "double precision"],
  [1043, "character varying"],
  [1082, "date"],
  [1114, "timestamp without time zone"],
  [1184, "timestamp with time zone"],
  [1700, "numeric"],
  [2205, "regclass"],
  [2950, "uuid"],
  [3802, "jsonb"],
  [1007, "integer[]"],
  [1009, "text[]"],
  [1016, "bigint[]"],
  [1231, "numeric[]"],
]);

/** The printed name of a built-in type, if it is one of the usual ones. */
export function builtInTypeName(oid: number, modifier: number): string | undefined {
  if (modifier === -1) return builtInTypes.get(oid);
  // Modifiers of lengths and digits count their own four bytes.
  const size = modifier - 4;
  if (oid === 1043) return `character varying(${size})`;
  if (oid === 1042) return `character(${size})`;
  if (oid !== 1700) return undefined;
  // The scale has eleven bits with its sign.
  return `numeric(${(size >> 16) & 0xffff},${((size & 0x7ff) ^ 1024) - 1024})`;
}

const booleanOid = 16;
const smallIntegerOids = new Set([21, 23, 26]);
const floatOids = new Set([700, 701]);

/**
 * One value of the text protocol as JSON can hold it without loss: booleans and small integers become themselves, a
 * float becomes a number (PostgreSQL prints the shortest text that reads back the same), all else stays exact text.
 */
export function renderValue(oid: number, text: string | null): string | number | boolean | null {
  if (text === null) return null;
  if (oid === booleanOid) return text === "t";
  if (smallIntegerOids.has(oid)) return Number(text);
  if (floatOids.has(oid)) {
    const number = Number(text);
    // JSON has no NaN and no infinity, and prints -0 as 0.
    return Number.isFinite(number) && !Object.is(number, -0) ? number : text;
  }
  return text;
}
