import { setTimeout as sleep } from "node:timers/promises";
import { JobStopped, type Operation, ToolError, traced } from "@es-to-pg/mcp-kit";
import { StagingError } from "@es-to-pg/staging";
import { translate } from "../errors.ts";
import type { LoadPlan } from "../mapping/plan.ts";
import type { Postgres, Transaction } from "../postgres/index.ts";
import { createChildStages, dropChildStages, saveChildFigures } from "./children.ts";
import { errorCode, isConnectionLost, isTransient } from "./database-error.ts";
import { loadPart, type PartLoad, sumParts, takeBack } from "./direct.ts";
import type { Figures } from "./figures.ts";
import {
  figuresOf,
  type Holder,
  LEASE_RENEWAL_MS,
  LEASE_SECONDS,
  type Ledger,
  type LedgerPart,
  type LoadError,
  LoadLost,
} from "./ledger.ts";
import { adjustments, type MergeOutcome, mergeStage, mustBeUnchanged, NotAllNew } from "./merge.ts";
import { bringParts, type Flight } from "./parts.ts";
import { createStage, type LoadMode, type LoadTables, loadTables, type MergePlan, mergePlan } from "./plan-sql.ts";
import { checkRejectLimits, type Reject, type RejectLimits, type Rejects } from "./rejects.ts";
import type { LoadSource } from "./source.ts";
import { stagePart } from "./stage.ts";
import { chooseStrategy, proveKeys, readTableFacts, type SourceIndices, type Strategy } from "./strategy.ts";
import { loadCompleted, loadEnded, loadOperation, partLoaded, partOperation } from "./telemetry.ts";

/** Tries of one transaction that met a deadlock, a lock timeout or a lost connection; 25 s, as a restart may take. */
const TRIES_MAX = 8;
const RETRY_BASE_MS = 100;
/** How often a load begins again with a stage that a crash of the server has emptied under it. */
const ROUNDS_MAX = 3;
/** How long the last word of a stopping load may take: the process has 3.5 s in all. */
const LAST_WORD_MS = 2_000;

/** How long a failed load looks whether its table is still the one it was planned for. */
const TABLE_CHECK_MS = 2_000;
const CHECK_CLIENT_SQL = `SELECT set_config(name, '5s', true) FROM pg_settings
  WHERE name = 'client_connection_check_interval' AND version() ~ 'linux'`;

export interface LoadJob {
  postgres: Postgres;
  ledger: Ledger;
  rejects: Rejects;
  stateSchema: string;
  holder: Holder;
  plan: LoadPlan;
  mode: LoadMode;
  dryRun: boolean;
  limits: RejectLimits;
  deleteRatioMax: number;
  /** As in `MergeOptions`. */
  deletesMax: number | null;
  storedRowsMax: number;
  /** The load whose rejects are tried again. */
  replayOf: string | null;
  /** What the documents come from; null for the rows of a call. */
  indices: SourceIndices | null;
  /** Parts that are worked at a time, each with a connection of its own, where connections are to spare. */
  partsAtOnce: number;
  /** Rows of a call: no need to tell the planner of them, nor to tell people of phases that take a moment. */
  isSmall: boolean;
  openSource: () => Promise<LoadSource>;
  /** Hears of a failure that is a programmer's error, for the log. */
  onInternalError?: (error: unknown) => void;
  /** Hears that another process has the load now. */
  onLost?: () => void;
  onStep?: (step: string) => void;
  /** Hears that the load's row says how it ended; what is left of the job concerns nobody who waits for that. */
  onRecorded?: () => void;
}

/** Carries what a dry run found out of the savepoint that it rolls back. */
class RolledBack extends Error {
  override readonly name = "RolledBack";
  readonly outcome: MergeOutcome;
  readonly rejects: Reject[];

  constructor(outcome: MergeOutcome, rejects: Reject[]) {
    super("a dry run is rolled back");
    this.outcome = outcome;
    this.rejects = rejects;
  }
}

/**
 * Runs a load to its end and records it. Killed anywhere, the next holder goes on from the ledger:
 *  1. the strategy is chosen, or known; to gather, the stage is there and holds what the ledger says; if a crash
 *     emptied it, the ledger forgets, and a crash that comes later leads back to here;
 *  2. each part in one transaction: rows into the stage or the target, rejects, ledger row; some parts at a time;
 *  3. the source is complete;
 *  4. one transaction merges what was gathered (steps 4.1 to 4.5 are those of `mergeStage`), states the figures,
 *     completes the load and drops the stage;
 *  5. the target is analysed.
 * A direct load that rests on all rows being new and meets one that is not takes back what it has written, in one
 * transaction, and gathers.
 * Throws nothing: how it ended is in the load's row.
 */
