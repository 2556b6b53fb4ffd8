import { waitSeconds } from "@es-to-pg/mcp-kit";
import { exportIdSchema } from "@es-to-pg/staging";
import { z } from "zod";
import { loadAnswer } from "../load/answer.ts";
import { inlineRows } from "../load/inline.ts";
import { loadIdSchema } from "../load/ledger.ts";
import { showLoad } from "../load/show.ts";
import { startLoad } from "../load/start.ts";
import { mappingArgument } from "../mapping/mapping.ts";
import { defineTool } from "./tool.ts";

const CONFIRM_IS_A_TOKEN = "is the token that the same call with dry_run:true answers";

export const bulkInsert = defineTool({
  name: "bulk_insert",
  title: "Load an export into a table",
  description:
    "Loads a staged export (or up to 1000 rows) into a table as one job, exactly once, each rejected document with its reason. With limits of rejects, or in mode append or replace: all or nothing. Next: get_load, verify_load.",
  input: z.strictObject({
    table: z.string().min(1).optional().describe("Table, or schema.table; with rejects_of the load's own."),
    schema: z.string().optional(),
    export_id: exportIdSchema.optional().describe("From bulk_export; may still be working."),
    rows: inlineRows.optional().describe("Instead of export_id: at most 1000 rows or 1 MiB."),
    rejects_of: loadIdSchema.optional().describe("Instead: try a load's rejects again, with another mapping."),
    mapping: mappingArgument.optional(),
    mode: z
      .enum(["upsert", "append", "ignore", "replace"])
      .default("upsert")
      .describe("replace: rows whose key is not in the export go."),
    key: z.array(z.string()).optional().describe("Conflict key; default the mapping's, else the primary key."),
    on_error: z.enum(["reject", "stop"]).default("reject"),
    max_rejects: z.int().min(0).optional(),
    max_reject_ratio: z.number().min(0).max(1).optional(),
    max_delete_ratio: z.number().min(0).max(1).default(0.5),
    confirm: z
      .string({ error: CONFIRM_IS_A_TOKEN })
      .optional()
      .describe("Token of a dry run; replace of a filled table needs it."),
    confirm_partial: z.boolean().default(false).describe("replace by an export of a part of the index."),
    allow_partial: z.boolean().default(false).describe("Load what there is of a failed export."),
    identity: z.literal("override").optional().describe("Load values into an identity column."),
    dry_run: z.boolean().default(false).describe("Do it all, then roll back."),
    repeat: z.boolean().default(false).describe("Append the same export again."),
    fresh: z.boolean().default(false).describe("Load again even if an equal load has just ended."),
    wait_seconds: waitSeconds,
  }),
  output: loadAnswer,
  annotations: { readOnlyHint: false, destructiveHint: true, idempotentHint: true, openWorldHint: false },
  onPage: true,
  async handler(params, context) {
    const started = await startLoad(
      context,
      {
        table: params.table ?? "",
        schema: params.schema,
        rows: params.rows,
        exportId: params.export_id,
        rejectsOf: params.rejects_of,
        mapping: params.mapping,
        key: params.key,
        mode: params.mode,
        limits: {
          onError: params.on_error,
          rejectsMax: params.max_rejects ?? null,
          rejectRatioMax: params.max_reject_ratio ?? null,
        },
        deleteRatioMax: params.max_delete_ratio,
        confirm: params.confirm,
        confirmPartial: params.confirm_partial,
        allowPartial: params.allow_partial,
        overrideIdentity: params.identity === "override",
        dryRun: params.dry_run,
        repeat: params.repeat,
        fresh: params.fresh,
        storedRowsMax: 0,
      },
      context.signal,
    );
    return showLoad(context, started.loadId, { ...started, waitSeconds: params.wait_seconds });
  },
});
