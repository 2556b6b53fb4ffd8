import type { FieldProfile, MappingField } from "./manifest.ts";

export interface TypeProposal {
  /** A PostgreSQL type such as `numeric(10,2)` or `text[]`; `none` for a field that `_source` does not hold. */
  type: string;
  /** Other types that hold the values, the most useful first. */
  alternatives: string[];
  /** Whether the field holds arrays that become an array type. */
  array: boolean;
  /** What a person should know before choosing, as short sentences. */
  notes: string[];
}

type Kind = Exclude<keyof FieldProfile["kinds"], "null">;

/** What a field's parameters and profile make of a row's types; a row states it where the types are not constant. */
type Derived = string | ((field: MappingField, profile: FieldProfile | undefined) => string | undefined);

interface TypeRow {
  types: readonly string[];
  type: Derived;
  alternatives?: readonly Derived[];
  /** JSON kinds that the type takes. A value of another kind is what `mixed` is for. */
  takes: readonly Kind[];
  /** Which strings the type takes, when it is not a type of strings: the profile's shape that they must have. */
  strings?: "number" | "boolean";
  /** `elements`: an array becomes an array type. `value`: an array is one value, or the type holds it as it is. */
  arrays: "elements" | "value";
  notes?: readonly Derived[];
}

const ANY: readonly Kind[] = ["string", "integer", "decimal", "boolean", "object"];
const SCALAR: readonly Kind[] = ["string", "integer", "decimal", "boolean"];
const NUMBER: readonly Kind[] = ["integer", "decimal", "string"];

/** Above the table, whose rows are made of it when the module loads. */
const INTEGER_LIMITS: readonly (readonly [string, bigint])[] = [
  ["smallint", 2n ** 15n],
  ["integer", 2n ** 31n],
  ["bigint", 2n ** 63n],
];

