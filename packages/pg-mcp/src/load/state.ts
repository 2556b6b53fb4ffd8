import { readFileSync } from "node:fs";
import { ToolError } from "@es-to-pg/mcp-kit";
import type { Transaction } from "../postgres/index.ts";
import type { LoadContext } from "./context.ts";
import { errorCode } from "./database-error.ts";

/** The schema that holds the server's state unless PG_MCP_STATE_SCHEMA names another. */
const STATE_SCHEMA_DEFAULT = "data_transformer";

/** What `ensureState` needs of a transaction. */
interface StateTransaction {
  query(sql: string, params?: unknown[]): Promise<{ rows: unknown[][] }>;
}

/** Serialises the creation of the state between processes; any constant that nothing else uses. */
const STATE_LOCK = "data_transformer.state";

/** The name as SQL, quoted always, so that any legal schema name works. */
function quoted(schema: string): string {
  return `"${schema.replaceAll('"', '""')}"`;
}

/** The SQL that creates the state in `schema`, one statement each. */
export function stateStatements(schema: string = STATE_SCHEMA_DEFAULT): string[] {
  const text = readFileSync(new URL("../../sql/state.sql", import.meta.url), "utf8");
  const name = quoted(schema);
  return text
    .replaceAll(/^--.*\n/gm, "")
    .replaceAll(/\bdata_transformer\b/g, () => name)
    .split(/;\s*\n/)
    .map((statement) => statement.trim())
    .filter((statement) => statement !== "");
}

/**
 * Creates the state schema and its tables where they are missing. Two processes may do so at once. Throws
 * `state_missing` with the SQL to run where the role may not, and `state_outdated` where tables are not as they must be.
 */
export async function ensureState(tx: StateTransaction, schema: string = STATE_SCHEMA_DEFAULT): Promise<void> {
  if (await isComplete(tx, schema)) return;
  // CREATE … IF NOT EXISTS still fails for the second of two that run at once, so they queue here.
  await tx.query("SELECT pg_advisory_xact_lock(hashtext($1))", [`${STATE_LOCK}.${schema}`]);
  if (await isComplete(tx, schema)) return;
  const statements = stateStatements(schema);
  try {
    for (const statement of statements) await tx.query(statement);
    if (!(await isComplete(tx, schema))) throw stateOutdated(schema);
  } catch (error) {
    // An index on a column that a table of the same name does not have.
    if (errorCode(error) === "42703") throw stateOutdated(schema);
    if (errorCode(error) !== "42501") throw error;
    throw new ToolError("state_missing", `The server's role may not create its state schema ${quoted(schema)}.`, {
      next: "Have an administrator run the statements in sql once, then repeat the call.",
      details: {
        schema,
        sql: [...statements, ...grants(schema)].map((statement) => `${statement};`).join("\n"),
      },
      cause: error,
    });
  }
}

/** Reads the state with the writer's role: a reader role need not see it. */
export async function readState<T>(
  context: LoadContext,
  work: (tx: Transaction) => Promise<T>,
  signal: AbortSignal,
): Promise<T> {
  try {
    return await context.postgres.write(work, { signal });
  } catch (error) {
    if (errorCode(error) === "42703") throw stateOutdated(context.settings.PG_MCP_STATE_SCHEMA);
    if (errorCode(error) !== "42P01") throw error;
    throw new ToolError("unknown_load", "This database has no loads yet.", {
      next: "Call bulk_insert to start one.",
      cause: error,
    });
  }
}

/** The error for a state schema whose tables lack columns: another version made them, or another program. */
function stateOutdated(schema: string): ToolError {
  return new ToolError("state_outdated", `The tables in ${quoted(schema)} are not those of this version.`, {
    next: "Set PG_MCP_STATE_SCHEMA to another name, or have an administrator drop that schema if its loads may be forgotten.",
    details: { schema },
  });
}

/** Names of the state's columns, as `table.column`. */
function stateColumns(): string[] {
  return stateStatements().flatMap((statement) => {
    const table = /^CREATE TABLE IF NOT EXISTS "\w+"\.(\w+) \(/.exec(statement)?.[1];
    if (table === undefined) return [];
    return [...statement.matchAll(/^ {2}([a-z_]+) /gm)].map((match) => `${table}.${match[1]}`);
  });
}

async function isComplete(tx: StateTransaction, schema: string): Promise<boolean> {
  const columns = stateColumns();
  const { rows } = await tx.query(
    `SELECT count(*)::int
       FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
       JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid AND NOT a.attisdropped
      WHERE n.nspname = $1 AND c.relkind = 'r' AND c.relname || '.' || a.attname = ANY ($2)`,
    [schema, columns],
  );
  return Number(rows[0]?.[0]) === columns.length;
}

/** What the administrator's run must add, for a role that the failed transaction can no longer be asked about. */
function grants(schema: string): string[] {
  const name = quoted(schema);
  return [
    `GRANT USAGE, CREATE ON SCHEMA ${name} TO <the server's role>`,
    `GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA ${name} TO <the server's role>`,
  ];
}
