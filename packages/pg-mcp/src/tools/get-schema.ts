import { clip, fitItems } from "@es-to-pg/mcp-kit";
import { z } from "zod";
import { type Column, requireTable } from "../postgres/index.ts";
import { tableName } from "./inputs.ts";
import { defineTool } from "./tool.ts";

const textCharactersMax = 300;
/** Bytes of each list besides the columns; a table of a thousand partitions' worth of indexes is not read at one go. */
const listBytesMax = 1_500;

const named = z.object({ name: z.string(), definition: z.string() });

export const getSchema = defineTool({
  name: "get_schema",
  title: "Get a table's schema",
  description:
    "Describes a table or view: columns with types, keys, uniques, checks, foreign keys, indexes, triggers. Use it before a query or a mapping.",
  input: z.strictObject({
    table: tableName.describe("Table name, or schema.table."),
    schema: z.string().optional().describe("Default: the first allowed schema, else public."),
    cursor: z.string().optional().describe("next_cursor of the previous page of columns."),
  }),
  output: z.object({
    schema: z.string(),
    table: z.string(),
    kind: z.string(),
    persistence: z.string().optional(),
    comment: z.string().optional(),
    rows_estimate: z.number().nullable(),
    row_security: z.boolean().optional(),
    partition_of: z.string().optional(),
    partition_key: z.string().optional(),
    partitions: z.number().optional(),
    columns: z.array(
      z.object({
        name: z.string(),
        type: z.string(),
        not_null: z.boolean().optional(),
        default: z.string().optional(),
        generated: z.string().optional(),
        identity: z.string().optional(),
        comment: z.string().optional(),
      }),
    ),
    columns_total: z.number(),
    primary_key: z.array(z.string()).nullable(),
    uniques: z.array(
      z.object({ name: z.string(), columns: z.array(z.string()), unfit: z.array(z.string()).optional() }),
    ),
    checks: z.array(named).optional(),
    foreign_keys: z.array(named).optional(),
    indexes: z.array(named).optional(),
    triggers: z.array(z.string()).optional(),
    rules: z.array(z.string()).optional(),
    left_out: z.array(z.string()).optional(),
    next_cursor: z.string().optional(),
  }),
  annotations: { readOnlyHint: true, destructiveHint: false, idempotentHint: true, openWorldHint: false },
  async handler(params, { postgres, policy, signal, cursors }) {
    const scope = { tool: "get_schema", arguments: params };
    const from = params.cursor === undefined ? 0 : cursors.decode(scope, params.cursor, z.int().min(0));
    const table = await postgres.read((tx) => requireTable(tx, params, policy), { signal });
    const columns = fitItems(table.columns.slice(from).map(shownColumn));
    const next = from + columns.items.length;
    const leftOut: string[] = [];
    const list = <T>(name: string, items: readonly T[]): T[] => {
      const fitting = fitItems(items, { bytesMax: listBytesMax });
      if (fitting.cutBy !== null) leftOut.push(`${items.length - fitting.items.length} ${name}`);
      return fitting.items;
    };
    const primary = table.primaryKey?.join("\0");
    const uniques = table.uniques.filter(({ columns: names }) => names.join("\0") !== primary);
    return {
      schema: table.schema,
      table: table.table,
      kind: table.kind,
      ...(table.persistence === "permanent" ? {} : { persistence: table.persistence }),
      ...(table.comment === null ? {} : { comment: clip(table.comment, textCharactersMax) }),
      rows_estimate: table.rowsEstimate,
      ...(table.rowSecurity ? { row_security: true } : {}),
      ...(table.partitionOf === null ? {} : { partition_of: table.partitionOf }),
      ...(table.partitionKey === null ? {} : { partition_key: table.partitionKey, partitions: table.partitions }),
      columns: columns.items,
      columns_total: table.columns.length,
      primary_key: table.primaryKey,
      uniques: list("uniques", uniques).map(({ name, columns: names, ...unfit }) => ({
        name,
        columns: names,
        ...unfitness(unfit),
      })),
      ...present("checks", list("checks", table.checks).map(shownDefinition)),
      ...present("foreign_keys", list("foreign_keys", table.foreignKeys).map(shownDefinition)),
      ...present("indexes", list("indexes", table.indexes).map(shownDefinition)),
      ...present("triggers", list("triggers", table.triggers)),
      ...present("rules", list("rules", table.rules)),
      ...present("left_out", leftOut),
      ...(next < table.columns.length ? { next_cursor: cursors.encode(scope, next) } : {}),
    };
  },
});

function shownColumn(column: Column) {
  return {
    name: column.name,
    type: column.type,
    ...(column.notNull ? { not_null: true } : {}),
    ...(column.default === null ? {} : { default: clip(column.default, textCharactersMax) }),
    ...(column.generated === null ? {} : { generated: column.generated }),
    ...(column.identity === null ? {} : { identity: column.identity }),
    ...(column.comment === null ? {} : { comment: clip(column.comment, textCharactersMax) }),
  };
}

function shownDefinition({ name, definition }: { name: string; definition: string }) {
  return { name, definition: clip(definition, textCharactersMax) };
}

/** Why a unique index cannot be the key of an upsert. */
function unfitness(flags: { deferrable: boolean; partial: boolean; expression: boolean }): { unfit?: string[] } {
  const unfit = Object.entries(flags).flatMap(([name, holds]) => (holds ? [name] : []));
  return unfit.length > 0 ? { unfit } : {};
}

function present<Name extends string, T>(name: Name, items: T[]): { [Key in Name]?: T[] } {
  // oxlint-disable-next-line typescript/no-unsafe-type-assertion -- a computed key of one literal type widens to string
  return (items.length > 0 ? { [name]: items } : {}) as { [Key in Name]?: T[] };
}