/** The table of types. One row per behaviour; every Elasticsearch type stands in exactly one. */
export const TYPE_ROWS: readonly TypeRow[] = [
  {
    types: ["keyword", "wildcard", "counted_keyword"],
    type: "text",
    alternatives: [uuidIfAll, varchar],
    takes: SCALAR,
    arrays: "elements",
    notes: [ignoreAbove],
  },
  {
    types: ["constant_keyword"],
    type: "text",
    alternatives: [varchar],
    takes: SCALAR,
    arrays: "elements",
    notes: [constantValue],
  },
  {
    types: ["text", "match_only_text", "search_as_you_type", "annotated_text", "pattern_text"],
    type: "text",
    alternatives: [varchar],
    takes: SCALAR,
    arrays: "elements",
    notes: [tooLongForAKey],
  },
  {
    types: ["long"],
    type: integerType("bigint"),
    alternatives: ["numeric"],
    takes: ["integer", "string"],
    strings: "number",
    arrays: "elements",
    notes: [coerced],
  },
  {
    types: ["integer"],
    type: integerType("integer"),
    alternatives: ["bigint", "numeric"],
    takes: ["integer", "string"],
    strings: "number",
    arrays: "elements",
    notes: [coerced],
  },
  {
    types: ["short", "byte"],
    type: integerType("smallint"),
    alternatives: ["integer", "bigint"],
    takes: ["integer", "string"],
    strings: "number",
    arrays: "elements",
    notes: [coerced],
  },
  {
    types: ["unsigned_long"],
    type: "numeric(20,0)",
    alternatives: [bigintIfItFits],
    takes: ["integer", "string"],
    strings: "number",
    arrays: "elements",
  },
  {
    types: ["double"],
    type: "double precision",
    alternatives: [numericOfDigits],
    takes: NUMBER,
    strings: "number",
    arrays: "elements",
    notes: [digitsBeyond(15)],
  },
  {
    types: ["float", "half_float"],
    type: "real",
    alternatives: [numericOfDigits, "double precision"],
    takes: NUMBER,
    strings: "number",
    arrays: "elements",
    notes: [digitsBeyond(6)],
  },
  {
    types: ["scaled_float"],
    type: scaledNumeric,
    alternatives: ["numeric", "double precision"],
    takes: NUMBER,
    strings: "number",
    arrays: "elements",
    notes: [scaledRounding],
  },
  {
    types: ["boolean"],
    type: "boolean",
    alternatives: ["text"],
    takes: ["boolean", "string"],
    strings: "boolean",
    arrays: "elements",
  },
  {
    types: ["date"],
    type: "timestamptz",
    alternatives: ["date", "timestamp"],
    takes: ["string", "integer"],
    arrays: "elements",
    notes: [dateFormat, onlyDays],
  },
  {
    types: ["date_nanos"],
    type: "timestamptz",
    alternatives: ["bigint", "text"],
    takes: ["string", "integer"],
    arrays: "elements",
    notes: [dateFormat, "timestamptz keeps microseconds: nanoseconds are rounded, so it must not be a key."],
  },
  {
    types: ["ip"],
    type: "inet",
    alternatives: ["text"],
    takes: ["string"],
    arrays: "elements",
    notes: ["inet refuses zone ids such as fe80::1%eth0."],
  },
  range("integer_range", "int4range"),
  range("long_range", "int8range"),
  range("float_range", "numrange"),
  range("double_range", "numrange"),
  {
    ...range("date_range", "tstzrange"),
    notes: [dateFormat, rangeBounds],
  },
  {
    types: ["ip_range"],
    type: "text",
    alternatives: ["cidr", "jsonb"],
    takes: ["string"],
    arrays: "elements",
    notes: [
      "cidr fits if every value is a prefix such as 10.0.0.0/8; `<field>.lower` and `<field>.upper` fill two inet.",
    ],
  },
  {
    types: ["geo_point"],
    type: "point",
    alternatives: ["jsonb", "geography(Point)"],
    takes: ["string", "object", "integer", "decimal"],
    arrays: "value",
    notes: [
      'point is (longitude, latitude). A text "lat,lon" has the other order than an array [lon,lat]; `<field>.lat` and `.lon` fill two double precision columns; PostGIS is needed for geography.',
    ],
  },
  {
    types: ["geo_shape", "shape", "point"],
    type: "jsonb",
    alternatives: ["text", "geometry"],
    takes: ANY,
    arrays: "value",
    notes: ["Values are GeoJSON objects or WKT texts; PostGIS is needed for geometry."],
  },
  {
    types: ["object", "passthrough"],
    type: "jsonb",
    alternatives: ["text"],
    takes: ANY,
    arrays: "value",
    notes: [disabledObject],
  },
  {
    types: ["nested"],
    type: "jsonb",
    takes: ANY,
    arrays: "value",
    notes: ["A child table is the other way: one row per element."],
  },
  { types: ["flattened"], type: "jsonb", alternatives: ["hstore"], takes: ANY, arrays: "value" },
  {
    types: ["dense_vector"],
    type: vectorElements,
    alternatives: [pgvector("vector"), "jsonb"],
    takes: ["integer", "decimal", "string"],
    strings: "number",
    arrays: "value",
    notes: ["The type vector needs the extension pgvector."],
  },
  {
    types: ["sparse_vector", "rank_features"],
    type: "jsonb",
    takes: ANY,
    arrays: "value",
  },
  {
    types: ["binary"],
    type: "bytea",
    alternatives: ["text"],
    takes: ["string"],
    arrays: "elements",
    notes: ["Values are base64 and are decoded."],
  },
  {
    types: ["version"],
    type: "text",
    takes: SCALAR,
    arrays: "elements",
    notes: ["text sorts 1.10 before 1.9."],
  },
  {
    types: ["histogram", "aggregate_metric_double", "tdigest", "exponential_histogram"],
    type: "jsonb",
    takes: ANY,
    arrays: "value",
  },
  {
    types: ["join"],
    type: "text",
    alternatives: ["jsonb"],
    takes: ANY,
    arrays: "value",
    notes: ["text takes the name of the relation; the parent's id, as from `<field>.parent`, is a column of its own."],
  },
  {
    types: ["rank_feature"],
    type: "real",
    alternatives: ["numeric"],
    takes: NUMBER,
    strings: "number",
    arrays: "elements",
  },
  { types: ["completion", "percolator", "semantic_text"], type: "jsonb", takes: ANY, arrays: "value" },
  {
    types: ["alias", "token_count", "murmur3", "runtime"],
    type: "none",
    takes: ANY,
    arrays: "value",
    notes: ["`_source` does not hold this field."],
  },
];

