import { setImmediate } from "node:timers/promises";
import { ToolError } from "@es-to-pg/mcp-kit";
import { type FieldProfile, type MappingField, proposeColumnName, proposeType } from "@es-to-pg/staging";
import { quoteIdentifier, quoteTable, type Table, type Transaction } from "../postgres/index.ts";
import type { JudgePolicy } from "../query/index.ts";
import { type ChildOffer, offerChildren } from "./children.ts";
import { addColumnsStatement, type ColumnDraft, createTableStatements, imaginedTable } from "./ddl.ts";
import { createEncoder } from "./encode.ts";
import { Fields, misfit } from "./fields.ts";
import type { Mapping, MappingColumn } from "./mapping.ts";
import { partOf } from "./parts.ts";
import type { LoadPlan, PlannedColumn } from "./plan.ts";
import type { RejectReason } from "./refusal.ts";
import { resolveMapping } from "./resolve.ts";
import { formatTypes, valueTypes } from "./types.ts";
import type { ValueType } from "./value-type.ts";

/** PostgreSQL's own limit is 1600 columns; a few are left for those who come later. */
const COLUMNS_MAX = 1500;
/** How long the forecast may read staged documents. */
const FORECAST_MS_MAX = 1_500;
const LINES_PER_TURN = 500;
/** Pieces of values that an existing table may have columns for. */
const PIECES = ["lat", "lon", "lower", "upper", "name", "parent"];
export const FORECAST_DOCUMENTS_MAX = 10_000;

export interface ProposeOptions {
  tx: Transaction;
  fields: readonly MappingField[];
  profile: readonly FieldProfile[];
  /** Concrete indices of the export. */
  indices: readonly string[];
  /** Documents of the export; null where only fields were given. */
  documents: number | null;
  /** Lines of the export for the forecast, from the first on. */
  sample: readonly Buffer[];
  /** The table, or its name where there is none yet. */
  table: Table | { schema: string; table: string };
  expressions?: JudgePolicy;
}

export interface ColumnVerdict {
  column: string;
  from: string;
  /** The field's type in Elasticsearch. */
  field_type?: string;
  type: string;
  /** `widened`: every value fits a wider type than the field's own needs. `may_reject`: the profile says so, the sample not. */
  verdict: "ok" | "widened" | "will_reject" | "may_reject" | "rounds";
  rejects?: number;
  reason?: string;
  /** Settings of the column that save the documents; `alter` is SQL that only an owner of the table can run. */
  fix?: Record<string, unknown>;
  /** Other settings that a person may prefer, with what they lose said in `reason`. */
  alternative?: Record<string, unknown>;
}

export interface Proposal {
  mapping: Mapping;
  key: { columns: string[]; why: string };
  verdicts: ColumnVerdict[];
  /** Why the mapping cannot be loaded as it is. */
  problems: { code: string; message: string; details: Record<string, unknown> }[];
  /** Documents that at least one column rejects, of all; null without documents. */
  rejectsExpected: number | null;
  sampled: number;
  /** Statements that create the table, or add what it lacks for fields that no column takes. */
  ddl: string[];
  unmapped: string[];
  leftOut: { field: string; why: string }[];
  /** Nested fields that could be tables of their own. */
  children: ChildOffer[];
}

