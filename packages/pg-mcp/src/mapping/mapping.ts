import { readShape, ToolError } from "@es-to-pg/mcp-kit";
import { idProblem } from "@es-to-pg/staging";
import { z } from "zod";

/** What becomes of a value that is an array. Default: `array` in an array column, `json` in json and jsonb. */
const arrayPolicySchema = z.enum(["array", "first", "json", "join"]);
/** What becomes of U+0000 in a text, which PostgreSQL cannot hold. */
const nulPolicySchema = z.enum(["strip", "replace", "reject"]);
/** What becomes of lone surrogates and bytes that are not UTF-8: U+FFFD instead, or a reject. */
const encodingPolicySchema = z.enum(["replace", "reject"]);
/** What becomes of a number with more fraction digits than its column keeps. */
const roundPolicySchema = z.enum(["round", "reject"]);

/** Limits that keep one mapping within a call and within PostgreSQL's own 1600 columns. */
const COLUMNS_MAX = 1600;
const TEXT_MAX = 4096;
const CHILDREN_MAX = 20;

const scalar = z.union([z.string().max(TEXT_MAX), z.number(), z.boolean()]);

/** One target column, and where its value comes from. */
const mappingColumnSchema = z.strictObject({
  column: z.string().min(1).max(63).describe("target column"),
  from: z
    .string()
    .min(1)
    .max(TEXT_MAX)
    .optional()
    .describe("document path, or _id, _index, _routing, _seq_no; default: the column's name"),
  type: z.string().min(1).max(256).optional().describe("target column's type; default: the catalog's"),
  expression: z.string().min(1).max(TEXT_MAX).optional().describe("SQL scalar expression over the staged columns"),
  staged_as: z.string().min(1).max(256).optional().describe("type of the expression's input"),
  constant: scalar.nullable().optional(),
  load: z.boolean().optional().describe("false: staged for expressions only"),
  on_null: scalar.optional().describe("value in place of null"),
  on_missing: z.enum(["null", "keep", "default"]).optional(),
  on_error: z.enum(["reject", "null", "default"]).optional(),
  array: arrayPolicySchema.optional(),
  nul: nulPolicySchema.optional(),
  encoding: encodingPolicySchema.optional(),
  round: roundPolicySchema.optional(),
  format: z.string().min(1).max(TEXT_MAX).optional().describe("date formats as Elasticsearch spells them"),
});

/** A table for the objects of one path: a row each, by the parent's key and the object's ordinal from 1 on. */
const mappingChildSchema = z.strictObject({
  from: z.string().min(1).max(TEXT_MAX).describe("path of a nested field or of an array of objects"),
  table: z.string().min(1).max(200).describe("child table, or schema.table"),
  schema: z.string().min(1).max(63).optional().describe("default: the parent's"),
  parent_key: z.array(z.string().min(1).max(63)).min(1).max(32).describe("child columns that take the parent's key"),
  ordinal: z.string().min(1).max(63).describe("child column that takes the object's position, from 1 on"),
  columns: z.array(mappingColumnSchema).min(1).max(COLUMNS_MAX).describe("from: a path inside the object"),
});

/** The mapping of design §6: which document value goes to which column, and what happens when it does not fit. */
const mappingSchema = z.strictObject({
  columns: z.array(mappingColumnSchema).min(1).max(COLUMNS_MAX),
  key: z.array(z.string().min(1).max(63)).max(32).optional().describe("conflict key; default: the primary key"),
  version_from: z.string().min(1).max(TEXT_MAX).optional().describe("_seq_no or a column: the greater one wins"),
  children: z.array(mappingChildSchema).max(CHILDREN_MAX).optional(),
});

