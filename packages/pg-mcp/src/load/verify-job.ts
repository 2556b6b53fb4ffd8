import { JobStopped, type Operation, type ToolCall, ToolError, traced, waitForJob } from "@es-to-pg/mcp-kit";
import { newId } from "@es-to-pg/staging";
import { z } from "zod";
import { quoteIdentifier, type Transaction } from "../postgres/index.ts";
import type { LoadContext } from "./context.ts";
import { LEASE_RENEWAL_MS, LEASE_SECONDS, type LoadError, loadErrorSchema } from "./ledger.ts";
import { describeFailure } from "./run.ts";
import { ensureState } from "./state.ts";
import { verificationEnded, verificationStopped } from "./telemetry.ts";
import { type Comparable, compareLoad, findComparable, tableOf, verification } from "./verify.ts";

/** How long an outcome waits for a caller who comes back for it; a later one wants to know how the table is now. */
const OUTCOME_SECONDS = 600;
/** How long the last word of a stopping comparison may take: the process has 3.5 s in all. */
const LAST_WORD_MS = 2_000;

/** What verify_load answers: the comparison, or while it works, how far it is. */
export const verifyAnswer = verification
  .partial({ matched: true, missing: true, different: true, deduplicated: true, rejected: true })
  .extend({
    verdict: z.enum([...verification.shape.verdict.options, "working"]),
    total: z.number().optional(),
    children: z.array(z.record(z.string(), z.unknown())).optional(),
    sample_keys: z.partialRecord(z.enum(["missing", "different", "extra"]), z.array(z.string()).optional()).optional(),
  });
export type VerifyAnswer = z.infer<typeof verifyAnswer>;

const outcomeSchema = z.union([
  z.object({ verification, error: z.undefined().optional() }),
  z.object({ error: loadErrorSchema }),
]);

const verifyState = z.object({
  verify_id: z.string(),
  staged: z.number(),
  working: z.boolean(),
  outcome: outcomeSchema.nullable(),
});
type VerifyState = z.infer<typeof verifyState>;

/**
 * Compares a load with its table as a job, and waits for its end as long as the call allows. The same call made again
 * goes on waiting, in whatever process; whoever comes after an outcome was told starts a new comparison.
 */
export async function verifyLoad(
  context: LoadContext & ToolCall,
  loadId: string,
  options: { extra: boolean; waitSeconds?: number | undefined },
): Promise<VerifyAnswer> {
  const { postgres, jobs, settings, signal } = context;
  const found = await findComparable(context, loadId, signal);
  if ("answer" in found) return found.answer;
  const { extra } = options;
  const states = openVerifications(settings.PG_MCP_STATE_SCHEMA);
  const verifyId = newId("load");
  const isMine = await postgres.write(
    async (tx) => {
      await ensureState(tx, settings.PG_MCP_STATE_SCHEMA);
      return states.claim(tx, { loadId, extra, verifyId });
    },
    { signal },
  );
  if (isMine) {
    const attributes = { "etl.load.id": loadId };
    jobs.start(verifyId, (jobSignal) =>
      traced({ name: "verification", attributes }, (told) =>
        runVerification(context, found, { extra, verifyId, told }, jobSignal),
      ),
    );
  }
  const { load } = found;
  const state = await waitForJob<VerifyState | undefined>({
    read: () => postgres.write((tx) => states.read(tx, loadId, extra), { signal }),
    isDone: (now) => now === undefined || !now.working,
    waitSeconds: options.waitSeconds ?? settings.MCP_WAIT_SECONDS_DEFAULT,
    call: context,
    end: isMine ? jobs.end(verifyId) : undefined,
    progress: (now) => ({ done: now?.staged ?? 0, total: load.staged, message: "comparing" }),
  });
  if (state?.working === true) {
    return {
      load_id: loadId,
      verdict: "working",
      table: tableOf(load),
      staged: state.staged,
      total: load.staged,
      next: "Call verify_load again with the same arguments: it goes on waiting for this comparison.",
    };
  }
  if (state?.outcome === undefined || state.outcome === null) {
    throw new ToolError("verification_stopped", "The comparison was cancelled, or its process has gone.", {
      retryable: true,
      next: "Call verify_load again.",
    });
  }
  await postgres.write((tx) => states.tell(tx, state.verify_id), { signal });
  const { outcome } = state;
  if (outcome.error === undefined) return outcome.verification;
  const { code, message, retryable, next, details } = outcome.error;
  throw new ToolError(code, message, {
    retryable,
    ...(next === undefined ? {} : { next }),
    ...(details === undefined ? {} : { details }),
  });
}

/** Stops the comparisons of a load: here by their signal, in other processes at their next renewal. */
export async function cancelVerifications(
  { postgres, jobs, settings }: LoadContext,
  loadId: string,
  signal: AbortSignal,
) {
  const states = openVerifications(settings.PG_MCP_STATE_SCHEMA);
  await postgres.write((tx) => ensureState(tx, settings.PG_MCP_STATE_SCHEMA), { signal });
  const working = await postgres.write((tx) => states.forgetWorking(tx, loadId), { signal });
  await Promise.all(working.map((verifyId) => jobs.cancel(verifyId)));
}

