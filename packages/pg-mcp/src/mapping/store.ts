import { ToolError } from "@es-to-pg/mcp-kit";
import { newId } from "@es-to-pg/staging";
import { quoteIdentifier, type Transaction } from "../postgres/index.ts";
import { changeMapping, type Mapping, parseMapping, parseMappingReference } from "./mapping.ts";

/** Where maps are kept: the state schema of the target database, created by the caller. */
function mapsTable(stateSchema: string): string {
  return `${quoteIdentifier(stateSchema)}.maps`;
}

/** Stores a mapping under a new id. */
export async function saveMapping(
  tx: Transaction,
  options: {
    mapping: Mapping;
    exportId: string | null;
    table: { schema: string; table: string };
    stateSchema: string;
  },
): Promise<string> {
  const id = newId("map");
  await tx.query(
    `INSERT INTO ${mapsTable(options.stateSchema)} (map_id, export_id, table_schema, table_name, definition) VALUES ($1, $2, $3, $4, $5)`,
    [id, options.exportId, options.table.schema, options.table.table, JSON.stringify(options.mapping)],
  );
  return id;
}

/** Reads a stored mapping; throws `unknown_mapping`. */
export async function loadMapping(
  tx: Transaction,
  id: string,
  stateSchema: string,
): Promise<{ mapping: Mapping; exportId: string | null; schema: string; table: string }> {
  const exists = await tx.query("SELECT pg_catalog.to_regclass($1) IS NOT NULL", [mapsTable(stateSchema)]);
  const { rows } =
    exists.rows[0]?.[0] === true
      ? await tx.query(
          `SELECT definition::text, export_id, table_schema, table_name FROM ${mapsTable(stateSchema)} WHERE map_id = $1`,
          [id],
        )
      : { rows: [] };
  const [row] = rows;
  if (row === undefined) {
    throw new ToolError("unknown_mapping", "No mapping has this id in this database.", {
      next: "Call propose_mapping again, or pass the mapping as an object.",
      details: { mapping_id: id },
    });
  }
  const [definition, exportId, schema, table] = row;
  return {
    mapping: parseMapping(JSON.parse(String(definition))),
    exportId: typeof exportId === "string" ? exportId : null,
    schema: String(schema),
    table: String(table),
  };
}

/** The mapping that a tool's `mapping` argument stands for: an id, an id with changes, or a whole object. */
export async function resolveMappingReference(tx: Transaction, value: unknown, stateSchema: string): Promise<Mapping> {
  return (await findMapping(tx, value, stateSchema)).mapping;
}

/** The same with the export that it was proposed for, where it was. */
export async function findMapping(
  tx: Transaction,
  value: unknown,
  stateSchema: string,
): Promise<{ mapping: Mapping; exportId: string | null }> {
  const reference = parseMappingReference(value);
  if (reference.kind === "inline") return { mapping: reference.mapping, exportId: null };
  const { mapping, exportId } = await loadMapping(tx, reference.id, stateSchema);
  return { mapping: reference.changes === undefined ? mapping : changeMapping(mapping, reference.changes), exportId };
}