/** A mapping from an export to a table that exists or not, tried on the export's own documents. */
export async function proposeMapping(options: ProposeOptions): Promise<Proposal> {
  const { tx, table } = options;
  const draft = "oid" in table ? await fitTable(options, table) : newTable(options, table);
  const formatted = await formatTypes(
    tx,
    draft.columns.map(({ type }) => type),
  );
  const target = "oid" in table ? table : imaginedTable(table, draft, formatted);
  const mapping: Mapping = {
    columns: draft.columns.map(({ name, type, from, settings }) => ({
      column: name,
      ...(from === name ? {} : { from }),
      type: formatted.get(type) ?? type,
      ...settings,
    })),
    ...(draft.key.length > 0 ? { key: draft.key } : {}),
  };
  const problems: Proposal["problems"] = [];
  let plan: LoadPlan | undefined;
  if (mapping.columns.length === 0) {
    problems.push({
      code: "nothing_mapped",
      message: "No field of the export fits a column of the table.",
      details: {},
    });
  } else {
    try {
      plan = await resolveMapping({
        tx,
        mapping,
        table: target,
        fields: options.fields,
        profile: options.profile,
        identity: "override",
        ...(options.expressions === undefined ? {} : { expressions: options.expressions }),
      });
    } catch (error) {
      if (!(error instanceof ToolError)) throw error;
      problems.push({ code: error.code, message: error.message, details: { ...error.details, next: error.next } });
    }
  }
  const forecast = plan === undefined ? undefined : await forecastRejects(plan, options.sample);
  const verdicts = (plan?.columns ?? []).map((column) => verdictOf(column, options, forecast));
  const missing = "oid" in table ? missingColumns(draft.unmapped, options, target) : [];
  return {
    mapping,
    key: { columns: draft.key, why: draft.keyWhy },
    verdicts,
    problems,
    rejectsExpected:
      forecast === undefined || options.documents === null || forecast.sampled === 0
        ? null
        : extrapolate(forecast.documents, forecast.sampled, options.documents),
    sampled: forecast?.sampled ?? 0,
    ddl:
      "oid" in table
        ? missing.length > 0
          ? [addColumnsStatement(table, missing)]
          : []
        : createTableStatements({
            ...table,
            columns: draft.columns.map(({ name, type }) => ({ name, type: formatted.get(type) ?? type })),
            primaryKey: draft.key,
            indexes: [],
          }),
    unmapped: draft.unmapped,
    leftOut: draft.leftOut,
    children: offerChildren(mapping, { table: table.table, fields: options.fields, profile: options.profile }),
  };
}

interface Draft {
  columns: { name: string; from: string; type: string; settings: Partial<MappingColumn> }[];
  key: string[];
  keyWhy: string;
  unmapped: string[];
  leftOut: Proposal["leftOut"];
}

/** The fields that become columns: leaves, and objects only where nothing inside of them is mapped. */
function sourceFields(fields: readonly MappingField[]): MappingField[] {
  const parents = new Set(
    fields.filter(({ multi_field }) => multi_field !== true).map(({ path }) => path.slice(0, path.lastIndexOf("."))),
  );
  return fields.filter((field) => {
    if (field.nested === true && field.type !== "nested") return false;
    if (field.nested === true || proposeType(field).type === "none") return false;
    return field.type !== "object" || field.enabled === false || !parents.has(field.path);
  });
}

/** Every piece that a column may take instead of the whole value, in the words of which such columns are named. */
function piecePaths(field: MappingField): string[] {
  return PIECES.flatMap((name) => (partOf(field, name) === undefined ? [] : [`${field.path}.${name}`]));
}

/** Pieces of values that need a column of their own beside their field's. */
function sourcePieces(field: MappingField): MappingField[] {
  const parent = field.type === "join" ? partOf(field, "parent") : undefined;
  return parent === undefined ? [field] : [field, parent.field];
}

function newTable(options: ProposeOptions, table: { schema: string; table: string }): Draft {
  const profiles = new Map(options.profile.map((profile) => [profile.path, profile]));
  const taken = new Set<string>();
  const all = sourceFields(options.fields).flatMap(sourcePieces);
  const columns = all.slice(0, COLUMNS_MAX).map((field) => {
    const name = freeName(proposeColumnName(field.path), taken);
    return { name, from: field.path, type: proposeType(field, profiles.get(field.path)).type, settings: {} };
  });
  const leftOut = all.slice(COLUMNS_MAX).map(({ path }) => ({ field: path, why: `beyond ${COLUMNS_MAX} columns` }));
  if (columns.length === 0) {
    throw new ToolError("nothing_mapped", "The export's mapping has no field that its documents hold.", {
      next: "Give fields, or a mapping of your own.",
      details: { table: table.table },
    });
  }
  const sure = columns.find((column) => isDocumentId(column.from, options.sample));
  if (options.indices.length <= 1 && sure !== undefined) {
    const why = `${sure.from} equals _id in all ${options.sample.length} documents looked at`;
    return { columns, key: [sure.name], keyWhy: why, unmapped: [], leftOut };
  }
  const id = freeName(taken.has("id") ? "_id" : "id", taken);
  const keyColumns = [{ name: id, from: "_id", type: "text", settings: {} }];
  if (options.indices.length > 1) {
    keyColumns.unshift({ name: freeName("_index", taken), from: "_index", type: "text", settings: {} });
  }
  return {
    columns: [...keyColumns, ...columns],
    key: keyColumns.map(({ name }) => name),
    keyWhy:
      options.indices.length > 1
        ? "_id is unique in one index only, and the export has several"
        : "_id is the only sure key: no field equals it",
    unmapped: [],
    leftOut,
  };
}

