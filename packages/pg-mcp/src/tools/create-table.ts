import { clip, suggesting, ToolError } from "@es-to-pg/mcp-kit";
import { type FieldProfile, type MappingField, StagingError, type StagingStore } from "@es-to-pg/staging";
import { z } from "zod";
import { writeAudit } from "../load/audit.ts";
import { ensureState } from "../load/state.ts";
import { childDrafts } from "../mapping/children.ts";
import {
  type ColumnDraft,
  columnsOfMapping,
  createTables,
  findTarget,
  imaginedTable,
  targetName,
} from "../mapping/ddl.ts";
import { mappingReferenceArgument } from "../mapping/mapping.ts";
import { judgeMapping } from "../mapping/resolve.ts";
import { findMapping } from "../mapping/store.ts";
import { formatTypes } from "../mapping/types.ts";
import type { Table, Transaction } from "../postgres/index.ts";
import { tableName, typesByName } from "./inputs.ts";
import { defineTool } from "./tool.ts";

/** Characters of DDL in an answer; a statement for hundreds of columns is shown from its beginning. */
const ddlCharactersMax = 4_000;
const listedMax = 50;
/** Characters of one statement that the audit keeps. */
const auditedCharactersMax = 20_000;

const action = z.enum(["created", "exists", "columns_added", "would_create", "would_add_columns"]);

/** `id text`, as DDL has it. */
function columnOfText(given: unknown): unknown {
  const [, name, type] = (typeof given === "string" ? /^\s*"?(\w+)"?\s+([^,]+?)\s*$/.exec(given) : null) ?? [];
  return name === undefined ? undefined : { name, type };
}

