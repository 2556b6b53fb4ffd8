import { nearest, ToolError } from "@es-to-pg/mcp-kit";
import { type FieldProfile, type MappingField, proposeColumnName, proposeType } from "@es-to-pg/staging";
import {
  type Column,
  quoteIdentifier,
  quoteTable,
  type Table,
  type TablePolicy,
  type Transaction,
} from "../postgres/index.ts";
import { type JudgePolicy, judgeExpression } from "../query/index.ts";
import { resolveChildren } from "./children.ts";
import { Fields, misfit } from "./fields.ts";
import type { Mapping, MappingColumn } from "./mapping.ts";
import { type LoadPlan, META_PATHS, type PlannedColumn, stageColumns } from "./plan.ts";
import { planColumn } from "./plan-column.ts";
import { formatTypes, valueTypes } from "./types.ts";
import { parseValueType, type ValueType } from "./value-type.ts";

export interface ResolveOptions {
  /** Writable where the mapping has expressions: judging one creates a function, and undoes it. */
  tx: Transaction;
  /** Undefined: same names to same columns. */
  mapping: Mapping | undefined;
  table: Table;
  /** The export's mapping; empty for rows given in a call. */
  fields: readonly MappingField[];
  /** The export's profile: it knows fields that the mapping does not list. */
  profile?: readonly FieldProfile[];
  /** The call's own conflict key, before the mapping's and the primary key. */
  key?: readonly string[] | undefined;
  /** Whether values for GENERATED ALWAYS identity columns override the sequence. */
  identity?: "override" | undefined;
  expressions?: JudgePolicy;
  /** Which tables the mapping's children may be. */
  policy?: TablePolicy;
  /** Columns that are filled by other means than the mapping's columns. */
  fed?: readonly string[];
}

/**
 * Checks a mapping against the catalog and the export, and fills in every default. Whatever is sure to fail fails here,
 * before a row moves. `key` of the plan is empty where the table has no primary key and no key was named.
 */
export async function resolveMapping(options: ResolveOptions): Promise<LoadPlan> {
  const { table, identity } = options;
  checkTarget(table);
  const fields = new Fields(options.fields, options.profile);
  const mapping = options.mapping ?? sameNames(table, fields, identity);
  if (mapping.columns.length === 0) throw nothingMapped(table, fields);

  const byName = new Map(table.columns.map((column) => [column.name, column]));
  for (const { column, load } of mapping.columns) {
    if (load === false) continue;
    const target = byName.get(column);
    if (target === undefined) throw unknownColumn(column, table);
    if (target.generated !== null) throw generatedColumn(column);
    if (target.identity === "always" && identity !== "override") throw identityColumn(column);
    if (CUTTING_TYPES.has(target.baseType)) throw cuttingType(column, target.type);
  }
  checkUnfed(table, mapping, options.fed ?? []);
  const key = resolveKey(options.key ?? mapping.key, table, mapping);

  const { columns } = await planColumns(options, mapping, key);
  const versionFrom = mapping.version_from ?? null;
  if (versionFrom !== null && versionFrom !== "_seq_no" && !columns.some(({ column }) => column === versionFrom)) {
    throw new ToolError("unknown_column", "version_from is neither _seq_no nor a column of the mapping.", {
      details: {
        column: versionFrom,
        nearest: nearest(
          versionFrom,
          columns.map(({ column }) => column),
        ),
      },
      next: "Name a mapped column; map it with load:false if the table does not have it.",
    });
  }
  const parent = {
    table,
    columns,
    key,
    versionFrom,
    mapping,
    unmapped: unmappedFields(fields, columns, mapping),
  };
  const plan: LoadPlan = { ...parent, children: await resolveChildren(parent, options, resolveMapping) };
  await judgeExpressions(columns, options);
  return plan;
}

/** The mapping's columns against the table's, with every default filled in. */
async function planColumns(
  { tx, table, ...options }: ResolveOptions,
  mapping: Mapping,
  key: readonly string[],
): Promise<{ fields: Fields; columns: PlannedColumn[] }> {
  const fields = new Fields(options.fields, options.profile);
  const byName = new Map(table.columns.map((column) => [column.name, column]));
  const written = mapping.columns
    .flatMap(({ type, staged_as }) => [type, staged_as])
    .filter((type) => type !== undefined);
  const formatted = await formatTypes(tx, written);
  const typeOf = await valueTypes(tx, [...table.columns.map(({ type }) => type), ...formatted.values()]);
  const columns = mapping.columns.map((column) =>
    resolveColumn({ column, target: byName.get(column.column), fields, formatted, typeOf, key }),
  );
  return { fields, columns };
}

