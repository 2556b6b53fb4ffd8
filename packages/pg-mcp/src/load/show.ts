import { jobEnded, type ToolCall, ToolError, waitForJob } from "@es-to-pg/mcp-kit";
import { describeLoad, type LoadAnswer } from "./answer.ts";
import { readChildFigures } from "./children.ts";
import type { LoadContext } from "./context.ts";
import { errorCode } from "./database-error.ts";
import { figuresOf, type Ledger, type Load, openLedger } from "./ledger.ts";
import { openRejects } from "./rejects.ts";
import { ownerName } from "./start.ts";
import { readState } from "./state.ts";
import { cancelVerifications } from "./verify-job.ts";

/** Waits for a load's end as long as the call allows, and answers its state. */
export async function showLoad(
  context: LoadContext & ToolCall,
  loadId: string,
  options: { waitSeconds: number | undefined; reused?: boolean; alreadyLoaded?: boolean; recorded?: Promise<void> },
): Promise<LoadAnswer> {
  const { PG_MCP_STATE_SCHEMA: schema, MCP_WAIT_SECONDS_DEFAULT } = context.settings;
  const ledger = openLedger(schema);
  await waitForJob<Load>({
    read: () => readState(context, (tx) => ledger.read(tx, loadId), context.signal),
    isDone: (load) => load.status !== "working" || load.stalled,
    waitSeconds: options.waitSeconds ?? MCP_WAIT_SECONDS_DEFAULT,
    call: context,
    end: options.recorded ?? context.jobs.end(loadId),
    progress: (load) => ({ done: load.staged, total: load.expected, message: load.phase }),
  });
  return readState(
    context,
    async (tx) =>
      describeLoad(tx, await ledger.read(tx, loadId), openRejects(schema), {
        ...options,
        children: await readChildFigures(tx, schema, loadId),
      }),
    context.signal,
  );
}

/**
 * Ends a load: in this process by its signal, in another by taking it away. What a direct load has written stays. Of a
 * load that has ended it stops the comparison that verify_load has begun.
 */
export async function cancelLoad(context: LoadContext & ToolCall, loadId: string): Promise<LoadAnswer> {
  const { jobs, settings, signal } = context;
  const ledger = openLedger(settings.PG_MCP_STATE_SCHEMA);
  await readState(context, (tx) => ledger.read(tx, loadId), signal);
  await cancelVerifications(context, loadId, signal);
  if (!(await jobs.cancel(loadId))) await seizeAndEnd(context, ledger, loadId);
  return showLoad(context, loadId, { waitSeconds: 0 });
}

async function seizeAndEnd({ postgres, settings, signal }: LoadContext & ToolCall, ledger: Ledger, loadId: string) {
  const rejects = openRejects(settings.PG_MCP_STATE_SCHEMA);
  try {
    const isEnded = await postgres.write(
      async (tx) => {
        const holder = await ledger.seize(tx, loadId, ownerName());
        if (holder === undefined) return false;
        // Parts that were in flight are in by now, and count.
        const load = await ledger.read(tx, loadId);
        await tx.query(`DROP TABLE IF EXISTS "${settings.PG_MCP_STATE_SCHEMA}"."stage_${loadId}"`);
        await ledger.finish(tx, holder, {
          status: "cancelled",
          figures: { ...figuresOf(load), rejected: await rejects.count(tx, loadId) },
        });
        return true;
      },
      { signal },
    );
    if (isEnded) jobEnded("load", "cancelled");
  } catch (error) {
    if (errorCode(error) !== "55P03") throw error;
    throw new ToolError("load_busy", "A transaction of the load is in flight in another process.", {
      retryable: true,
      next: "Call cancel_load again in a few seconds; get_load shows whether the load has ended.",
      cause: error,
    });
  }
}
