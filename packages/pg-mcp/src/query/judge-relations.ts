import { ToolError } from "@es-to-pg/mcp-kit";
import {
  allowsTable,
  everything,
  isRestricted,
  type TablePolicy,
  type Transaction,
  tableNotAllowed,
} from "../postgres/index.ts";
import { firstUserOid, heldSecrets, secretRelations, valueRelations } from "./function-policy.ts";
import { oids } from "./questions.ts";
import { columnOffset, columnsMax } from "./references.ts";

/** A table is read with those that inherit from it. Partitions need not be allowed by name, but may not be denied. */
export async function judgeChildren(tx: Transaction, parents: readonly number[], policy: TablePolicy): Promise<void> {
  const { schemasDeny, tablesDeny } = policy;
  if (schemasDeny.length + tablesDeny.length === 0) return;
  const { rows } = await tx.query(
    `WITH RECURSIVE below(oid) AS (SELECT pg_catalog.unnest($1::oid[]) UNION
       SELECT i.inhrelid FROM below JOIN pg_catalog.pg_inherits i ON i.inhparent = below.oid)
     SELECT n.nspname, c.relname FROM below JOIN pg_catalog.pg_class c ON c.oid = below.oid
       JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace WHERE c.relkind IN ('r', 'p', 'f')`,
    [oids(parents)],
  );
  for (const [schema, name] of rows) {
    const table = { schema: String(schema), table: String(name) };
    if (!allowsTable({ ...everything, schemasDeny, tablesDeny }, table)) throw tableNotAllowed(table);
  }
}

/** Secrets are refused by resolved relation, and tables that the settings leave out. */
export async function judgeRelation(
  tx: Transaction,
  { oid, ...table }: { oid: number; schema: string; table: string },
  { policy, columns }: { policy: TablePolicy; columns: readonly number[] },
): Promise<void> {
  if (table.schema === "pg_toast") {
    throw new ToolError("table_refused", "Where long values are stored is not read: no name tells whose they are.", {
      next: "Read the column of the table itself.",
      details: table,
    });
  }
  if (oid < firstUserOid) {
    if (secretRelations.has(table.table)) {
      throw new ToolError("table_refused", "That relation may hold secrets and is not read.", {
        next: "Roles are in pg_roles, connections in pg_stat_activity.",
        details: table,
      });
    }
    if (isRestricted(policy) && valueRelations.has(table.table)) throw tableNotAllowed(table);
    await refuseHeld(tx, table.table, { oid, columns });
    return;
  }
  // What a view reads is judged too: a view is no way around the settings.
  if (!allowsTable(policy, table)) throw tableNotAllowed(table);
}

/** Refuses a relation that is read every day, where just now it holds a secret in what is read of it. */
export async function refuseHeld(
  tx: Transaction,
  relation: string,
  read?: { oid: number; columns: readonly number[] },
): Promise<void> {
  const held = heldSecrets.get(relation);
  if (held === undefined) return;
  const { rows } = await tx.query(
    `SELECT EXISTS (${held.query}),
       (SELECT attnum::int4 FROM pg_catalog.pg_attribute WHERE attrelid = $1::oid AND attname = $2)`,
    [read?.oid ?? 0, held.column ?? ""],
  );
  const [isHeld, column] = rows[0] ?? [];
  if (isHeld !== true) return;
  const ofRelation = read?.columns.filter((key) => Math.floor(key / columnsMax) === read.oid) ?? [];
  // A whole row is column 0. Where nothing tells the columns, as in a text, any may be read.
  const isRead = ofRelation.some((key) => [0, column].includes((key % columnsMax) - columnOffset));
  if (typeof column === "number" && ofRelation.length > 0 && !isRead) return;
  throw new ToolError("table_refused", "That relation holds a secret at the moment and is not read.", {
    next: held.next,
    details: { table: relation, ...(held.column === undefined ? {} : { column: held.column }) },
  });
}
