import { nearest, ToolError } from "@es-to-pg/mcp-kit";
import type { Transaction } from "../postgres/index.ts";
import { parseValueType, type ValueType } from "./value-type.ts";

/**
 * The only texts that are spliced into SQL as types: a name of words or quoted identifiers, perhaps qualified, with
 * numbers as modifier, brackets, and the words of time zones. Everything else about a type is PostgreSQL's to judge.
 */
const TYPE_TEXT =
  /^\s*(?:(?:[A-Za-z_][\w$]*|"(?:[^"\0]|"")+")\.)?(?:[A-Za-z_][\w$]*(?: +[A-Za-z]+){0,3}|"(?:[^"\0]|"")+")\s*(?:\(\s*-?[\w]+\s*(?:,\s*-?\w+\s*)?\))?(?: +with(?:out)? +time +zone)?\s*(?:\[\s*\]|\s+array)*\s*$/i;

/** What a column says besides its type. */
const BESIDES = / (?:not|null|primary|unique|default|references)\b/i;

/** A length and a list of other databases, which PostgreSQL cannot even parse. */
const ELSEWHERE_ONLY = /\(\s*max\s*\)|^\s*array\s*$/i;

/** Types written for people, as PostgreSQL spells them in full (`varchar(50)` is `character varying(50)`). */
export async function formatTypes(tx: Transaction, types: readonly string[]): Promise<Map<string, string>> {
  const wanted = [...new Set(types)];
  for (const type of wanted) {
    const words = type.replaceAll(/"(?:[^"]|"")*"/g, "");
    if (!TYPE_TEXT.test(type) || BESIDES.test(words) || ELSEWHERE_ONLY.test(words)) throw unknownType(type);
  }
  if (wanted.length === 0) return new Map();
  const { rows } = await tx.query(
    "SELECT pg_catalog.format_type(pg_catalog.to_regtype(w), NULL) FROM pg_catalog.unnest($1::text[]) WITH ORDINALITY AS t(w, n) ORDER BY n",
    [wanted],
  );
  const formatted = new Map<string, string>();
  for (const [index, type] of wanted.entries()) {
    const base = rows[index]?.[0];
    if (typeof base !== "string") throw unknownType(type);
    formatted.set(type, withModifier(base, type));
  }
  return formatted;
}

function withModifier(base: string, written: string): string {
  const modifier = /\(\s*(-?\w+)\s*(?:,\s*(-?\w+)\s*)?\)/.exec(written.replace(/"(?:[^"]|"")*"/g, ""));
  if (modifier === null) {
    // SQL's char without a length is char(1).
    return /^\s*char(?:acter)?\s*(?:\[|$)/i.test(written) ? base.replace(/^character/, "character(1)") : base;
  }
  const element = base.replace(/\[\]$/, "");
  const digits = element === "numeric" ? [modifier[1], modifier[2] ?? "0"] : [modifier[1], modifier[2]];
  const text = `(${digits.filter((digit) => digit !== undefined).join(",")})`;
  const zone = / with(?:out)? time zone$/.exec(element)?.[0] ?? "";
  const name = element.slice(0, element.length - zone.length);
  return `${name}${text}${zone}${base.endsWith("[]") ? "[]" : ""}`;
}

/** What types of Elasticsearch and of other databases are called here. */
const ELSEWHERE: Readonly<Record<string, string>> = {
  keyword: "text",
  constant_keyword: "text",
  wildcard: "text",
  string: "text",
  str: "text",
  longtext: "text",
  clob: "text",
  nvarchar: "varchar",
  varchar2: "varchar",
  long: "bigint",
  int64: "bigint",
  unsigned_long: "numeric(20,0)",
  short: "smallint",
  byte: "smallint",
  tinyint: "smallint",
  int32: "integer",
  half_float: "real",
  scaled_float: "numeric",
  double: "double precision",
  float64: "double precision",
  number: "numeric",
  datetime: "timestamptz",
  datetime2: "timestamptz",
  date_nanos: "timestamptz",
  object: "jsonb",
  nested: "jsonb",
  flattened: "jsonb",
  map: "jsonb",
  ip: "inet",
  binary: "bytea",
  blob: "bytea",
  geo_point: "point",
  bit: "boolean",
  guid: "uuid",
  uniqueidentifier: "uuid",
  array: "text[]",
  list: "text[]",
};

const TYPES =
  "text,varchar,smallint,integer,bigint,numeric,real,double precision,boolean,date,timestamp,timestamptz,time,interval,uuid,jsonb,json,bytea,inet,point".split(
    ",",
  );

function unknownType(type: string): ToolError {
  const plain = type.trim().toLowerCase();
  const [, name = plain, rest = ""] = /^([a-z_0-9 ]+?)\s*((?:\([^)]*\))?(?:\[\])?)$/.exec(plain) ?? [];
  const counted = name.endsWith("serial");
  const here = /^\(\s*max\s*\)$/.test(rest) ? "text" : ELSEWHERE[name];
  // A near type without what was said besides would be another column.
  const others = counted || BESIDES.test(name) ? [] : nearest(name, TYPES);
  const near = here === undefined ? others : [here];
  return new ToolError("unknown_type", "PostgreSQL knows no such type.", {
    next: nextOf(name),
    // A length belongs to few types only; an array to all.
    details: {
      type: type.slice(0, 100),
      nearest: near.map(
        (known) => `${known}${known === "varchar" || known === "numeric" ? rest : rest.replace(/\(.*\)/, "")}`,
      ),
    },
  });
}