const ROW_OF_TYPE: ReadonlyMap<string, TypeRow> = new Map(
  TYPE_ROWS.flatMap((row) => row.types.map((type): [string, TypeRow] => [type, row])),
);

/** What a type that is not in the table gets: nothing is known of its values but that they are JSON. */
const UNKNOWN_ROW: TypeRow = {
  types: [],
  type: "jsonb",
  alternatives: ["text"],
  takes: ANY,
  arrays: "value",
  notes: ["This field type is not known here; jsonb holds whatever it is."],
};

/** The PostgreSQL type for a field, from its mapping and, where there is one, from what the documents really hold. */
export function proposeType(field: MappingField, profile?: FieldProfile): TypeProposal {
  if (field.multi_field === true) {
    return { type: "none", alternatives: [], array: false, notes: ["A multi-field holds the value of its parent."] };
  }
  const row = ROW_OF_TYPE.get(field.type) ?? UNKNOWN_ROW;
  const notes = derive(row.notes, field, profile);
  let type = one(row.type, field, profile) ?? "jsonb";
  let alternatives = derive(row.alternatives, field, profile);
  let arrays = row.arrays;

  const conflicts = (field.conflicts ?? []).filter((other) => other !== field.type);
  if (conflicts.length > 0) {
    const types = [
      type,
      ...conflicts.map((other) => one((ROW_OF_TYPE.get(other) ?? UNKNOWN_ROW).type, field, profile) ?? "jsonb"),
    ];
    const common = commonType(types);
    notes.push(`Other indices map it as ${conflicts.join(", ")}.`);
    if (common !== type) {
      alternatives = [type, ...alternatives];
      type = common;
      arrays = common === "jsonb" ? "value" : "elements";
    }
  }

  if (profile !== undefined && type !== "none") {
    const other = mixed(row, profile);
    if (conflicts.length === 0 && other !== undefined) {
      notes.unshift(other.note);
      alternatives = [type, ...alternatives];
      type = other.type;
      arrays = type === "jsonb" ? "value" : "elements";
    }
    notes.push(...profileNotes(profile, type));
  }
  const array = arrays === "elements" && (profile?.arrays ?? 0) > 0;
  if (array) {
    alternatives = [...alternatives.map((alternative) => `${alternative}[]`), "jsonb"];
    type = `${type}[]`;
    if (profile !== undefined && profile.arrays < profile.present) {
      notes.push("Some documents hold one value, some an array; one value becomes an array of one.");
    }
  }
  if (field.nested === true)
    notes.push("Inside a nested object: a column of a child table, or part of the parent's jsonb.");
  if (field.parameters?.null_value !== undefined) {
    notes.push(`Elasticsearch reads null as ${quote(field.parameters.null_value)}; \`_source\` says null.`);
  }
  return { type, alternatives: [...new Set(alternatives)].filter((name) => name !== type), array, notes };
}

/** The type that holds what the documents hold, where the mapped one does not. */
function mixed(row: TypeRow, profile: FieldProfile): { type: string; note: string } | undefined {
  const { kinds, shapes } = profile;
  const strange = ANY.filter((kind) => kinds[kind] > 0 && !row.takes.includes(kind));
  const badStrings = row.strings === undefined ? 0 : kinds.string - shapes[row.strings] - shapes.empty;
  if (strange.length === 0 && badStrings <= 0) return undefined;
  const found = ANY.filter((kind) => kinds[kind] > 0).map((kind) => `${kind} ${kinds[kind]}`);
  const values = `The documents hold values that the mapped type does not take (${found.join(", ")})`;
  if (kinds.object > 0) return { type: "jsonb", note: `${values}; jsonb holds them all.` };
  // Whole numbers written 12.7: Elasticsearch cuts them in its index, `_source` does not.
  const numbersOnly = row.strings === "number" && badStrings <= 0 && strange.every((kind) => kind === "decimal");
  if (numbersOnly) return { type: "numeric", note: `${values}; numeric keeps the fractions that the mapping cuts.` };
  return { type: "text", note: `${values}; text holds them all.` };
}

