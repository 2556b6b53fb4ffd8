import { nearest, ToolError } from "@es-to-pg/mcp-kit";
import { z } from "zod";
import { allowsTable, defaultSchemas, everything, type TablePolicy, tableNotAllowed } from "./policy.ts";
import type { Transaction } from "./session.ts";

const columnSchema = z.object({
  name: z.string(),
  /** As `format_type` prints it, with the modifier: `numeric(10,2)`. */
  type: z.string(),
  typeOid: z.string(),
  /** Without the modifier, and of a domain the type beneath it: `numeric`. */
  baseType: z.string(),
  typmod: z.number(),
  /** As SQL, where it is not that of the type. */
  collation: z.string().nullable(),
  /** Schema, as SQL, of the operators that compare values where it is an extension's (citext) and not `pg_catalog`. */
  comparedIn: z.string().nullable(),
  notNull: z.boolean(),
  default: z.string().nullable(),
  generated: z.literal("always").nullable(),
  identity: z.enum(["always", "by default"]).nullable(),
  comment: z.string().nullable(),
});

const tableSchema = z.object({
  oid: z.string(),
  schema: z.string(),
  table: z.string(),
  kind: z.enum(["table", "partitioned", "view", "materialized view", "foreign table"]),
  persistence: z.enum(["permanent", "unlogged", "temporary"]),
  /** Row security is on and holds for the role that asks. */
  rowSecurity: z.boolean(),
  rowsEstimate: z.number().nullable(),
  comment: z.string().nullable(),
  partitionOf: z.string().nullable(),
  partitionKey: z.string().nullable(),
  partitions: z.number(),
  columns: z.array(columnSchema),
  primaryKey: z.array(z.string()).nullable(),
  /** Every unique index, the primary key's included; an expression counts as no column. */
  uniques: z.array(
    z.object({
      name: z.string(),
      columns: z.array(z.string()),
      deferrable: z.boolean(),
      partial: z.boolean(),
      expression: z.boolean(),
    }),
  ),
  checks: z.array(z.object({ name: z.string(), definition: z.string() })),
  foreignKeys: z.array(z.object({ name: z.string(), definition: z.string() })),
  indexes: z.array(z.object({ name: z.string(), definition: z.string() })),
  triggers: z.array(z.string()),
  rules: z.array(z.string()),
});

export type Table = z.infer<typeof tableSchema>;
export type Column = z.infer<typeof columnSchema>;

/** SQL of whether a relation's rows were never counted; before 14 that looks as if it were empty. */
export function neverCounted(relation: string): string {
  return `(${relation}.reltuples < 0 OR ${relation}.reltuples = 0 AND ${relation}.relpages = 0
    AND current_setting('server_version_num')::int4 < 140000)`;
}