function freeName(wanted: string, taken: Set<string>): string {
  let name = wanted;
  for (let number = 2; taken.has(name); number += 1) {
    const suffix = `_${number}`;
    name = `${Array.from(wanted)
      .slice(0, 63 - suffix.length)
      .join("")}${suffix}`;
  }
  taken.add(name);
  return name;
}

/** Whether a field named like an id holds the document's `_id` in every document of the sample. */
function isDocumentId(path: string, sample: readonly Buffer[]): boolean {
  if (sample.length === 0 || path.includes(".") || !/^(?:id|uuid|guid|key|.*[_-]id|.*Id)$/.test(path)) return false;
  const field = `${JSON.stringify(path)}:`;
  return sample.every((line) => {
    const text = line.toString("utf8", 0, Math.min(line.length, 4096));
    const id = /"_id":("(?:[^"\\]|\\.)*")/.exec(text)?.[1];
    const at = text.indexOf(field, text.indexOf('"_source":'));
    if (id === undefined || at < 0) return false;
    const value = text.slice(at + field.length).trimStart();
    return value.startsWith(id) || value.startsWith(`${id.slice(1, -1)},`) || value.startsWith(`${id.slice(1, -1)}}`);
  });
}

async function fitTable(options: ProposeOptions, table: Table): Promise<Draft> {
  const fields = new Fields(options.fields, options.profile);
  const profiles = new Map(options.profile.map((profile) => [profile.path, profile]));
  const typeOf = await valueTypes(
    options.tx,
    table.columns.map(({ type }) => type),
  );
  const candidates = new Map<string, string>();
  const offer = (name: string, path: string) => {
    if (!candidates.has(name)) candidates.set(name, path);
  };
  const sources = sourceFields(options.fields).flatMap(sourcePieces);
  const containers = options.fields.filter(({ type, nested }) => type === "object" && nested !== true);
  for (const { path } of sources) offer(path, path);
  for (const { path } of sources) offer(proposeColumnName(path), path);
  for (const { path } of [...sources, ...containers]) offer(plainName(path), path);
  for (const field of sources) for (const path of piecePaths(field)) offer(plainName(path), path);
  for (const meta of ["_id", "_index", "_routing", "_seq_no"]) candidates.set(meta, meta);

  const columns: Draft["columns"] = [];
  const leftOut: Draft["leftOut"] = [];
  for (const column of table.columns) {
    if (column.generated !== null) continue;
    const found = candidates.get(column.name) ?? candidates.get(plainName(column.name));
    const isOnlyKey = table.primaryKey?.length === 1 && table.primaryKey[0] === column.name;
    const isText = typeOf(column.type).kind === "text";
    const from = found ?? (isOnlyKey && isText && column.default === null ? "_id" : undefined);
    if (from === undefined) continue;
    const { field } = fields.locate(from);
    const why = field === null ? undefined : misfit(field, typeOf(column.type), null);
    if (why !== undefined) {
      leftOut.push({ field: from, why: `column ${column.name} is ${column.type}: ${why}` });
      continue;
    }
    columns.push({
      name: column.name,
      from,
      type: column.type,
      settings: field === null ? {} : safeSettings(typeOf(column.type), profiles.get(from)),
    });
  }
  const used = columns.map(({ from }) => from);
  const unmapped = sources
    .map(({ path }) => path)
    .filter((path) => !used.some((from) => path === from || path.startsWith(`${from}.`)));
  const mapped = new Set(columns.map(({ name }) => name));
  const key = fitKey(table, mapped);
  return { columns, key: key.columns, keyWhy: key.why, unmapped, leftOut };
}

/** Settings that lose nothing and are what the types leave no choice about: an array of objects in a text, for instance. */
function safeSettings(type: ValueType, profile: FieldProfile | undefined): Partial<MappingColumn> {
  const holdsObjects = (profile?.kinds.object ?? 0) > 0;
  return type.kind === "text" && !type.array && holdsObjects ? { array: "json" } : {};
}

function plainName(name: string): string {
  return name.toLowerCase().replace(/[^\p{L}\p{N}]+/gu, "");
}

function fitKey(table: Table, mapped: ReadonlySet<string>): { columns: string[]; why: string } {
  const isFed = (columns: readonly string[]) => columns.length > 0 && columns.every((name) => mapped.has(name));
  if (table.primaryKey !== null && isFed(table.primaryKey)) {
    return { columns: table.primaryKey, why: "the table's primary key" };
  }
  const unique = table.uniques.find(
    (index) => !index.deferrable && !index.partial && !index.expression && isFed(index.columns),
  );
  if (unique !== undefined) return { columns: unique.columns, why: `the unique index ${unique.name}` };
  return { columns: [], why: "no unique index of the table is fed: only mode append works" };
}