function profileNotes(profile: FieldProfile, type: string): string[] {
  const notes: string[] = [];
  if (profile.present === 0) notes.push("No profiled document has this field.");
  const { empty, nul } = profile.shapes;
  if (nul > 0) notes.push(`Values with U+0000, which PostgreSQL cannot store: ${nul}. Choose a nul policy.`);
  const textual = type === "text" || type === "jsonb" || type.startsWith("varchar");
  if (empty > 0 && type === "boolean") notes.push(`Empty strings, which Elasticsearch reads as false: ${empty}.`);
  else if (empty > 0 && !textual) notes.push(`Empty strings, which ${type} does not take: ${empty}.`);
  return notes;
}

/** The least integer type from `least` on that holds the profiled values. */
function integerType(least: string): Derived {
  const from = INTEGER_LIMITS.findIndex(([type]) => type === least);
  return (_field, profile) => {
    if (profile === undefined) return least;
    const [min, max] = [integer(profile.min), integer(profile.max)];
    for (const [type, limit] of INTEGER_LIMITS.slice(from)) {
      const fits = (value: bigint | undefined) => value === undefined || (value >= -limit && value < limit);
      if (fits(min) && fits(max) && profile.integer_digits_max <= String(limit).length) return type;
    }
    return "numeric";
  };
}

function integer(text: string | null): bigint | undefined {
  return text !== null && /^-?[0-9]{1,64}$/.test(text) ? BigInt(text) : undefined;
}

function bigintIfItFits(_field: MappingField, profile: FieldProfile | undefined): string | undefined {
  const max = integer(profile?.max ?? null);
  return max !== undefined && max < 2n ** 63n && (profile?.integer_digits_max ?? 0) <= 19 ? "bigint" : undefined;
}

function numericOfDigits(_field: MappingField, profile: FieldProfile | undefined): string {
  if (profile === undefined) return "numeric";
  const { integer_digits_max: digits, scale_max: scale } = profile;
  // PostgreSQL's own limits of a declared precision and scale.
  if (digits + scale === 0 || digits + scale > 1000) return "numeric";
  return `numeric(${digits + scale},${scale})`;
}

function digitsBeyond(digitsExact: number): Derived {
  return (_field, profile) => {
    if (profile === undefined) return undefined;
    const digits = profile.integer_digits_max + profile.scale_max;
    return digits > digitsExact
      ? `Values have up to ${digits} digits; beyond ${digitsExact} only numeric is exact.`
      : undefined;
  };
}

function scaledNumeric(field: MappingField): string {
  const factor = field.scaling_factor;
  if (factor === undefined || !(factor > 0)) return "numeric";
  // Elasticsearch keeps value * factor as a long of at most 19 digits.
  const scale = Math.max(0, Math.ceil(Math.log10(factor) - 1e-9));
  const digits = Math.max(1, Math.ceil(19 - Math.log10(factor)));
  return `numeric(${Math.min(1000, digits + scale)},${Math.min(scale, 1000)})`;
}

function scaledRounding(field: MappingField, profile: FieldProfile | undefined): string | undefined {
  const scale = Math.max(0, Math.ceil(Math.log10(field.scaling_factor ?? 1) - 1e-9));
  if (profile !== undefined && profile.scale_max <= scale) return undefined;
  return `\`_source\` keeps values unrounded; more than ${scale} decimals are rounded.`;
}

function varchar(_field: MappingField, profile: FieldProfile | undefined): string | undefined {
  if (profile === undefined || profile.length_max === 0) return undefined;
  const size = [10, 20, 50, 100, 255, 500, 1000, 2000, 4000].find((candidate) => candidate >= profile.length_max);
  return size === undefined ? undefined : `varchar(${size})`;
}