export async function runLoad(job: LoadJob, signal: AbortSignal): Promise<MergeOutcome | undefined> {
  const { holder, mode, dryRun } = job;
  return await traced(loadOperation({ ...holder, mode, dryRun }), (told) => runToItsEnd(job, signal, told));
}

async function runToItsEnd(job: LoadJob, signal: AbortSignal, told: Operation): Promise<MergeOutcome | undefined> {
  const lease = keepLease(job);
  const both = AbortSignal.any([signal, lease.signal]);
  const tables = loadTables(job.stateSchema, job.holder.loadId, job.plan.table);
  let source: LoadSource | undefined;
  try {
    const outcome = await withWholeStage(async () => {
      job.onStep?.("1");
      const plan = mergePlan(job.plan, job.mode);
      const strategy = await inTransaction(job, both, async (tx) => {
        const chosen = await knowStrategy(job, tx, plan, tables);
        if (chosen?.name !== "direct") await openStage(job, tx, tables);
        return chosen;
      });
      job.onStep?.("1 commit");
      source ??= await job.openSource();
      if (strategy?.name === "direct") {
        const direct = await loadDirectly(job, source, strategy, plan, tables, both);
        if (direct !== undefined) return direct;
      }
      // A row that excludes another one decides by its place in the stage.
      const atOnce = strategy?.inOrder === false ? job.partsAtOnce : 1;
      const { parts, expected } = await stageParts(job, source, tables, atOnce, both);
      job.onStep?.("4");
      return merge(job, tables, parts, expected, both);
    });
    loadCompleted(told, outcome.figures, job.dryRun);
    job.onRecorded?.();
    job.onStep?.("5");
    if (!job.dryRun && !job.isSmall) await analyse(job, outcome.figures, both);
    return outcome;
  } catch (error) {
    await recordEnd(job, tables, both.aborted ? both.reason : await blameTable(job, error), told);
    return undefined;
  } finally {
    lease.stop();
    await source?.close().catch(() => {});
  }
}

/** SQLSTATEs of a statement whose table or column has gone since the plan was made (undefined_table, undefined_column). */
const GONE = new Set<unknown>(["42P01", "42703"]);

/** A target that is renamed, dropped or exchanged under a load is told as that, at whatever statement it shows. */
async function blameTable({ postgres, plan }: LoadJob, error: unknown): Promise<unknown> {
  if (!GONE.has(errorCode(error))) return error;
  const signal = AbortSignal.timeout(TABLE_CHECK_MS);
  return await postgres
    .read((tx) => mustBeUnchanged(tx, plan), { signal })
    .then(
      () => error,
      (found: unknown) => (errorCode(found) === "table_changed" ? found : error),
    );
}

async function withWholeStage<T>(work: () => Promise<T>): Promise<T> {
  for (let round = 1; ; round++) {
    try {
      return await work();
    } catch (error) {
      if (errorCode(error) !== "stage_incomplete" || round >= ROUNDS_MAX) throw error;
    }
  }
}

/**
 * Renews the lease until it is stopped; aborts its signal when another has the load, and when the server has not been
 * heard of for so long that another may have it.
 */
function keepLease({ postgres, ledger, holder }: LoadJob): { signal: AbortSignal; stop: () => void } {
  const controller = new AbortController();
  let renewedAt = Date.now();
  const renew = async () => {
    try {
      await postgres.write((tx) => ledger.renew(tx, holder), {
        signal: controller.signal,
        timeoutMs: LEASE_RENEWAL_MS,
        isUpkeep: true,
      });
      renewedAt = Date.now();
    } catch (error) {
      // Anything else may pass by the next renewal; the fence of each transaction is what counts.
      if (error instanceof LoadLost) controller.abort(error);
      // A statement sent into silence waits for ever. Neither a row that is locked nor a lack of connections is silence.
      const isSilent = !isTransient(error) && errorCode(error) !== "connections_busy";
      if (isSilent && Date.now() - renewedAt > LEASE_SECONDS * 1_000) controller.abort(serverSilent());
    }
  };
  const timer = setInterval(() => {
    void renew();
  }, LEASE_RENEWAL_MS);
  timer.unref();
  return { signal: controller.signal, stop: () => clearInterval(timer) };
}

function serverSilent(): ToolError {
  return new ToolError("connection_lost", `PostgreSQL has not answered for ${LEASE_SECONDS} s.`, {
    retryable: true,
    next: "Make the same bulk_insert call again; it goes on from the last part.",
  });
}