/** Columns for the fields that the table lacks, as `create_table` would add them. */
function missingColumns(unmapped: readonly string[], options: ProposeOptions, table: Table): ColumnDraft[] {
  const profiles = new Map(options.profile.map((profile) => [profile.path, profile]));
  const byPath = new Map(options.fields.map((field) => [field.path, field]));
  const taken = new Set(table.columns.map(({ name }) => name));
  return unmapped.flatMap((path) => {
    const field = byPath.get(path);
    if (field === undefined) return [];
    return [{ name: freeName(proposeColumnName(path), taken), type: proposeType(field, profiles.get(path)).type }];
  });
}

interface Forecast {
  sampled: number;
  /** Documents that at least one column refuses. */
  documents: number;
  /** Refusals, and changes of values, per column and outcome. */
  byColumn: Map<string, Map<string, number>>;
}

/** Runs the encoder's own judgement over the sample: what it refuses here it will refuse in the load. */
async function forecastRejects(plan: LoadPlan, sample: readonly Buffer[]): Promise<Forecast> {
  const encoder = createEncoder(plan);
  const forecast: Forecast = { sampled: 0, documents: 0, byColumn: new Map() };
  const until = performance.now() + FORECAST_MS_MAX;
  for (const line of sample) {
    if (performance.now() > until) break;
    // Other calls of the process get their turn.
    if (forecast.sampled % LINES_PER_TURN === LINES_PER_TURN - 1) await setImmediate();
    forecast.sampled += 1;
    let isRefused = false;
    for (const { column, outcome } of encoder.judge(line)) {
      const counts = forecast.byColumn.get(column ?? "") ?? new Map<string, number>();
      counts.set(outcome, (counts.get(outcome) ?? 0) + 1);
      forecast.byColumn.set(column ?? "", counts);
      isRefused ||= outcome !== "rounded" && outcome !== "replaced";
    }
    if (isRefused) forecast.documents += 1;
  }
  return forecast;
}

function extrapolate(count: number, sampled: number, documents: number): number {
  return sampled >= documents ? count : Math.round((count / sampled) * documents);
}

const FIXES: Partial<Record<RejectReason, Record<string, unknown>>> = {
  too_precise: { round: "round" },
  fraction: { round: "round" },
  time_of_day: { round: "round" },
  is_array: { array: "first" },
  nul: { nul: "strip" },
  invalid_utf8: { encoding: "replace" },
  lone_surrogate: { encoding: "replace" },
  null_key: { from: "_id" },
  null_not_allowed: { on_null: "…" },
  unknown_date_format: { format: "…" },
};

function verdictOf(column: PlannedColumn, options: ProposeOptions, forecast: Forecast | undefined): ColumnVerdict {
  const profile = options.profile.find(({ path }) => path === column.from);
  const base = {
    column: column.column,
    from: column.part === null ? (column.from ?? "") : `${column.from}.${column.part.name}`,
    ...(column.field === null ? {} : { field_type: column.field.type }),
    type: column.targetType,
  };
  const counts = [...(forecast?.byColumn.get(column.column) ?? [])].sort(([, left], [, right]) => right - left);
  const refusals = counts.filter(([outcome]) => outcome !== "rounded" && outcome !== "replaced");
  const [worst] = refusals;
  if (worst !== undefined && forecast !== undefined) {
    const [reason] = worst;
    const found = refusals.reduce((sum, [, count]) => sum + count, 0);
    return {
      ...base,
      verdict: "will_reject",
      rejects: extrapolate(found, forecast.sampled, options.documents ?? forecast.sampled),
      reason,
      fix: fixFor(reason, column, options.table),
    };
  }
  const doubt = profile === undefined ? undefined : doubtOf(column, profile, options.documents);
  if (doubt !== undefined && (forecast === undefined || forecast.sampled < (options.documents ?? 0))) {
    return { ...base, verdict: "may_reject", reason: doubt, fix: fixFor(doubt, column, options.table) };
  }
  if (counts.length > 0) {
    const exact = column.field === null ? [] : proposeType(column.field, profile).alternatives;
    const numeric = exact.find((type) => type.startsWith("numeric"));
    return {
      ...base,
      verdict: "rounds",
      rejects: 0,
      reason: counts[0]?.[0] ?? "",
      ...(numeric === undefined ? {} : { fix: otherType(numeric, column, options.table) }),
    };
  }
  const mixed = profile === undefined ? undefined : mixedArrays(column, profile, options.table);
  if (mixed !== undefined) return { ...base, verdict: "widened", ...mixed };
  return { ...base, verdict: isWider(column) ? "widened" : "ok" };
}