function tooLongForAKey(_field: MappingField, profile: FieldProfile | undefined): string | undefined {
  // A third of a page, less its overhead: PostgreSQL refuses a longer entry in a btree.
  return profile !== undefined && profile.bytes_max > 2704
    ? `Values have up to ${profile.bytes_max} bytes, too many for a key or an index.`
    : undefined;
}

function uuidIfAll(_field: MappingField, profile: FieldProfile | undefined): string | undefined {
  const all = profile !== undefined && profile.kinds.string > 0 && profile.shapes.uuid === profile.kinds.string;
  return all && profile.kinds.integer + profile.kinds.decimal + profile.kinds.boolean === 0 ? "uuid" : undefined;
}

function ignoreAbove(field: MappingField): string | undefined {
  const limit = field.parameters?.ignore_above;
  return typeof limit === "number"
    ? `Values above ${limit} characters are in \`_source\` but cannot be searched.`
    : undefined;
}

function constantValue(field: MappingField): string {
  return field.constant === undefined
    ? "The mapping has no value yet."
    : `Where \`_source\` leaves it out the value is ${quote(field.constant)}, from the mapping.`;
}

function coerced(_field: MappingField, profile: FieldProfile | undefined): string | undefined {
  const strings = profile?.kinds.string ?? 0;
  return strings > 0 ? `Numbers written as strings: ${strings}.` : undefined;
}

function dateFormat(field: MappingField): string | undefined {
  return field.format === undefined ? undefined : `Format ${quote(field.format)}; without a zone it is UTC.`;
}

function onlyDays(_field: MappingField, profile: FieldProfile | undefined): string | undefined {
  if (profile === undefined || profile.kinds.string === 0 || profile.kinds.integer > 0) return undefined;
  return profile.length_max === 10 && profile.shapes.date === profile.kinds.string
    ? "All values are days without a time; date holds them."
    : undefined;
}

function disabledObject(field: MappingField): string | undefined {
  return field.enabled === false ? "Elasticsearch does not look into it, so it may hold anything." : undefined;
}

function vectorElements(field: MappingField): string {
  const element = field.parameters?.element_type;
  return element === "byte" || element === "bit" ? "smallint[]" : "real[]";
}

function pgvector(name: string): Derived {
  return (field) => {
    const dims = field.parameters?.dims;
    return typeof dims === "number" ? `${name}(${dims})` : name;
  };
}

function rangeBounds(): string {
  return "Bounds come from gt, gte, lt, lte; a missing side is open. `<field>.lower` and `.upper` fill two columns.";
}

function range(name: string, type: string): TypeRow {
  return {
    types: [name],
    type,
    alternatives: ["jsonb"],
    takes: ["object"],
    arrays: "elements",
    notes: [rangeBounds],
  };
}

/** The type that holds the values of all, for a field that indices map differently. */
function commonType(types: readonly string[]): string {
  const first = types[0] ?? "text";
  if (types.every((type) => type === first)) return first;
  const integers = INTEGER_LIMITS.map(([type]) => type);
  if (types.every((type) => integers.includes(type))) {
    return integers.findLast((type) => types.includes(type)) ?? "bigint";
  }
  const floats = ["real", "double precision"];
  if (types.every((type) => floats.includes(type))) return "double precision";
  if (types.every((type) => integers.includes(type) || floats.includes(type) || type.startsWith("numeric")))
    return "numeric";
  return types.some((type) => type === "jsonb" || type.endsWith("range") || type.endsWith("[]")) ? "jsonb" : "text";
}

function derive(
  derived: readonly Derived[] | undefined,
  field: MappingField,
  profile: FieldProfile | undefined,
): string[] {
  return (derived ?? []).map((item) => one(item, field, profile)).filter((text) => text !== undefined);
}

function one(derived: Derived, field: MappingField, profile: FieldProfile | undefined): string | undefined {
  return typeof derived === "string" ? derived : derived(field, profile);
}

/** A value out of a mapping, as data: quoted and clipped. */
function quote(value: unknown): string {
  const text = JSON.stringify(value) ?? "nothing";
  return text.length > 80 ? `${text.slice(0, 79)}…` : text;
}