/** One fenced transaction, tried again where that can help. */
async function inTransaction<T>(
  { postgres, ledger, holder, isSmall }: LoadJob,
  signal: AbortSignal,
  work: (tx: Transaction) => Promise<T>,
  { isSpare = false, onTrouble }: Partial<Pick<Flight, "isSpare" | "onTrouble">> = {},
): Promise<T> {
  for (let attempt = 1; ; attempt++) {
    try {
      return await postgres.write(
        async (tx) => {
          // A killed client's statement shall not run on for minutes and keep the load from its next holder.
          // A server before 14, or one whose system cannot tell, has no such setting and answers no row.
          await tx.query(CHECK_CLIENT_SQL);
          await ledger.fence(tx, holder);
          return work(tx);
        },
        { signal, timeoutMs: 0, isSpare, isJob: !isSmall },
      );
    } catch (error) {
      const again = isTransient(error) || isConnectionLost(error);
      if (signal.aborted || !again || isSpare || attempt >= TRIES_MAX) throw error;
      onTrouble?.();
      await sleep(RETRY_BASE_MS * 2 ** attempt * (0.5 + Math.random()), undefined, { signal });
    }
  }
}

/** The strategy of the load's row, or the one that is chosen now; rows of a call have none. */
async function knowStrategy(
  job: LoadJob,
  tx: Transaction,
  plan: MergePlan,
  tables: LoadTables,
): Promise<Strategy | undefined> {
  const { ledger, holder, indices } = job;
  if (indices === null) return undefined;
  const table = await readTableFacts(tx, plan, tables);
  const { limits, dryRun } = job;
  const choice = { merge: plan, indices, dryRun, replays: job.replayOf !== null, limits };
  const known = await ledger.strategy(tx, holder.loadId);
  // The rows of its own first parts must not make a direct load another's.
  const chosen = chooseStrategy({ ...choice, table: known === undefined ? table : { ...table, isEmpty: true } });
  if (known?.name === "gather") return { ...chosen, ...known, name: "gather", proof: null };
  if (known === undefined) await ledger.setStrategy(tx, holder, chosen);
  else if (chosen.name === "gather") return { ...chosen, name: "direct", proof: "insert", reason: known.reason };
  return chosen;
}

/** Brings part after part into the target; undefined where the load must gather after all. */
async function loadDirectly(
  job: LoadJob,
  source: LoadSource,
  strategy: Strategy,
  plan: MergePlan,
  tables: LoadTables,
  signal: AbortSignal,
): Promise<MergeOutcome | undefined> {
  const { ledger, holder, rejects } = job;
  const load: PartLoad = { merge: plan, tables, rejects, strategy, signal, source, mayCopy: true };
  try {
    const { parts, expected } = await eachPart(job, source, job.partsAtOnce, signal, (tx, flight, known) =>
      loadPart(tx, load, flight, known),
    );
    job.onStep?.("4");
    return await inTransaction(job, signal, async (tx) => {
      const { figures, breach } = sumParts(parts, expected);
      if (breach !== undefined) {
        throw new ToolError("conservation_breach", `The parts add up, and the load does not: ${breach}.`, {
          next: "Call bulk_export again and load the new export.",
          details: { figures },
        });
      }
      const outcome = { figures, deleted: 0, stored: [], children: [], ...adjustments(parts) };
      await ledger.finish(tx, holder, { status: "completed", ...outcome });
      job.onStep?.("4 commit");
      return outcome;
    });
  } catch (error) {
    if (!(error instanceof NotAllNew)) throw error;
    const reason = `the table was empty, but a row was not new or did not fit (${error.message})`;
    await inTransaction(job, signal, (tx) => takeBack(tx, load, { ledger, holder, reason }));
    return undefined;
  }
}

async function openStage({ ledger, holder, plan }: LoadJob, tx: Transaction, tables: LoadTables): Promise<void> {
  const { rows } = await tx.query("SELECT to_regclass($1) IS NOT NULL", [tables.stage]);
  const parts = await ledger.parts(tx, holder.loadId);
  if (rows[0]?.[0] === true) {
    const inStage = [...parts.values()].reduce((sum, part) => sum + part.rows, 0);
    const counted = await tx.query(`SELECT count(*) FROM ${tables.stage}`);
    if (Number(counted.rows[0]?.[0]) === inStage) return;
    await tx.query(`DROP TABLE ${tables.stage}`);
    await dropChildStages(tx, plan, tables);
  }
  await ledger.forgetParts(tx, holder.loadId);
  await tx.query(createStage(plan, tables.stage));
  await createChildStages(tx, plan, tables);
}

