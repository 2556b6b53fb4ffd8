import { nearest, ToolError } from "@es-to-pg/mcp-kit";
import { neverCounted } from "./catalog.ts";
import { allowsSchema, allowsTable, everything, globToRegExp, type TablePolicy } from "./policy.ts";
import type { Transaction } from "./session.ts";

/** A table as a list shows it; the partitions of a partitioned one are folded into it. */
export interface ListedTable {
  schema: string;
  table: string;
  kind: "table" | "partitioned" | "view" | "materialized view" | "foreign table";
  /** The planner's estimate; null where the table was never analysed, and for views. */
  rowsEstimate: number | null;
  bytes: number;
  partitions: number;
  comment: string | null;
}

const kinds = { r: "table", p: "partitioned", v: "view", m: "materialized view", f: "foreign table" } as const;

function isKind(letter: unknown): letter is keyof typeof kinds {
  return typeof letter === "string" && letter in kinds;
}

/** Names are matched here and not in SQL, by the same globs as the settings; a database beyond this is listed in part. */
const namesMax = 50_000;

/** Throws `schema_not_found` with the nearest names of those that the settings allow. */
export async function requireSchema(tx: Transaction, schema: string, policy: TablePolicy = everything): Promise<void> {
  const { rows } = await tx.query("SELECT nspname FROM pg_namespace ORDER BY 1");
  const schemas = rows.map(([name]) => String(name)).filter((name) => allowsSchema(policy, name));
  if (schemas.includes(schema)) return;
  throw new ToolError("schema_not_found", "There is no such schema.", {
    next: "Use one of the nearest names; list_tables without schema shows all. No tool makes a schema.",
    details: { schema, nearest: nearest(schema, schemas) },
  });
}

/**
 * One page of the tables the settings allow, by schema and name, after `after`. System schemas are listed only when
 * asked for by name. `total` counts what matches on all pages.
 */
export async function listTables(
  tx: Transaction,
  options: {
    schema?: string | undefined;
    pattern: string;
    policy: TablePolicy;
    after?: { schema: string; table: string } | undefined;
    limit: number;
  },
): Promise<{ tables: ListedTable[]; total: number; more: boolean }> {
  const { schema, pattern, policy, after, limit } = options;
  const { rows } = await tx.query(
    `SELECT n.nspname, c.relname, c.oid::text
     FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
     WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f') AND NOT c.relispartition
       AND CASE WHEN $1::text IS NULL THEN n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'
                ELSE n.nspname = $1 END
     ORDER BY n.nspname COLLATE "C", c.relname COLLATE "C" LIMIT ${namesMax}`,
    [schema ?? null],
  );
  if (rows.length === 0 && schema !== undefined) await requireSchema(tx, schema, policy);
  // A pattern with a dot speaks of schema and table, one without of the table alone.
  const wanted = globToRegExp(pattern);
  const matching = rows
    .map(([space, table, oid]) => ({ schema: String(space), table: String(table), oid: String(oid) }))
    .filter((table) => wanted.test(pattern.includes(".") ? `${table.schema}.${table.table}` : table.table))
    .filter((table) => allowsTable(policy, table));
  const start =
    after === undefined
      ? 0
      : matching.findIndex(
          ({ schema: space, table }) => space > after.schema || (space === after.schema && table > after.table),
        );
  const page = start < 0 ? [] : matching.slice(start, start + limit);
  if (page.length === 0) return { tables: [], total: matching.length, more: false };
  const details = await tx.query(
    `SELECT c.oid::text, c.relkind, CASE WHEN NOT ${neverCounted("c")} THEN c.reltuples::float8 END, coalesce(pg_total_relation_size(c.oid), 0)::float8,
       coalesce(p.partitions, 0)::int4, p.rows::float8, p.bytes::float8, obj_description(c.oid, 'pg_class')
     FROM pg_class c
     LEFT JOIN LATERAL (
       SELECT count(*) AS partitions, sum(l.reltuples) FILTER (WHERE NOT ${neverCounted("l")}) AS rows, sum(pg_total_relation_size(l.oid)) AS bytes
       FROM pg_partition_tree(c.oid) t JOIN pg_class l ON l.oid = t.relid
       WHERE c.relkind = 'p' AND t.isleaf) p ON c.relkind = 'p'
     WHERE c.oid = ANY($1::oid[])`,
    [page.map(({ oid }) => oid)],
  );
  const byOid = new Map(details.rows.map((row) => [String(row[0]), row]));
  const tables = page.flatMap(({ schema: space, table, oid }): ListedTable[] => {
    // A table dropped between the two queries is gone from the list, too.
    const [, letter, estimate, bytes, partitions, partitionRows, partitionBytes, comment] = byOid.get(oid) ?? [];
    if (!isKind(letter)) return [];
    const known = letter === "p" ? partitionRows : letter === "v" ? null : estimate;
    return [
      {
        schema: space,
        table,
        kind: kinds[letter],
        rowsEstimate: typeof known === "number" ? known : null,
        bytes: Number(letter === "p" ? (partitionBytes ?? 0) : bytes),
        partitions: Number(partitions),
        comment: typeof comment === "string" ? comment : null,
      },
    ];
  });
  return { tables, total: matching.length, more: start + page.length < matching.length };
}