export const createTable = defineTool({
  name: "create_table",
  title: "Create a table",
  description:
    "Creates a table from columns or from a proposed mapping, or adds missing columns to it. Answers the DDL. Next: bulk_insert.",
  input: z.strictObject({
    table: tableName.describe("Table name, or schema.table."),
    schema: z.string().optional(),
    columns: suggesting(
      z
        .array(
          suggesting(
            z.strictObject({
              name: z.string(),
              type: z.string().describe("Any PostgreSQL type."),
              not_null: z.boolean().optional(),
              default: z
                .union([z.string(), z.number(), z.boolean()])
                .optional()
                .describe("Constant, now() or gen_random_uuid()."),
              identity: z.boolean().optional(),
            }),
            columnOfText,
          ),
        )
        .min(1)
        .max(1600),
      typesByName("name"),
    ).optional(),
    mapping: mappingReferenceArgument.optional(),
    primary_key: z.array(z.string()).optional().describe("Default: the mapping's key."),
    indexes: z
      .array(
        z.strictObject({
          columns: z.array(z.string()).min(1),
          unique: z.boolean().optional(),
          using: z.enum(["btree", "gin", "gist", "brin", "hash"]).optional(),
        }),
      )
      .max(50)
      .optional(),
    if_not_exists: z.boolean().default(true),
    add_columns: z.boolean().default(false).describe("Add columns an existing table lacks."),
    dry_run: z.boolean().default(false).describe("Run it and roll back."),
  }),
  output: z.object({
    schema: z.string(),
    table: z.string(),
    action,
    children: z
      .array(
        z.object({
          table: z.string(),
          action: z.string(),
          ddl: z.array(z.string()),
          missing_columns: z.array(z.string()),
        }),
      )
      .optional(),
    ddl: z.array(z.string()),
    missing_columns: z.array(z.string()).optional(),
    different_types: z.array(z.object({ column: z.string(), table: z.string(), wanted: z.string() })).optional(),
    next: z.string().optional(),
  }),
  annotations: { readOnlyHint: false, destructiveHint: false, idempotentHint: true, openWorldHint: false },
  async handler(params, { postgres, policy, settings, store, signal }) {
    const target = targetName(params, policy, settings.PG_MCP_STATE_SCHEMA);
    const {
      existing,
      results: [result, ...children],
    } = await postgres.write(
      async (tx) => {
        const given =
          params.mapping === undefined
            ? undefined
            : await findMapping(tx, params.mapping, settings.PG_MCP_STATE_SCHEMA);
        const mapping = given?.mapping;
        const columns = params.columns ?? (mapping === undefined ? undefined : columnsOfMapping(mapping));
        if (columns === undefined || (params.columns !== undefined && mapping !== undefined)) {
          throw new ToolError("columns_or_mapping", "Give either columns or mapping.", {
            next: "For an export: propose_mapping first, then mapping: map_….",
          });
        }
        const found = await findTarget(tx, target, policy, settings.PG_MCP_STATE_SCHEMA);
        const key = params.primary_key ?? mapping?.key ?? [];
        if (given !== undefined) {
          await judgeMapping({
            tx,
            mapping: given.mapping,
            table: await imagine(tx, target, columns),
            ...(await exportedFields(store, given.exportId)),
            expressions: { functionsAllow: settings.PG_MCP_ALLOW_FUNCTIONS, repeatable: true },
          });
        }
        const drafts = [
          { draft: { ...target, columns, primaryKey: key, indexes: params.indexes ?? [] }, existing: found },
        ];
        for (const child of mapping === undefined ? [] : childDrafts(mapping, { ...(found ?? target), columns, key })) {
          const name = targetName(child, policy, settings.PG_MCP_STATE_SCHEMA);
          const table = await findTarget(tx, name, policy, settings.PG_MCP_STATE_SCHEMA);
          drafts.push({ draft: { ...child, ...name }, existing: table });
        }
        const made = await createTables(tx, drafts, {
          ifNotExists: params.if_not_exists,
          addColumns: params.add_columns,
          dryRun: params.dry_run,
          policy,
        });
        const results = made.map((one, index) => ({ ...one, table: drafts[index]?.draft.table ?? "" }));
        const changed = made.filter((one) => one.action === "created" || one.action === "columns_added");
        if (changed.length > 0) {
          await ensureState(tx, settings.PG_MCP_STATE_SCHEMA);
          const ddl = changed.flatMap(({ statements }) =>
            statements.map((statement) => clip(statement, auditedCharactersMax)),
          );
          const details = { schema: target.schema, table: target.table, ddl };
          await writeAudit(tx, settings.PG_MCP_STATE_SCHEMA, { action: "create_table", details });
        }
        return { existing: found, results };
      },
      { signal },
    );
    if (result === undefined) throw new Error("a table was asked for");
    const asked = result.action === "exists" && result.missing.length > 0;
    return {
      schema: existing?.schema ?? target.schema,
      table: existing?.table ?? target.table,
      action: result.action,
      ddl: shownDdl(result.statements),
      ...(result.missing.length > 0 ? { missing_columns: result.missing.slice(0, listedMax) } : {}),
      ...(result.different.length > 0 ? { different_types: result.different.slice(0, listedMax) } : {}),
      ...(children.length > 0
        ? {
            children: children.map(({ table, action: done, statements, missing }) => {
              return { table, action: done, ddl: shownDdl(statements), missing_columns: missing.slice(0, listedMax) };
            }),
          }
        : {}),
      ...(asked ? { next: "Nothing was changed: add_columns:true runs the DDL." } : {}),
    };
  },
});

/** The table as it will be, for who judges a mapping before it is there. */
async function imagine(
  tx: Transaction,
  name: { schema: string; table: string },
  columns: readonly ColumnDraft[],
): Promise<Table> {
  const types = columns.map(({ type }) => type);
  return imaginedTable(name, { columns, key: [] }, await formatTypes(tx, types));
}

/** What the export behind a proposed mapping says of its fields; nothing where there is none, or it has gone. */
async function exportedFields(
  store: () => Promise<StagingStore>,
  exportId: string | null,
): Promise<{ fields: MappingField[]; profile: FieldProfile[] }> {
  if (exportId === null) return { fields: [], profile: [] };
  try {
    const { mapping, profile } = await (await store()).read(exportId);
    return { fields: mapping, profile };
  } catch (error) {
    if (error instanceof StagingError && error.code === "unknown_export") return { fields: [], profile: [] };
    throw error;
  }
}

function shownDdl(statements: readonly string[]): string[] {
  let left = ddlCharactersMax;
  return statements.flatMap((statement) => {
    if (left <= 0) return [];
    // Line ends are the layout of our own text; all names in it are quoted identifiers.
    const shown = clip(statement.replaceAll(/\n\s*/g, " "), left);
    left -= shown.length;
    return [shown];
  });
}