/** A new column that is an array only for the sake of some documents: how many they are, and what one value would do. */
function mixedArrays(
  { valueType, targetType, array }: PlannedColumn,
  { arrays, present }: FieldProfile,
  table: ProposeOptions["table"],
): Pick<ColumnVerdict, "reason" | "alternative"> | undefined {
  if (!valueType.array || array !== null || arrays === 0 || arrays === present || "oid" in table) return undefined;
  return {
    reason: `${arrays} of ${present} documents hold an array, the others one value; array:"first" drops all but the first`,
    alternative: { type: targetType.replace(/\[\]$/, ""), array: "first" },
  };
}

function fixFor(reason: string, column: PlannedColumn, table: ProposeOptions["table"]): Record<string, unknown> {
  const { kind, array, bits } = column.valueType;
  if ((reason === "is_array" || reason === "is_object") && kind === "text" && !array) return { array: "json" };
  if (reason === "too_long") return otherType("text", column, table);
  if (reason === "out_of_range" && kind === "integer") {
    return otherType(bits < 64 ? "bigint" : "numeric", column, table);
  }
  if (reason === "out_of_range" && kind === "numeric") return otherType("numeric", column, table);
  // The reasons are the encoder's own words, which is what the table is keyed by.
  const known = Object.entries(FIXES).find(([name]) => name === reason)?.[1];
  return known ?? { on_error: "null" };
}

/** Another type is a setting of the mapping only as long as there is no table. */
function otherType(type: string, column: PlannedColumn, table: ProposeOptions["table"]): Record<string, unknown> {
  const wanted = column.valueType.array && !type.endsWith("[]") ? `${type}[]` : type;
  if (!("oid" in table)) return { type: wanted };
  return { alter: `ALTER TABLE ${quoteTable(table)} ALTER COLUMN ${quoteIdentifier(column.column)} TYPE ${wanted}` };
}

/** What the profile of all documents says against a column, though no document of the sample was refused. */
function doubtOf(column: PlannedColumn, profile: FieldProfile, documents: number | null): RejectReason | undefined {
  const { valueType: type } = column;
  const { kinds, shapes } = profile;
  // The profile tells of whole values, the column takes a piece of them.
  if (column.part !== null) return undefined;
  if (
    column.notNull &&
    column.onNull === null &&
    (kinds.null > 0 || (documents !== null && profile.present < documents))
  ) {
    return "null_not_allowed";
  }
  if (
    !type.array &&
    type.kind !== "json" &&
    type.kind !== "point" &&
    profile.array_length_max > 1 &&
    column.array === null
  ) {
    return "is_array";
  }
  if (type.kind === "text" && type.length !== null && profile.length_max > type.length) return "too_long";
  if ((type.kind === "text" || type.kind === "json") && shapes.nul > 0 && column.nul === "reject") return "nul";
  if (type.kind === "numeric" && type.precision !== null && type.scale !== null) {
    if (profile.integer_digits_max > type.precision - type.scale && profile.integer_digits_max > 1)
      return "out_of_range";
    if (profile.scale_max > type.scale && column.round === "reject") return "too_precise";
  }
  if (type.kind === "integer" && kinds.decimal > 0 && column.round === "reject") return "fraction";
  if (
    kinds.object > 0 &&
    ["text", "integer", "numeric", "float", "boolean"].includes(type.kind) &&
    column.array !== "json"
  ) {
    return "is_object";
  }
  return undefined;
}

const WIDER: Record<string, RegExp> = {
  byte: /^(?:integer|bigint|numeric|text)/,
  short: /^(?:integer|bigint|numeric|text)/,
  integer: /^(?:bigint|numeric|double|text)/,
  long: /^(?:numeric|text)/,
  float: /^(?:double|text)/,
  half_float: /^(?:double|text)/,
  double: /^text/,
  boolean: /^(?:text|character)/,
  date: /^(?:text|character)/,
  ip: /^(?:text|character)/,
};

function isWider(column: PlannedColumn): boolean {
  return column.field !== null && WIDER[column.field.type]?.test(column.targetType) === true;
}