/** SQLSTATEs that staging an input as another type may cure: undefined function or operator, datatype mismatch. */
const OF_INPUT_TYPES = new Set<unknown>(["42883", "42804"]);

/**
 * Judges the expressions of a mapping whose table is yet to be made, as the load will. Where the export is not known,
 * nor are the types of what expressions read, and only what no type cures is refused.
 */
export async function judgeMapping(options: ResolveOptions & { mapping: Mapping }): Promise<void> {
  const { mapping } = options;
  if (mapping.columns.every(({ expression }) => expression === undefined)) return;
  const { fields, columns } = await planColumns(options, mapping, []);
  try {
    await judgeExpressions(columns, options);
  } catch (error) {
    const isOfTypes = error instanceof ToolError && OF_INPUT_TYPES.has(error.details["sqlstate"]);
    if (fields.isKnown || !isOfTypes) throw error;
  }
}

function checkTarget(table: Table): void {
  const name = { schema: table.schema, table: table.table };
  if (table.kind !== "table" && table.kind !== "partitioned") {
    throw new ToolError("not_a_table", `The target is a ${table.kind}; rows go into tables.`, {
      next: "Name the table behind it.",
      details: name,
    });
  }
  if (table.persistence !== "permanent") {
    throw new ToolError("table_not_durable", `The target is ${table.persistence}: a crash would empty it silently.`, {
      next: `Run ALTER TABLE ${quoteTable(table)} SET LOGGED, or load into another table.`,
      details: name,
    });
  }
  if (table.rowSecurity) {
    throw new ToolError("row_security", "Row security holds for this server's role: it could not see every row.", {
      next: "Give the role BYPASSRLS, or let it own the table.",
      details: name,
    });
  }
}

function resolveColumn(options: {
  column: MappingColumn;
  target: Column | undefined;
  fields: Fields;
  formatted: ReadonlyMap<string, string>;
  typeOf: (type: string) => ValueType;
  key: readonly string[];
}): PlannedColumn {
  const { column, target, fields, formatted, typeOf, key } = options;
  const from = sourceOf(column);
  const located = from === null ? null : fields.locate(from);
  const field = located?.field ?? null;
  const loads = column.load !== false;
  const written = column.type === undefined ? undefined : formatted.get(column.type);
  if (loads && target !== undefined && written !== undefined && written !== target.type) {
    throw new ToolError("type_mismatch", "The mapping names another type than the column has.", {
      next: "Leave type out, or change the column.",
      details: { column: column.column, mapping: written, table: target.type },
    });
  }
  const stagedAs = column.staged_as === undefined ? undefined : formatted.get(column.staged_as);
  const targetType = loads ? (target?.type ?? "text") : (stagedAs ?? written ?? proposedBase(field));
  const isComputed = column.expression !== undefined;
  const valueType = isComputed
    ? typeOf(stagedAs ?? expressionInput(typeOf(targetType), targetType, field))
    : typeOf(targetType);
  const why = field === null || isComputed ? undefined : misfit(field, valueType, column.array ?? null);
  if (why !== undefined) {
    throw new ToolError("type_never_fits", `No value of this field can be a value of the column: ${why}.`, {
      next: "Choose another column type, another path, or an expression over the field staged as text.",
      details: { column: column.column, type: targetType, field: field?.path, field_type: field?.type },
    });
  }
  const isKey = loads && key.includes(column.column);
  try {
    return planColumn({
      column,
      targetType,
      valueType,
      from: located?.path ?? null,
      field,
      part: located?.part ?? null,
      notNull: loads && !isComputed && (isKey || target?.notNull === true),
    });
  } catch (error) {
    if (!(error instanceof RangeError)) throw error;
    throw new ToolError("invalid_mapping", error.message, { details: { column: column.column, type: targetType } });
  }
}

/** The document path a column reads; null for constants and for expressions over other columns alone. */
function sourceOf(column: MappingColumn): string | null {
  if (column.constant !== undefined) return null;
  return column.from ?? (column.expression === undefined ? column.column : null);
}