/** Stages every part that the ledger does not have, until the source is complete. */
async function stageParts(
  job: LoadJob,
  source: LoadSource,
  tables: LoadTables,
  atOnce: number,
  signal: AbortSignal,
): Promise<{ parts: Map<number, LedgerPart>; expected: number }> {
  const { plan, rejects } = job;
  return eachPart(job, source, atOnce, signal, (tx, { index: part }) => {
    const chunks = (partSignal: AbortSignal) => source.chunks(part, partSignal);
    return stagePart(tx, { part, chunks }, { plan, tables, rejects, signal });
  });
}

/** Gives each part that the ledger does not have a transaction, until the source is complete. */
async function eachPart(
  job: LoadJob,
  source: LoadSource,
  atOnce: number,
  signal: AbortSignal,
  work: (tx: Transaction, flight: Flight, known: ReadonlyMap<number, LedgerPart>) => Promise<LedgerPart>,
): Promise<{ parts: Map<number, LedgerPart>; expected: number }> {
  const { ledger, holder, limits } = job;
  const parts = await inTransaction(job, signal, (tx) => ledger.parts(tx, holder.loadId));
  let expected = 0;
  async function bring(flight: Flight): Promise<void> {
    const { index } = flight;
    job.onStep?.(`2.${index}`);
    // Ledger and stage are read again in the transaction: a commit whose answer was lost has happened all the same.
    const transaction = async (tx: Transaction) => {
      flight.onBegun();
      const known = await ledger.parts(tx, holder.loadId);
      if (known.has(index)) return known;
      const figures = await work(tx, flight, known);
      await ledger.addPart(tx, holder, index, figures);
      job.onStep?.(`2.${index} commit`);
      return known.set(index, figures);
    };
    await traced(partOperation(holder.loadId, index), async (told) => {
      for (const [other, part] of await inTransaction(job, signal, transaction, flight)) parts.set(other, part);
      const part = parts.get(index);
      if (part !== undefined) partLoaded(told, part);
    });
  }
  await bringParts({
    source,
    atOnce,
    isIn: (index) => parts.has(index),
    bring,
    review: (documents) => {
      expected = documents;
      const rejected = [...parts.values()].reduce((sum, part) => sum + part.rejected, 0);
      // Of a replay only the merge knows which of them count.
      if (job.replayOf === null) checkRejectLimits(limits, rejected, expected);
    },
    signal,
  });
  job.onStep?.("3");
  return { parts, expected: job.replayOf === null ? expected : await countReplayed(job, signal) };
}

async function countReplayed({ postgres, rejects, replayOf }: LoadJob, signal: AbortSignal): Promise<number> {
  return postgres.write((tx) => rejects.count(tx, replayOf ?? ""), { signal, isJob: true });
}

async function merge(
  job: LoadJob,
  tables: LoadTables,
  parts: Map<number, LedgerPart>,
  expected: number,
  signal: AbortSignal,
): Promise<MergeOutcome> {
  const { ledger, holder, rejects } = job;
  // Outside the merge, so that whoever asks sees it; and the retry of a lost connection finds the row as it was.
  if (!job.isSmall) await inTransaction(job, signal, (tx) => ledger.setPhase(tx, holder, "merging", expected));
  const plan = mergePlan(job.plan, job.mode);
  const options = {
    merge: plan,
    keyProof: job.indices === null ? undefined : proveKeys(plan, job.indices),
    tables,
    rejects,
    parts,
    expected,
    limits: job.limits,
    deleteRatioMax: job.deleteRatioMax,
    deletesMax: job.dryRun ? Number.POSITIVE_INFINITY : job.deletesMax,
    storedRowsMax: job.storedRowsMax,
    replayOf: job.replayOf,
    ...(job.onStep === undefined ? {} : { onStep: (step: string) => job.onStep?.(`4.${step}`) }),
  };
  return inTransaction(job, signal, async (tx) => {
    let outcome: MergeOutcome;
    try {
      outcome = await tx.savepoint(async () => {
        try {
          const merged = await mergeStage(tx, options);
          if (!job.dryRun) return merged;
          throw new RolledBack(merged, await rejects.carry(tx, holder.loadId));
        } catch (error) {
          throw await withRejects(error, tx, rejects, holder.loadId);
        }
      });
      await tx.query(`DROP TABLE IF EXISTS ${tables.ready}`);
    } catch (error) {
      if (!(error instanceof RolledBack)) throw error;
      outcome = error.outcome;
      await rejects.restore(tx, holder.loadId, error.rejects);
    }
    await tx.query(`DROP TABLE ${tables.stage}`);
    await dropChildStages(tx, job.plan, tables);
    await saveChildFigures(tx, job.stateSchema, holder.loadId, outcome.children);
    await ledger.finish(tx, holder, {
      status: "completed",
      figures: outcome.figures,
      deleted: outcome.deleted,
      rounded: outcome.rounded,
      replaced: outcome.replaced,
    });
    job.onStep?.("4 commit");
    return outcome;
  });
}

