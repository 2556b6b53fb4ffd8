import { nearest, ToolError } from "@es-to-pg/mcp-kit";
import {
  allowsTable,
  defaultSchemas,
  mustNotBeState,
  quoteIdentifier,
  quoteLiteral,
  quoteTable,
  readTable,
  requireSchema,
  type Table,
  type TablePolicy,
  type Transaction,
  tableNotAllowed,
} from "../postgres/index.ts";
import type { Mapping } from "./mapping.ts";
import { formatTypes } from "./types.ts";

export interface ColumnDraft {
  name: string;
  type: string;
  not_null?: boolean | undefined;
  /** A constant, or one of the few calls that may stand unquoted. */
  default?: string | number | boolean | undefined;
  identity?: boolean | undefined;
}

interface IndexDraft {
  columns: string[];
  unique?: boolean | undefined;
  using?: "btree" | "gin" | "gist" | "brin" | "hash" | undefined;
}

export interface TableDraft {
  schema: string;
  table: string;
  columns: readonly ColumnDraft[];
  primaryKey: readonly string[];
  indexes: readonly IndexDraft[];
  /** The table whose rows own these: they go with them. */
  references?: { columns: readonly string[]; table: { schema: string; table: string }; to: readonly string[] };
}

/** Defaults that mean the call and not its text. */
const DEFAULT_CALLS = new Set(["now()", "current_date", "current_timestamp", "gen_random_uuid()"]);

/**
 * Where a table that may not exist yet belongs: `schema.table` in `table` is understood. Throws `table_not_allowed`, and
 * `state_schema` for the server's own.
 */
export function targetName(
  name: { table: string; schema?: string | undefined },
  policy: TablePolicy,
  stateSchema: string,
): { schema: string; table: string } {
  const parts = /^(?:"((?:[^"]|"")+)"|([^".]+))\.(?:"((?:[^"]|"")+)"|([^".]+))$/su.exec(name.table);
  const first = parts?.[1]?.replaceAll('""', '"') ?? parts?.[2];
  const second = parts?.[3]?.replaceAll('""', '"') ?? parts?.[4];
  const target =
    first !== undefined && second !== undefined && (name.schema === undefined || name.schema === first)
      ? { schema: first, table: second }
      : { schema: name.schema ?? defaultSchemas(policy)[0] ?? "public", table: name.table };
  if (Buffer.byteLength(target.table) > 63 || target.table.includes("\0")) {
    throw new ToolError("invalid_name", "A table's name has at most 63 bytes and no NUL.", {
      details: { table: target.table.slice(0, 100) },
    });
  }
  mustNotBeState(target, stateSchema);
  if (!allowsTable(policy, target)) throw tableNotAllowed(target);
  return target;
}

/** The columns of a table that a mapping fills, with the mapping's types. */
export function columnsOfMapping(mapping: Mapping): ColumnDraft[] {
  return mapping.columns
    .filter(({ load }) => load !== false)
    .map(({ column, type }) => {
      if (type !== undefined) return { name: column, type };
      throw new ToolError("type_missing", "A column of the mapping has no type, and the table does not have it.", {
        next: "Give the column a type, or use the mapping that propose_mapping answers.",
        details: { column },
      });
    });
}

/** The catalog's view of a table that is not there yet; types as `formatTypes` has them. */
export function imaginedTable(
  name: { schema: string; table: string },
  draft: { columns: readonly Pick<ColumnDraft, "name" | "type">[]; key: readonly string[] },
  formatted: ReadonlyMap<string, string>,
): Table {
  return {
    oid: "0",
    ...name,
    kind: "table",
    persistence: "permanent",
    rowSecurity: false,
    rowsEstimate: null,
    comment: null,
    partitionOf: null,
    partitionKey: null,
    partitions: 0,
    columns: draft.columns.map(({ name: column, type }) => ({
      name: column,
      type: formatted.get(type) ?? type,
      typeOid: "0",
      baseType: formatted.get(type) ?? type,
      collation: null,
      comparedIn: null,
      typmod: -1,
      notNull: draft.key.includes(column),
      default: null,
      generated: null,
      identity: null,
      comment: null,
    })),
    primaryKey: [...draft.key],
    uniques: [{ name: "", columns: [...draft.key], deferrable: false, partial: false, expression: false }],
    checks: [],
    foreignKeys: [],
    indexes: [],
    triggers: [],
    rules: [],
  };
}

/** `CREATE TABLE` and its indexes, one statement each. */
export function createTableStatements(draft: TableDraft): string[] {
  const lines = draft.columns.map(columnDefinition);
  if (draft.primaryKey.length > 0) lines.push(`PRIMARY KEY (${names(draft.primaryKey)})`);
  if (draft.references !== undefined) {
    const { columns, table, to } = draft.references;
    lines.push(`FOREIGN KEY (${names(columns)}) REFERENCES ${quoteTable(table)} (${names(to)}) ON DELETE CASCADE`);
  }
  return [
    `CREATE TABLE IF NOT EXISTS ${quoteTable(draft)} (\n  ${lines.join(",\n  ")}\n)`,
    ...draft.indexes.map((index) => indexStatement(draft, index)),
  ];
}

/** One `ALTER TABLE` that adds the columns. */
export function addColumnsStatement(table: { schema: string; table: string }, columns: readonly ColumnDraft[]): string {
  return `ALTER TABLE ${quoteTable(table)}\n  ${columns.map((column) => `ADD COLUMN IF NOT EXISTS ${columnDefinition(column)}`).join(",\n  ")}`;
}

function indexStatement(table: { schema: string; table: string }, index: IndexDraft): string {
  const using = index.using === undefined ? "" : ` USING ${index.using}`;
  return `CREATE ${index.unique === true ? "UNIQUE " : ""}INDEX ON ${quoteTable(table)}${using} (${names(index.columns)})`;
}