function proposedBase(field: MappingField | null): string {
  const proposed = field === null ? "text" : proposeType(field).type;
  return proposed === "none" ? "text" : proposed;
}

/** Field types whose values a kind of column takes as they are: there an expression reads the column's own base type. */
const NATIVE: Partial<Record<ValueType["kind"], RegExp>> = {
  integer: /^(?:long|integer|short|byte)$/,
  numeric: /^(?:long|integer|short|byte|unsigned_long|double|float|half_float|scaled_float)$/,
  float: /^(?:double|float|half_float)$/,
  boolean: /^boolean$/,
  timestamptz: /^date(?:_nanos)?$/,
  timestamp: /^date(?:_nanos)?$/,
  json: /^(?:object|nested|flattened)$/,
  inet: /^ip$/,
  bytea: /^binary$/,
};

function expressionInput(target: ValueType, targetType: string, field: MappingField | null): string {
  const isNative = field !== null && NATIVE[target.kind]?.test(field.type) === true;
  if (!isNative) return "text";
  return targetType.endsWith("[]") ? `${target.base}[]` : target.base;
}

/** The mapping that same names make; a column also takes the path whose proposed name it has. */
function sameNames(table: Table, fields: Fields, override: "override" | undefined): Mapping {
  const byName = new Map<string, string>();
  const paths = fields.all().filter((field) => isLeaf(field));
  for (const { path } of paths) {
    const name = proposeColumnName(path);
    if (!byName.has(name)) byName.set(name, path);
  }
  for (const meta of META_PATHS) byName.set(meta, meta);
  for (const { path } of paths) byName.set(path, path);
  const columns: MappingColumn[] = [];
  for (const { name, generated, identity, type } of table.columns) {
    if (generated !== null || (identity === "always" && override === undefined)) continue;
    const object = fields.get(name);
    const holdsObject = object !== undefined && !isLeaf(object) && parseValueType(type).kind === "json";
    const path = holdsObject ? name : (byName.get(name) ?? (fields.isKnown ? undefined : name));
    if (path !== undefined) columns.push(path === name ? { column: name } : { column: name, from: path });
  }
  return { columns };
}

function isLeaf(field: MappingField): boolean {
  const isContainer = field.type === "object" || field.type === "nested";
  return field.multi_field !== true && (!isContainer || field.enabled === false);
}

function resolveKey(wanted: readonly string[] | undefined, table: Table, mapping: Mapping): string[] {
  const key = [...(wanted ?? table.primaryKey ?? [])];
  const loaded = new Set(mapping.columns.filter(({ load }) => load !== false).map(({ column }) => column));
  for (const name of key) {
    if (!table.columns.some((column) => column.name === name)) throw unknownColumn(name, table);
    if (loaded.has(name)) continue;
    // Only a named key must be fed: a table whose primary key counts by itself can still be appended to.
    if (wanted === undefined) return [];
    throw new ToolError("key_not_mapped", "A column of the key is fed by nothing.", {
      next: 'Map it, for instance {"column":"id","from":"_id"}.',
      details: { column: name, key },
    });
  }
  if (key.length === 0) return key;
  const isFit = table.uniques.some(
    (unique) =>
      !unique.deferrable &&
      !unique.partial &&
      !unique.expression &&
      unique.columns.length === key.length &&
      unique.columns.every((column) => key.includes(column)),
  );
  if (isFit) return key;
  throw new ToolError("no_unique_key", "No plain, immediate unique index covers exactly the key's columns.", {
    next:
      table.primaryKey === null
        ? "Have the table's owner run the statement in sql, or use a key that the table has."
        : "Leave key out for the primary key, or have the table's owner run the statement in sql.",
    ...(table.primaryKey === null ? {} : { instead: { arguments: { key: undefined } } }),
    details: {
      key,
      primary_key: table.primaryKey,
      sql: `CREATE UNIQUE INDEX ON ${quoteTable(table)} (${key.map(quoteIdentifier).join(", ")})`,
    },
  });
}