/** What `{ id, changes }` may say: columns are merged by name, a null takes a setting back. */
const mappingChangesSchema = z.strictObject({
  columns: z
    .array(z.looseObject({ column: z.string().min(1).max(63) }))
    .max(COLUMNS_MAX)
    .optional(),
  remove: z.array(z.string()).max(COLUMNS_MAX).optional(),
  key: z.array(z.string().min(1).max(63)).max(32).nullable().optional(),
  version_from: z.string().nullable().optional(),
  children: z.array(mappingChildSchema).max(CHILDREN_MAX).nullable().optional().describe("in place of the mapping's"),
});

export type Mapping = z.infer<typeof mappingSchema>;
export type MappingColumn = z.infer<typeof mappingColumnSchema>;
export type MappingChild = z.infer<typeof mappingChildSchema>;
export type MappingChanges = z.infer<typeof mappingChangesSchema>;
export type ArrayPolicy = z.infer<typeof arrayPolicySchema>;
export type NulPolicy = z.infer<typeof nulPolicySchema>;
export type EncodingPolicy = z.infer<typeof encodingPolicySchema>;
export type RoundPolicy = z.infer<typeof roundPolicySchema>;

const mapIdSchema = z
  .string()
  .regex(/^map_[0-9a-hjkmnp-tv-z]{26}$/, "a mapping id is map_ and 26 characters, from propose_mapping");

/**
 * The tools' `mapping` argument. It is published loosely, because the full schema in several tools would cost more
 * bytes than it saves calls; `parseMappingReference` is as strict as the full schema.
 */
const looseMapping = z.union([z.string(), z.record(z.string(), z.unknown())]);

export const mappingArgument = looseMapping.describe(
  'map_… | {"id":"map_…","changes":{columns,remove,key,version_from,children}} | {"columns":[{"column","from","type","expression","staged_as","constant","load","on_null","on_missing":"null|keep|default","on_error":"reject|null|default","array":"array|first|json|join","nul":"strip|replace|reject","round":"round|reject","encoding","format"}],"key":[…],"version_from","children":[{"from","table","parent_key":[…],"ordinal","columns":[…]}]}',
);

/** The same argument where a mapping's shape need not be told again. */
export const mappingReferenceArgument = looseMapping.describe("map_… of propose_mapping, or as bulk_insert takes it.");

/** A stored mapping, a stored mapping with changes, or a whole mapping. */
export type MappingReference =
  | { kind: "stored"; id: string; changes: MappingChanges | undefined }
  | { kind: "inline"; mapping: Mapping };

/** Reads the `mapping` argument of a tool; throws `invalid_mapping` with every problem and where it stands. */
export function parseMappingReference(value: unknown): MappingReference {
  if (typeof value === "string") return { kind: "stored", id: parseMapId(value), changes: undefined };
  if (typeof value === "object" && value !== null && isMapReference(value)) {
    const parsed = check(z.strictObject({ id: z.string(), changes: mappingChangesSchema.optional() }), value);
    return { kind: "stored", id: parseMapId(parsed.id), changes: parsed.changes };
  }
  return { kind: "inline", mapping: parseMapping(value) };
}

/** Pairs of column and path may have an `id` too, which is then the name of a column. */
function isMapReference(value: object): boolean {
  return "id" in value && ("changes" in value || Object.keys(value).length === 1);
}

/** Checks one whole mapping; throws `invalid_mapping`. */
export function parseMapping(value: unknown): Mapping {
  const pairs = pairsOf(value);
  if (pairs !== undefined) {
    throw invalid(['a mapping lists its columns: {"columns":[{"column":…,"from":…}]}'], {
      mapping: { columns: pairs },
    });
  }
  const mapping = check(mappingSchema, value);
  checkColumns(mapping.columns);
  for (const child of mapping.children ?? []) checkColumns(child.columns);
  return mapping;
}

/** The columns of a mapping that was written as pairs of column and path. */
function pairsOf(value: unknown): MappingColumn[] | undefined {
  if (typeof value !== "object" || value === null || Array.isArray(value) || "columns" in value) return undefined;
  const pairs = Object.entries(value);
  if (pairs.length === 0 || !pairs.every(([, path]) => typeof path === "string")) return undefined;
  return pairs.map(([column, path]) => (column === path ? { column } : { column, from: String(path) }));
}