/** Runs one comparison and records its outcome. It writes nothing else, so one whose process died is begun anew. */
async function runVerification(
  context: LoadContext,
  found: Comparable,
  { extra, verifyId, told }: { extra: boolean; verifyId: string; told: Operation },
  signal: AbortSignal,
): Promise<void> {
  const { postgres, settings, logger } = context;
  const states = openVerifications(settings.PG_MCP_STATE_SCHEMA);
  const lost = new AbortController();
  const both = AbortSignal.any([signal, lost.signal]);
  let staged = 0;
  const renew = async (): Promise<void> => {
    try {
      const isHeld = await postgres.write((tx) => states.renew(tx, verifyId, staged), {
        signal: both,
        timeoutMs: LEASE_RENEWAL_MS,
        isUpkeep: true,
      });
      if (!isHeld) lost.abort(new JobStopped("cancelled"));
    } catch {
      // Anything else may pass by the next renewal; a comparison that another has begun anew does no harm.
    }
  };
  const timer = setInterval(() => void renew(), LEASE_RENEWAL_MS);
  timer.unref();
  let outcome: z.infer<typeof outcomeSchema>;
  try {
    const compared = await compareLoad(context, found, {
      extra,
      signal: both,
      onStaged(documents) {
        staged = documents;
        void renew();
      },
    });
    outcome = { verification: compared };
    verificationEnded(told, compared);
  } catch (error) {
    clearInterval(timer);
    if (both.aborted) {
      verificationStopped(told, signal.reason instanceof JobStopped ? signal.reason.reason : "cancelled");
      await record(context, (tx) => states.release(tx, verifyId));
      return;
    }
    const described: LoadError = describeFailure(error);
    if (described.code === "internal_error") logger.error("verification_failed", { error: String(error) });
    outcome = { error: described };
    verificationEnded(told, described);
  }
  clearInterval(timer);
  await record(context, (tx) => states.finish(tx, verifyId, outcome));
}

async function record({ postgres }: LoadContext, work: (tx: Transaction) => Promise<void>): Promise<void> {
  const bounded = { signal: AbortSignal.timeout(LAST_WORD_MS), timeoutMs: LAST_WORD_MS };
  // What cannot be recorded ends by its lease, and the next call compares anew.
  await postgres.write(work, bounded).catch(() => {});
}

/** The statements over the state schema's comparisons. */
function openVerifications(stateSchema: string) {
  const table = `${quoteIdentifier(stateSchema)}.verifications`;
  const lease = `clock_timestamp() + make_interval(secs => ${LEASE_SECONDS})`;
  return {
    /** Makes the caller the one who compares; false where a comparison works, or has an outcome for the caller. */
    async claim(tx: Transaction, claim: { loadId: string; extra: boolean; verifyId: string }): Promise<boolean> {
      const { rowCount } = await tx.query(
        `INSERT INTO ${table} AS v (load_id, extra, verify_id, lease_until) VALUES ($1, $2, $3, ${lease})
         ON CONFLICT (load_id, extra) DO UPDATE SET verify_id = EXCLUDED.verify_id, lease_until = EXCLUDED.lease_until,
           staged = 0, finished_at = NULL, outcome = NULL, told = false
         WHERE CASE WHEN v.finished_at IS NULL THEN v.lease_until < clock_timestamp()
           ELSE v.told OR v.finished_at < clock_timestamp() - make_interval(secs => ${OUTCOME_SECONDS}) END`,
        [claim.loadId, claim.extra, claim.verifyId],
      );
      return rowCount === 1;
    },

    async read(tx: Transaction, loadId: string, extra: boolean): Promise<VerifyState | undefined> {
      const { rows } = await tx.query(
        `SELECT json_build_object('verify_id', verify_id, 'staged', staged, 'outcome', outcome,
           'working', finished_at IS NULL AND lease_until > clock_timestamp())::text
         FROM ${table} WHERE load_id = $1 AND extra = $2`,
        [loadId, extra],
      );
      return rows[0] === undefined ? undefined : verifyState.parse(JSON.parse(String(rows[0][0])));
    },

    /** Keeps the lease; false where the comparison was cancelled, or another has begun it anew. */
    async renew(tx: Transaction, verifyId: string, staged: number): Promise<boolean> {
      const { rowCount } = await tx.query(
        `UPDATE ${table} SET lease_until = ${lease}, staged = $2 WHERE verify_id = $1 AND finished_at IS NULL`,
        [verifyId, staged],
      );
      return rowCount === 1;
    },

    async release(tx: Transaction, verifyId: string): Promise<void> {
      await tx.query(`DELETE FROM ${table} WHERE verify_id = $1 AND finished_at IS NULL`, [verifyId]);
    },

    async finish(tx: Transaction, verifyId: string, outcome: z.infer<typeof outcomeSchema>): Promise<void> {
      await tx.query(`UPDATE ${table} SET finished_at = clock_timestamp(), outcome = $2 WHERE verify_id = $1`, [
        verifyId,
        JSON.stringify(outcome),
      ]);
    },

    async tell(tx: Transaction, verifyId: string): Promise<void> {
      await tx.query(`UPDATE ${table} SET told = true WHERE verify_id = $1`, [verifyId]);
    },

    async forgetWorking(tx: Transaction, loadId: string): Promise<string[]> {
      const { rows } = await tx.query(
        `DELETE FROM ${table} WHERE load_id = $1 AND finished_at IS NULL RETURNING verify_id`,
        [loadId],
      );
      return rows.map(([verifyId]) => String(verifyId));
    },
  };
}