function checkUnfed(table: Table, mapping: Mapping, fed: readonly string[]): void {
  const loaded = new Set(mapping.columns.filter(({ load }) => load !== false).map(({ column }) => column));
  const unfed = table.columns
    .filter((column) => column.notNull && !loaded.has(column.name) && !fed.includes(column.name))
    .filter(
      ({ default: byDefault, generated, identity }) => byDefault === null && generated === null && identity === null,
    )
    .map(({ name }) => name);
  if (unfed.length === 0) return;
  throw new ToolError("column_unfed", "The table has NOT NULL columns that nothing feeds.", {
    next: 'Give a row a value for each; map an export\'s, for instance {"column":"id","from":"_id"} or {"column":"source","constant":"es"}.',
    details: { columns: unfed.slice(0, 20), total: unfed.length },
  });
}

function unmappedFields(fields: Fields, columns: readonly PlannedColumn[], { children = [] }: Mapping): string[] {
  const used = [...columns, ...children].flatMap(({ from }) => (from === null ? [] : [from]));
  return fields
    .all()
    .filter((field) => isLeaf(field) && proposeType(field).type !== "none")
    .map(({ path }) => path)
    .filter((path) => !used.some((from) => path === from || path.startsWith(`${from}.`)));
}

async function judgeExpressions(columns: readonly PlannedColumn[], options: ResolveOptions): Promise<void> {
  const computed = columns.filter(({ expression }) => expression !== undefined);
  if (computed.length === 0) return;
  const stage = { columns: stageColumns({ columns }).map(({ name, type }) => ({ name, type })) };
  for (const { column, expression = "", targetType } of computed) {
    try {
      const policy = options.expressions === undefined ? {} : { policy: options.expressions };
      await judgeExpression(options.tx, { expression, stage, expectedType: targetType, ...policy });
    } catch (error) {
      throw namingColumn(
        error,
        column,
        stage.columns.map(({ name }) => name),
      );
    }
  }
}

/** The judge's own error with the column it speaks of; a server's error becomes `invalid_expression`. */
function namingColumn(error: unknown, column: string, staged: readonly string[]): unknown {
  if (error instanceof ToolError) {
    return new ToolError(error.code, error.message, {
      retryable: error.retryable,
      ...(error.next === undefined ? {} : { next: error.next }),
      details: { ...error.details, column },
      cause: error,
    });
  }
  if (
    !(error instanceof Error) ||
    !("code" in error) ||
    typeof error.code !== "string" ||
    !/^(?:42|22|0A)/.test(error.code)
  ) {
    return error;
  }
  return new ToolError("invalid_expression", "PostgreSQL does not take the expression.", {
    next: 'An expression reads staged columns by their column names: give this column its own from ({"column":"price","from":"price","expression":"round(price, 1)"}), or stage others with load:false.',
    details: {
      column,
      sqlstate: error.code,
      database_says: error.message.slice(0, 300),
      ...("position" in error && typeof error.position === "string" ? { position: error.position } : {}),
      staged: staged.slice(0, 50),
    },
    cause: error,
  });
}

function unknownColumn(column: string, table: Table): ToolError {
  return new ToolError("unknown_column", "The table has no such column.", {
    next: "Use one of the nearest columns, or add it: create_table with add_columns:true.",
    details: {
      column,
      table: `${table.schema}.${table.table}`,
      nearest: nearest(
        column,
        table.columns.map(({ name }) => name),
      ),
    },
  });
}

function generatedColumn(column: string): ToolError {
  return new ToolError("generated_column", "The column is generated from others and takes no value.", {
    next: "Leave it out of the mapping.",
    details: { column },
  });
}

function identityColumn(column: string): ToolError {
  return new ToolError("identity_column", "The column is GENERATED ALWAYS AS IDENTITY: it counts by itself.", {
    next: 'Leave it out of the mapping, or say identity:"override".',
    details: { column },
  });
}

/** Catalog types that take any text and keep its first byte, or its first 63. */
const CUTTING_TYPES = new Set(["name", '"char"']);

function cuttingType(column: string, type: string): ToolError {
  return new ToolError("type_not_supported", "The column's type cuts what does not fit without a word.", {
    next: "Leave the column out, or make it text.",
    details: { column, type },
  });
}

function nothingMapped(table: Table, fields: Fields): ToolError {
  return new ToolError("nothing_mapped", "No field of the documents has the name of a column.", {
    next: "Call propose_mapping for this export and table.",
    details: {
      fields: fields.paths().slice(0, 20),
      columns: table.columns.slice(0, 20).map(({ name }) => name),
    },
  });
}
