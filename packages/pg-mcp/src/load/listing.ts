import { clip, nearest, ToolError } from "@es-to-pg/mcp-kit";
import { z } from "zod";
import type { LoadContext } from "./context.ts";
import { FIGURE_NAMES } from "./figures.ts";
import { loadIdSchema, openLedger } from "./ledger.ts";
import { openRejects } from "./rejects.ts";
import { readState } from "./state.ts";

/** Loads and rejects read for one page; the answer's bytes cut it further. */
const LOADS_MAX = 50;
const REJECTS_MAX = 100;

export const loadPosition = z.object({ created_at: z.string(), load_id: loadIdSchema });

export const loadSummary = z.object({
  load_id: z.string(),
  created_at: z.string(),
  status: z.string(),
  stalled: z.literal(true).optional(),
  table: z.string(),
  mode: z.string(),
  dry_run: z.literal(true).optional(),
  export_id: z.string().optional(),
  figures: z.record(z.string(), z.number()),
  error: z.string().optional(),
});
export type LoadSummary = z.infer<typeof loadSummary>;

/** A page of loads, newest first; none where no load was ever started. */
export async function listLoads(
  context: LoadContext,
  before: z.infer<typeof loadPosition> | null,
  signal: AbortSignal,
): Promise<{ loads: LoadSummary[]; more: boolean }> {
  const ledger = openLedger(context.settings.PG_MCP_STATE_SCHEMA);
  let loads: Awaited<ReturnType<typeof ledger.list>>;
  try {
    loads = await readState(context, (tx) => ledger.list(tx, { limit: LOADS_MAX + 1, before }), signal);
  } catch (error) {
    if (error instanceof ToolError && error.code === "unknown_load") return { loads: [], more: false };
    throw error;
  }
  return {
    loads: loads.slice(0, LOADS_MAX).map((load) => ({
      load_id: load.load_id,
      created_at: load.created_at,
      status: load.status,
      ...(load.stalled ? { stalled: true } : {}),
      table: `${load.table_schema}.${load.table_name}`,
      mode: load.mode,
      ...(load.dry_run ? { dry_run: true } : {}),
      ...(load.export_id === null ? {} : { export_id: load.export_id }),
      figures: Object.fromEntries(FIGURE_NAMES.flatMap((name) => (load[name] > 0 ? [[name, load[name]]] : []))),
      ...(load.error === null ? {} : { error: load.error.code }),
    })),
    more: loads.length > LOADS_MAX,
  };
}

export const rejectPosition = z.object({ part: z.int(), line: z.int() });

export const shownReject = z.object({
  /** Of the export; 0 for rows of a call. */
  part: z.number(),
  /** Of the part, or the ordinal of the row, from 1. */
  line: z.number(),
  document_id: z.string().nullable(),
  index: z.string().optional(),
  column: z.string().nullable(),
  reason: z.string(),
  message: z.string(),
  sqlstate: z.string().nullable(),
  value: z.string().nullable(),
});
export type ShownReject = z.infer<typeof shownReject>;

/** A page of a load's rejects in the order of its documents. */
export async function listRejects(
  context: LoadContext,
  page: { loadId: string; reason: string | null; after: z.infer<typeof rejectPosition> | null },
  signal: AbortSignal,
): Promise<{ total: number; rejects: ShownReject[]; more: boolean; reasons: { reason: string; count: number }[] }> {
  const { PG_MCP_STATE_SCHEMA: schema } = context.settings;
  const rejects = openRejects(schema);
  return readState(
    context,
    async (tx) => {
      await openLedger(schema).read(tx, page.loadId);
      const found = await rejects.page(tx, page.loadId, { ...page, limit: REJECTS_MAX + 1 });
      const byReason = new Map<string, number>();
      for (const { reason, count } of await rejects.summary(tx, page.loadId, REJECTS_MAX)) {
        byReason.set(reason, (byReason.get(reason) ?? 0) + count);
      }
      if (page.reason !== null && found.total === 0) throw unknownReason(page.reason, [...byReason.keys()]);
      return {
        total: found.total,
        more: found.rejects.length > REJECTS_MAX,
        reasons: [...byReason].map(([reason, count]) => ({ reason, count })),
        rejects: found.rejects.slice(0, REJECTS_MAX).map((reject) => ({
          part: reject.part,
          line: reject.line,
          document_id: reject.document_id === null ? null : clip(reject.document_id, 100),
          ...(reject.document_index === null ? {} : { index: clip(reject.document_index, 100) }),
          column: reject.column_name,
          reason: reject.reason,
          message: clip(reject.message, 200),
          sqlstate: reject.sqlstate,
          value: reject.value === null ? null : clip(reject.value, 100),
        })),
      };
    },
    signal,
  );
}

function unknownReason(reason: string, reasons: string[]): ToolError {
  return reasons.length === 0
    ? new ToolError("no_rejects", "This load rejected nothing.", { next: "Call verify_load to prove the load." })
    : new ToolError("unknown_reason", `No document of this load was rejected for ${clip(reason, 60)}.`, {
        next: "Use one of the allowed reasons, or leave reason out.",
        details: { nearest: nearest(reason, reasons), allowed: reasons },
      });
}