/** A table by its OID as one JSON text: names and definitions need no second quoting that way. */
const describeTable = `
SELECT json_build_object(
  'oid', c.oid::text,
  'schema', n.nspname,
  'table', c.relname,
  'kind', CASE c.relkind WHEN 'r' THEN 'table' WHEN 'p' THEN 'partitioned' WHEN 'v' THEN 'view'
                         WHEN 'm' THEN 'materialized view' ELSE 'foreign table' END,
  'persistence', CASE c.relpersistence WHEN 'p' THEN 'permanent' WHEN 'u' THEN 'unlogged' ELSE 'temporary' END,
  'rowSecurity', row_security_active(c.oid),
  'rowsEstimate', CASE WHEN ${neverCounted("c")} THEN NULL ELSE c.reltuples::int8 END,
  'comment', obj_description(c.oid, 'pg_class'),
  'partitionOf', (SELECT i.inhparent::regclass::text FROM pg_inherits i WHERE i.inhrelid = c.oid AND c.relispartition),
  'partitionKey', CASE c.relkind WHEN 'p' THEN pg_get_partkeydef(c.oid) END,
  'partitions', (SELECT count(*) FROM pg_inherits i WHERE i.inhparent = c.oid AND c.relkind = 'p'),
  'columns', (
    SELECT coalesce(json_agg(json_build_object(
      'name', a.attname,
      'type', format_type(a.atttypid, a.atttypmod),
      'typeOid', a.atttypid::text,
      'baseType', format_type(coalesce(nullif(t.typbasetype, 0), t.oid), NULL),
      'typmod', CASE WHEN t.typtype = 'd' THEN t.typtypmod ELSE a.atttypmod END,
      'collation', CASE WHEN a.attcollation <> t.typcollation THEN (
        SELECT format('%I.%I', cn.nspname, co.collname)
        FROM pg_collation co JOIN pg_namespace cn ON cn.oid = co.collnamespace WHERE co.oid = a.attcollation) END,
      'comparedIn', (
        SELECT quote_ident(en.nspname)
        FROM pg_opclass oc
        JOIN pg_amop ao ON ao.amopfamily = oc.opcfamily AND ao.amopstrategy = 3
          AND ao.amoplefttype = oc.opcintype AND ao.amoprighttype = oc.opcintype
        JOIN pg_operator eo ON eo.oid = ao.amopopr
        JOIN pg_namespace en ON en.oid = eo.oprnamespace
        WHERE oc.opcdefault AND oc.opcmethod = 403 AND oc.opcintype = coalesce(nullif(t.typbasetype, 0), t.oid)
          AND en.nspname <> 'pg_catalog' LIMIT 1),
      'notNull', a.attnotnull OR t.typnotnull,
      'default', CASE WHEN a.attgenerated = '' THEN pg_get_expr(d.adbin, d.adrelid) END,
      'generated', CASE WHEN a.attgenerated <> '' THEN 'always' END,
      'identity', CASE a.attidentity WHEN 'a' THEN 'always' WHEN 'd' THEN 'by default' END,
      'comment', col_description(c.oid, a.attnum)
    ) ORDER BY a.attnum), '[]'::json)
    FROM pg_attribute a
    JOIN pg_type t ON t.oid = a.atttypid
    LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
    WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped),
  'primaryKey', (
    SELECT json_agg(a.attname ORDER BY k.position)
    FROM pg_constraint p
    CROSS JOIN LATERAL unnest(p.conkey) WITH ORDINALITY AS k(attnum, position)
    JOIN pg_attribute a ON a.attrelid = p.conrelid AND a.attnum = k.attnum
    WHERE p.conrelid = c.oid AND p.contype = 'p'),
  'uniques', (
    SELECT coalesce(json_agg(json_build_object(
      'name', ic.relname,
      'columns', (
        SELECT coalesce(json_agg(a.attname ORDER BY k.position), '[]'::json)
        FROM unnest(i.indkey::int2[]) WITH ORDINALITY AS k(attnum, position)
        JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.attnum
        WHERE k.position <= i.indnkeyatts),
      'deferrable', NOT i.indimmediate,
      'partial', i.indpred IS NOT NULL,
      'expression', i.indexprs IS NOT NULL
    ) ORDER BY i.indisprimary DESC, ic.relname), '[]'::json)
    FROM pg_index i JOIN pg_class ic ON ic.oid = i.indexrelid
    WHERE i.indrelid = c.oid AND i.indisunique AND i.indisvalid),
  'checks', (
    SELECT coalesce(json_agg(json_build_object('name', k.conname, 'definition', pg_get_constraintdef(k.oid))
                    ORDER BY k.conname), '[]'::json)
    FROM pg_constraint k WHERE k.conrelid = c.oid AND k.contype = 'c'),
  'foreignKeys', (
    SELECT coalesce(json_agg(json_build_object('name', k.conname, 'definition', pg_get_constraintdef(k.oid))
                    ORDER BY k.conname), '[]'::json)
    FROM pg_constraint k WHERE k.conrelid = c.oid AND k.contype = 'f'),
  'indexes', (
    SELECT coalesce(json_agg(json_build_object('name', ic.relname, 'definition', pg_get_indexdef(i.indexrelid))
                    ORDER BY ic.relname), '[]'::json)
    FROM pg_index i JOIN pg_class ic ON ic.oid = i.indexrelid WHERE i.indrelid = c.oid),
  'triggers', (
    SELECT coalesce(json_agg(g.tgname ORDER BY g.tgname), '[]'::json)
    FROM pg_trigger g
    WHERE g.tgrelid IN (SELECT c.oid UNION ALL SELECT l.relid FROM pg_partition_tree(c.oid) l WHERE l.relid <> c.oid)
      -- The copies of a parent's trigger on its partitions are that trigger.
      AND NOT g.tgisinternal AND g.tgparentid = 0 AND g.tgenabled <> 'D'),
  'rules', (
    SELECT coalesce(json_agg(r.rulename ORDER BY r.rulename), '[]'::json)
    FROM pg_rewrite r WHERE r.ev_class = c.oid AND r.rulename <> '_RETURN')
)
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.oid = $1::oid`;

function unquote(quoted: string | undefined): string | undefined {
  return quoted?.replaceAll('""', '"');
}