function nextOf(name: string): string {
  if (name.endsWith("serial")) {
    return 'Say {"name":"id","type":"bigint","identity":true} for numbers that count up.';
  }
  if (BESIDES.test(name)) {
    return "A type stands alone: not_null and default are members of the column, primary_key and indexes arguments of the call.";
  }
  return "Use a type such as text, varchar(50), bigint, numeric(10,2), timestamptz, boolean, jsonb or text[].";
}

const WHAT_LIES_BENEATH = `
WITH RECURSIVE beneath AS (
  SELECT t.oid AS asked, t.oid, t.typtype, t.typbasetype, t.typelem, t.typcategory, NULL::int4 AS modifier
  FROM pg_catalog.unnest($1::text[]) AS w(name) JOIN pg_catalog.pg_type t ON t.oid = pg_catalog.to_regtype(w.name)
  UNION ALL
  SELECT b.asked, t.oid, t.typtype, t.typbasetype, t.typelem, t.typcategory,
         coalesce(b.modifier, nullif(d.typtypmod, -1))
  FROM beneath b
  JOIN pg_catalog.pg_type d ON d.oid = b.oid
  JOIN pg_catalog.pg_type t ON t.oid = b.typbasetype
  WHERE b.typtype = 'd'
)
SELECT pg_catalog.format_type(b.asked, NULL), pg_catalog.format_type(b.oid, b.modifier),
       (SELECT pg_catalog.json_agg(e.enumlabel ORDER BY e.enumsortorder)::text FROM pg_catalog.pg_enum e
        WHERE e.enumtypid = CASE WHEN b.typcategory = 'A' THEN b.typelem ELSE b.oid END)
FROM beneath b WHERE b.typtype <> 'd'`;

/** The grammars of types as `format_type` spells them; of domains and enums what lies beneath is read from the catalog. */
export async function valueTypes(tx: Transaction, types: readonly string[]): Promise<(type: string) => ValueType> {
  const unknown = [...new Set(types)].filter((type) => parseValueType(type).kind === "other");
  const beneath = new Map<string, ValueType>();
  if (unknown.length > 0) {
    // A type's own modifier is no part of its name.
    const names = unknown.map((type) => type.replace(/\([^()"]*\)(?=(?:\[\])?$)/, ""));
    const { rows } = await tx.query(WHAT_LIES_BENEATH, [names]);
    for (const [asked, formatted, labels] of rows) {
      const type = parseValueType(String(formatted));
      const known: unknown = typeof labels === "string" ? JSON.parse(labels) : null;
      beneath.set(String(asked), Array.isArray(known) ? { ...type, kind: "enum", labels: known.map(String) } : type);
    }
  }
  return (type) => beneath.get(type) ?? parseValueType(type);
}