function checkColumns(columns: readonly MappingColumn[]): void {
  const seen = new Set<string>();
  for (const column of columns) {
    if (seen.has(column.column)) throw invalid([`column ${JSON.stringify(column.column)} is mapped twice`]);
    seen.add(column.column);
    if (column.constant !== undefined && (column.from !== undefined || column.expression !== undefined)) {
      throw invalid([`column ${JSON.stringify(column.column)}: constant excludes from and expression`]);
    }
    if (column.load === false && column.expression !== undefined) {
      throw invalid([`column ${JSON.stringify(column.column)}: load:false is for inputs, so it has no expression`]);
    }
    if (column.staged_as !== undefined && column.expression === undefined && column.load !== false) {
      throw invalid([`column ${JSON.stringify(column.column)}: staged_as needs an expression or load:false`]);
    }
  }
}

/** The stored mapping with the changes on top; the result is checked like any other mapping. */
export function changeMapping(mapping: Mapping, changes: MappingChanges): Mapping {
  const columns = new Map<string, Record<string, unknown>>(mapping.columns.map((column) => [column.column, column]));
  for (const name of changes.remove ?? []) {
    if (!columns.delete(name)) throw invalid([`changes.remove: the mapping has no column ${JSON.stringify(name)}`]);
  }
  for (const change of changes.columns ?? []) {
    const before = columns.get(change.column);
    // A column that reads the path of its own name reads on when an expression is put over it.
    const readsItsName = before !== undefined && ["from", "expression", "constant"].every((name) => !(name in before));
    const from = readsItsName && typeof change["expression"] === "string" ? { from: change.column } : {};
    const merged = { ...before, ...from, ...change };
    columns.set(change.column, Object.fromEntries(Object.entries(merged).filter(([, setting]) => setting !== null)));
  }
  const key = changes.key === undefined ? mapping.key : (changes.key ?? undefined);
  const versionFrom = changes.version_from === undefined ? mapping.version_from : (changes.version_from ?? undefined);
  const children = changes.children === undefined ? mapping.children : (changes.children ?? undefined);
  return parseMapping({
    columns: [...columns.values()],
    ...(key === undefined ? {} : { key }),
    ...(versionFrom === undefined ? {} : { version_from: versionFrom }),
    ...(children === undefined ? {} : { children }),
  });
}

function parseMapId(id: string): string {
  const parsed = mapIdSchema.safeParse(id);
  if (parsed.success) return parsed.data;
  throw new ToolError("invalid_mapping", `${idProblem("map", id)}.`, {
    next: id.startsWith("exp_")
      ? "Call propose_mapping with this export_id; it answers the mapping_id."
      : "Pass the mapping_id that propose_mapping answered, or a whole mapping object.",
  });
}

function check<S extends z.ZodType>(schema: S, value: unknown): z.output<S> {
  const read = readShape(schema, value);
  if ("data" in read) return read.data;
  const { sentences, problems, corrected } = read;
  throw invalid([sentences.replace(/\.$/, "")], corrected === undefined ? undefined : { mapping: corrected }, problems);
}

function invalid(
  problems: string[],
  instead?: { mapping: unknown },
  named: readonly { argument: string; nearest?: string[] }[] = [],
): ToolError {
  const shown = problems.slice(0, 10);
  return new ToolError("invalid_mapping", `The mapping is not valid: ${shown.join("; ")}.`, {
    next: 'A mapping is {"columns":[{"column":"price","from":"price"}],"key":["id"]}; correct it and call again.',
    details: {
      problems: named.map(({ argument, nearest }) => ({ argument, ...(nearest === undefined ? {} : { nearest }) })),
    },
    ...(instead === undefined ? {} : { instead: { arguments: instead } }),
  });
}