/** Readings of a name in the order they are tried: as written, as `schema.table`, and folded as SQL folds it. */
export function nameReadings(
  name: { schema?: string | undefined; table: string },
  schemas: readonly string[],
): { schema: string; table: string }[] {
  const parts = /^(?:"((?:[^"]|"")+)"|([^".]+))(?:\.(?:"((?:[^"]|"")+)"|([^".]+)))?$/su.exec(name.table);
  const first = unquote(parts?.[1]) ?? parts?.[2];
  const second = unquote(parts?.[3]) ?? parts?.[4];
  const readings: { schema: string; table: string }[] = [];
  const within = name.schema === undefined ? schemas : [name.schema];
  for (const schema of within) readings.push({ schema, table: name.table });
  if (first !== undefined && second !== undefined && (name.schema === undefined || name.schema === first)) {
    readings.push({ schema: first, table: second });
  }
  if (first !== undefined && second === undefined && parts?.[1] !== undefined) {
    for (const schema of within) readings.push({ schema, table: first });
  }
  const folded = readings.map(({ schema, table }) => ({ schema: schema.toLowerCase(), table: table.toLowerCase() }));
  const seen = new Set<string>();
  return [...readings, ...folded].filter(({ schema, table }) => {
    const key = JSON.stringify([schema, table]);
    return !seen.has(key) && seen.add(key);
  });
}

/**
 * Reads a table, view or partitioned table from the catalog; undefined where no reading of the name exists.
 * `schemas` are where an unqualified name is looked for.
 */
export async function readTable(
  tx: Transaction,
  name: { schema?: string | undefined; table: string },
  schemas: readonly string[] = ["public"],
): Promise<Table | undefined> {
  const readings = nameReadings(name, schemas);
  const found = await tx.query(
    `SELECT c.oid::text
     FROM unnest($1::text[], $2::text[]) WITH ORDINALITY AS w(schema, relation, position)
     JOIN pg_namespace n ON n.nspname = w.schema
     JOIN pg_class c ON c.relnamespace = n.oid AND c.relname = w.relation AND c.relkind IN ('r', 'p', 'v', 'm', 'f')
     ORDER BY w.position LIMIT 1`,
    [readings.map(({ schema }) => schema), readings.map(({ table }) => table)],
  );
  const oid = found.rows[0]?.[0];
  if (oid === undefined) return undefined;
  const { rows } = await tx.query(describeTable, [oid]);
  return tableSchema.parse(JSON.parse(String(rows[0]?.[0])));
}

/** Reads a table the settings allow, or fails with the nearest names that exist. */
export async function requireTable(
  tx: Transaction,
  name: { schema?: string | undefined; table: string },
  policy: TablePolicy = everything,
): Promise<Table> {
  const schemas = defaultSchemas(policy);
  const table = await readTable(tx, name, schemas);
  if (table !== undefined) {
    if (!allowsTable(policy, table)) throw tableNotAllowed(table);
    return table;
  }
  const near = await nearestTables(tx, name, policy);
  throw new ToolError("table_not_found", "There is no such table.", {
    next:
      near.length === 0
        ? "Call list_tables for the tables; create_table makes a new one."
        : "Use one of the nearest names, or call list_tables; create_table makes a new one.",
    details: { table: name.table, schema: name.schema ?? schemas.join(", "), nearest: near },
    // Its name says the schema where that is not the usual one.
    ...(near[0] === undefined ? {} : { instead: { arguments: { table: near[0], schema: undefined } } }),
  });
}

/** The names of existing tables that look like a missing one, closest first, those of other schemas qualified. */
export async function nearestTables(
  tx: Transaction,
  name: { schema?: string | undefined; table: string },
  policy: TablePolicy = everything,
): Promise<string[]> {
  const { rows } = await tx.query(
    `SELECT n.nspname, c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
     WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f') AND NOT c.relispartition
       AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema' AND has_schema_privilege(n.oid, 'USAGE')
     ORDER BY 1, 2 LIMIT 20000`,
  );
  const home = defaultSchemas(policy)[0] ?? "public";
  const dot = name.table.lastIndexOf(".");
  const wanted = name.schema ?? (dot < 0 ? home : name.table.slice(0, dot).replaceAll('"', ""));
  const short = name.table.slice(name.table.lastIndexOf(".") + 1).replaceAll('"', "");
  const tables = rows
    .map(([schema, table]) => ({ schema: String(schema), table: String(table) }))
    .filter((table) => allowsTable(policy, table));
  const byTable = new Map<string, string[]>();
  for (const { schema, table } of tables) {
    byTable.set(table, [...(byTable.get(table) ?? []), schema === home ? table : `${schema}.${table}`]);
  }
  const names = nearest(short, byTable.keys()).flatMap((table) => byTable.get(table) ?? []);
  // A table of many schemas must not hide the one of the schema that was asked for, or nearly.
  const ranks = new Map(
    nearest(wanted, new Set(tables.map(({ schema }) => schema)), 20).map((schema, at) => [schema, at]),
  );
  const rank = (qualified: string): number =>
    ranks.get(qualified.includes(".") ? qualified.slice(0, qualified.indexOf(".")) : home) ?? ranks.size;
  return names.toSorted((a, b) => rank(a) - rank(b)).slice(0, 5);
}