/** A merge that too many rejects ended: they are told all the same. */
class MergeRefused extends Error {
  override readonly name = "MergeRefused";
  readonly refusal: ToolError;
  readonly rejects: Reject[];

  constructor(refusal: ToolError, rejects: Reject[]) {
    super(refusal.message);
    this.refusal = refusal;
    this.rejects = rejects;
  }
}

async function withRejects(error: unknown, tx: Transaction, rejects: Rejects, loadId: string): Promise<unknown> {
  const refused = error instanceof ToolError && ["too_many_rejects", "document_rejected"].includes(error.code);
  return refused ? new MergeRefused(error, await rejects.carry(tx, loadId)) : error;
}

/** The planner learns of the new rows; a role that may not ANALYZE leaves it to autovacuum. */
async function analyse({ postgres, plan }: LoadJob, figures: Figures, signal: AbortSignal): Promise<void> {
  if (figures.inserted + figures.updated === 0) return;
  const tables = loadTables("", "", plan.table);
  await postgres
    .write((tx) => tx.query(`ANALYZE ${tables.target}`), { signal, timeoutMs: 60_000, isJob: true })
    .catch(() => {});
}

/** Records how a load ended that did not complete. What cannot be recorded ends by its lease. */
async function recordEnd(job: LoadJob, tables: LoadTables, error: unknown, told: Operation): Promise<void> {
  const { postgres, ledger, holder, rejects } = job;
  if (error instanceof LoadLost) {
    job.onLost?.();
    return loadEnded(told, "released");
  }
  const bounded = { signal: AbortSignal.timeout(LAST_WORD_MS), timeoutMs: LAST_WORD_MS };
  const stopped = error instanceof JobStopped ? error.reason : undefined;
  // A server that went away comes back: the load keeps its stage and goes on where it was.
  const described = describeFailure(error instanceof MergeRefused ? error.refusal : error);
  if (stopped === undefined && described.code === "internal_error") job.onInternalError?.(error);
  const resumable = stopped === "shutdown" || isConnectionLost(error);
  loadEnded(told, resumable ? "released" : stopped === "cancelled" ? "cancelled" : "failed", described.code);
  try {
    await postgres.write(async (tx) => {
      if (resumable) return ledger.release(tx, holder);
      await ledger.fence(tx, holder);
      if (error instanceof MergeRefused) await rejects.restore(tx, holder.loadId, error.rejects);
      await tx.query(`DROP TABLE IF EXISTS ${tables.stage}`);
      await dropChildStages(tx, job.plan, tables);
      const figures = await figuresAtEnd(job, tx);
      await ledger.finish(tx, holder, {
        status: stopped === "cancelled" ? "cancelled" : "failed",
        figures,
        ...(stopped === "cancelled" ? {} : { error: described }),
      });
    }, bounded);
  } catch {
    // The lease runs out, and the load shows as stalled.
  }
}

/** What is known of a load that did not complete: how much was staged, rejected, and of a direct load, written. */
async function figuresAtEnd({ ledger, rejects, holder }: LoadJob, tx: Transaction): Promise<Figures> {
  const load = await ledger.read(tx, holder.loadId);
  return { ...figuresOf(load), rejected: await rejects.count(tx, holder.loadId) };
}

/** A failure as the load's row keeps it: the database's words are data, and values in them are not kept. */
export function describeFailure(error: unknown): LoadError {
  if (error instanceof ToolError || error instanceof StagingError) {
    const { retryable, next, details } = error;
    return {
      code: error.code,
      message: error.message,
      retryable,
      ...(next === undefined ? {} : { next }),
      details,
    };
  }
  const translated = translate(error);
  if (translated !== undefined) {
    const { message, details, next } = translated;
    return {
      code: translated.code,
      message,
      retryable: isTransient(error) || translated.retryable,
      ...(next === undefined ? {} : { next }),
      details,
    };
  }
  return {
    code: "internal_error",
    message: "The load failed for a reason that only the server's log has.",
    retryable: false,
  };
}