function columnDefinition(column: ColumnDraft): string {
  return [
    quoteIdentifier(column.name),
    column.type,
    ...(column.identity === true ? ["GENERATED BY DEFAULT AS IDENTITY"] : []),
    ...(column.not_null === true ? ["NOT NULL"] : []),
    ...(column.default === undefined ? [] : [`DEFAULT ${defaultText(column.default)}`]),
  ].join(" ");
}

function defaultText(value: string | number | boolean): string {
  if (typeof value !== "string") return String(value);
  return DEFAULT_CALLS.has(value.toLowerCase()) ? value.toLowerCase() : quoteLiteral(value);
}

function names(columns: readonly string[]): string {
  return columns.map(quoteIdentifier).join(", ");
}

/** The table behind a target's name, if it exists; a name that only folds to it is judged by the settings again. */
export async function findTarget(
  tx: Transaction,
  target: { schema: string; table: string },
  policy: TablePolicy,
  stateSchema: string,
): Promise<Table | undefined> {
  const table = await readTable(tx, target);
  if (table === undefined) return undefined;
  mustNotBeState(table, stateSchema);
  if (!allowsTable(policy, table)) throw tableNotAllowed(table);
  return table;
}

export interface CreateResult {
  action: "created" | "exists" | "columns_added" | "would_create" | "would_add_columns";
  statements: string[];
  /** Columns wanted that the existing table does not have. */
  missing: string[];
  /** Columns that exist with another type. */
  different: { column: string; table: string; wanted: string }[];
}

/** Creates a table, or compares the one that exists and adds what it lacks where that is asked for. */
async function createTable(
  tx: Transaction,
  draft: TableDraft,
  existing: Table | undefined,
  options: { ifNotExists: boolean; addColumns: boolean; policy?: TablePolicy },
): Promise<CreateResult> {
  const formatted = await formatTypes(
    tx,
    draft.columns.map(({ type }) => type),
  );
  const columns = draft.columns.map((column) => ({ ...column, type: formatted.get(column.type) ?? column.type }));
  checkNames({ ...draft, columns });
  if (existing === undefined) {
    await requireSchema(tx, draft.schema, options.policy);
    const statements = createTableStatements({ ...draft, columns });
    for (const statement of statements) await tx.query(statement);
    return { action: "created", statements, missing: [], different: [] };
  }
  if (!options.ifNotExists) {
    throw new ToolError("table_exists", "There is already a relation of this name.", {
      next: "Leave if_not_exists true to keep it, or choose another name.",
      details: { schema: existing.schema, table: existing.table, kind: existing.kind },
      instead: { arguments: { if_not_exists: undefined } },
    });
  }
  const { missing, different } = compare(columns, existing);
  const statements = missing.length > 0 ? [addColumnsStatement(existing, missing)] : [];
  const adds = options.addColumns && statements.length > 0;
  if (adds) for (const statement of statements) await tx.query(statement);
  return {
    action: adds ? "columns_added" : "exists",
    statements,
    missing: missing.map(({ name }) => name),
    different,
  };
}

/** Creates a table and those of its children, all or none; a dry run does the same and takes it back. */
export async function createTables(
  tx: Transaction,
  drafts: readonly { draft: TableDraft; existing: Table | undefined }[],
  options: { ifNotExists: boolean; addColumns: boolean; dryRun: boolean; policy?: TablePolicy },
): Promise<CreateResult[]> {
  const results: CreateResult[] = [];
  const undo = new Error("undo");
  try {
    await tx.savepoint(async () => {
      // A child refers to its parent, so the parent of a dry run must be there for a moment.
      for (const { draft, existing } of drafts) {
        results.push(await createTable(tx, draft, existing, options));
      }
      if (options.dryRun) throw undo;
    });
  } catch (error) {
    if (error !== undo) throw error;
  }
  return options.dryRun ? results.map((result) => ({ ...result, action: WOULD[result.action] })) : results;
}

const WOULD: Record<CreateResult["action"], CreateResult["action"]> = {
  created: "would_create",
  columns_added: "would_add_columns",
  would_create: "would_create",
  would_add_columns: "would_add_columns",
  exists: "exists",
};

function compare(
  columns: readonly ColumnDraft[],
  table: Table,
): { missing: ColumnDraft[]; different: CreateResult["different"] } {
  const existing = new Map(table.columns.map(({ name, type }) => [name, type]));
  return {
    missing: columns.filter(({ name }) => !existing.has(name)),
    different: columns.flatMap(({ name, type }) => {
      const has = existing.get(name);
      return has === undefined || has === type ? [] : [{ column: name, table: has, wanted: type }];
    }),
  };
}

function checkNames(draft: TableDraft): void {
  const seen = new Set<string>();
  for (const { name } of draft.columns) {
    if (name === "" || Buffer.byteLength(name) > 63 || name.includes("\0")) {
      throw new ToolError("invalid_name", "A column's name has 1 to 63 bytes and no NUL.", {
        details: { column: name.slice(0, 100) },
      });
    }
    if (seen.has(name)) {
      throw new ToolError("duplicate_column", "A column is named twice.", { details: { column: name } });
    }
    seen.add(name);
  }
  for (const name of [...draft.primaryKey, ...draft.indexes.flatMap(({ columns }) => columns)]) {
    if (seen.has(name)) continue;
    throw new ToolError("unknown_column", "primary_key or indexes name a column that the table would not have.", {
      next: "Use one of the columns.",
      details: { column: name, nearest: nearest(name, seen), columns: [...seen].slice(0, 50) },
    });
  }
}
