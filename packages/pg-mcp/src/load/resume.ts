import { RESUME_INTERVAL_MS, repeatInBackground } from "@es-to-pg/mcp-kit";
import { z } from "zod";
import type { LoadContext } from "./context.ts";
import { errorCode } from "./database-error.ts";
import { type Load, openLedger } from "./ledger.ts";
import { type LoadRequest, startLoad } from "./start.ts";

/** What a load's row keeps of the call that started it. */
const argumentsSchema = z.object({
  rejects_of: z.string().optional(),
  key: z.array(z.string()),
  on_error: z.enum(["reject", "stop"]),
  max_rejects: z.number().nullable(),
  max_reject_ratio: z.number().nullable(),
  max_delete_ratio: z.number(),
  identity: z.literal("override").nullable(),
  allow_partial: z.boolean().default(false),
});

/**
 * Takes over every stalled load of an export, for a server that lives long; answers how many. One that cannot go on
 * stays stalled, and its start call says why.
 */
export async function resumeStalledLoads(context: LoadContext, signal: AbortSignal): Promise<number> {
  const { postgres, settings, jobs, logger } = context;
  const ledger = openLedger(settings.PG_MCP_STATE_SCHEMA);
  let stalled: Load[];
  try {
    stalled = await postgres.write((tx) => ledger.findStalled(tx), { signal, isUpkeep: true });
  } catch (error) {
    // No state, no loads.
    if (errorCode(error) === "42P01") return 0;
    throw error;
  }
  let resumed = 0;
  for (const load of stalled) {
    try {
      await startLoad(context, requestOf(load), signal);
      if (jobs.isRunning(load.load_id)) resumed++;
    } catch (error) {
      logger.warn("load_not_resumed", { load_id: load.load_id, error: errorCode(error) ?? String(error) });
    }
  }
  return resumed;
}

/** How long one look may take. */
const RESUME_TIMEOUT_MS = 30_000;

/** Resumes stalled loads, now and again until it is stopped. A database that is down is asked again. */
export function keepResumingLoads(context: LoadContext): { stop(): void } {
  return repeatInBackground({
    intervalMs: RESUME_INTERVAL_MS,
    async look(signal) {
      const limit = AbortSignal.any([signal, AbortSignal.timeout(RESUME_TIMEOUT_MS)]);
      const resumed = await resumeStalledLoads(context, limit);
      if (resumed > 0) context.logger.info("loads_resumed", { loads: resumed });
    },
    onFailure: (error) => context.logger.warn("loads_not_resumed", { error: errorCode(error) ?? String(error) }),
  });
}

/** The call that started the load, as far as it defines what the load does. */
function requestOf(load: Load): LoadRequest {
  const given = argumentsSchema.parse(load.arguments);
  return {
    table: load.table_name,
    schema: load.table_schema,
    exportId: given.rejects_of === undefined ? (load.export_id ?? undefined) : undefined,
    rejectsOf: given.rejects_of,
    mapping: load.mapping,
    key: given.key.length === 0 ? undefined : given.key,
    mode: load.mode,
    limits: {
      onError: given.on_error,
      rejectsMax: given.max_rejects,
      rejectRatioMax: given.max_reject_ratio,
    },
    deleteRatioMax: given.max_delete_ratio,
    // Judged when the load was started.
    confirmPartial: true,
    allowPartial: given.allow_partial,
    overrideIdentity: given.identity === "override",
    dryRun: load.dry_run,
    repeat: false,
    fresh: false,
    resumes: load.load_id,
    storedRowsMax: 0,
  };
}
