import type { Transaction } from "../postgres/index.ts";
import { errorCode, isConnectionLost, isTransient } from "./database-error.ts";
import { addFigures, conservationBreach, type Figures, noFigures } from "./figures.ts";
import type { Ledger, LedgerPart } from "./ledger.ts";
import { lockTarget, type MergeOptions, mergeStage, mustBeUnchanged, NotAllNew, setSearchPath } from "./merge.ts";
import type { Flight } from "./parts.ts";
import {
  createStage,
  deleteStaged,
  type LoadTables,
  type MergePlan,
  partTables,
  takesRowsAsTheyAre,
} from "./plan-sql.ts";
import type { LoadSource } from "./source.ts";
import { copyPart, stagePart } from "./stage.ts";
import type { Strategy } from "./strategy.ts";

/** What one part's transaction needs. */
export interface PartLoad {
  merge: MergePlan;
  tables: LoadTables;
  rejects: MergeOptions["rejects"];
  strategy: Strategy;
  signal: AbortSignal;
  source: LoadSource;
  /** Set when a COPY into the target has failed for some row's sake, so that the next parts do not try it first. */
  mayCopy: boolean;
}

/**
 * Brings one part into the target, in the caller's transaction, and answers what its ledger row says. Where no row of
 * the part is expected to be there, it is copied straight into the target; the stage is the way out. Other parts may
 * be on their way in transactions of their own: each has a stage, and the target's lock is taken only to write there.
 * Throws `NotAllNew` where the strategy rests on every row being new and some row is not.
 */
export async function loadPart(
  tx: Transaction,
  load: PartLoad,
  { index, turn }: Pick<Flight, "index" | "turn">,
  known: ReadonlyMap<number, LedgerPart>,
): Promise<LedgerPart> {
  const { merge, rejects, strategy, signal, source } = load;
  const tables = partTables(load.tables, index);
  const input = { part: index, chunks: (partSignal: AbortSignal) => source.chunks(index, partSignal) };
  const copying = { plan: merge.plan, tables, rejects, signal };
  const onlyNew = strategy.proof === "insert";
  const expectsNew = onlyNew || (await isExpectedNew(tx, merge, tables, known));
  if (expectsNew && load.mayCopy && takesRowsAsTheyAre(merge)) {
    try {
      // The lock goes with the savepoint: who took it shared and needs it alone must not keep it while waiting.
      const { inserted, ...part } = await tx.savepoint(async () => {
        // Where a row that is not new ends the strategy, it is all the same which of two excludes the other.
        const shared = onlyNew || !strategy.inOrder;
        if (!shared) await turn();
        await lockTarget(tx, merge, { shared });
        await mustBeUnchanged(tx, merge.plan);
        // Constraints and indexes may call functions by the names that the role knows.
        await setSearchPath(tx, "role");
        const copied = await copyPart(tx, input, copying);
        await tx.query("SET CONSTRAINTS ALL IMMEDIATE");
        await setSearchPath(tx, "fixed");
        if (copied.inserted !== copied.rows) throw new NotAllNew("rows were swallowed");
        return copied;
      });
      const staged = part.documents;
      return { ...part, figures: { ...noFigures(), expected: staged, staged, inserted, rejected: part.rejected } };
    } catch (error) {
      if (!isOfRows(error)) throw error;
      if (onlyNew) throw new NotAllNew(errorCode(error) ?? "rows were swallowed", { cause: error });
      load.mayCopy = false;
    }
  }
  await tx.query(createStage(merge.plan, tables.stage));
  // The stage is the part's own, so nothing is locked until its rows are there.
  const part = await stagePart(tx, input, copying);
  if (strategy.inOrder) await turn();
  const { figures, rounded } = await mergeStage(tx, {
    merge,
    tables,
    rejects,
    parts: new Map([[index, part]]),
    part: index,
    expected: part.documents,
    limits: { onError: "reject", rejectsMax: null, rejectRatioMax: null },
    deleteRatioMax: 0,
    deletesMax: null,
    replayOf: null,
    storedRowsMax: 0,
    expectsNew,
    onlyNew,
    ...(strategy.proof === "key" ? { keyProof: { ids: [], reason: strategy.reason } } : {}),
  });
  await tx.query(`DROP TABLE IF EXISTS ${tables.ready}`);
  await tx.query(`DROP TABLE ${tables.stage}`);
  return { ...part, rounded, rejected: figures.rejected, rows: figures.staged - figures.rejected, figures };
}

/** Whether the part's rows are likely to be new: the table is empty, or the part before was new as a whole. */
async function isExpectedNew(
  tx: Transaction,
  merge: MergePlan,
  tables: LoadTables,
  known: ReadonlyMap<number, LedgerPart>,
): Promise<boolean> {
  const last = [...known.values()].at(-1);
  if (last !== undefined) return last.figures?.inserted === last.rows;
  const { rows } = await tx.query(`SELECT EXISTS (SELECT 1 FROM ${merge.from}${tables.target})`);
  return rows[0]?.[0] === false;
}

/** Whether another way of writing may do better: what the server refused, but neither by chance nor for its own sake. */
function isOfRows(error: unknown): boolean {
  if (error instanceof NotAllNew) return true;
  const code = errorCode(error);
  return code !== undefined && /^[0-9A-Z]{5}$/.test(code) && !isTransient(error) && !isConnectionLost(error)
    ? !/^(53|57|58|XX)/.test(code)
    : false;
}

/**
 * Turns a load whose rows were all to be new into one that gathers, in the caller's transaction: the parts that are in
 * go to the stage, and out of the target what they have put there. Rows that somebody has changed since stay.
 */
export async function takeBack(
  tx: Transaction,
  load: PartLoad,
  { ledger, holder, reason }: { ledger: Ledger; holder: { loadId: string; epoch: number }; reason: string },
): Promise<void> {
  const { merge, tables, rejects, strategy, signal, source } = load;
  await lockTarget(tx, merge);
  const parts = await ledger.parts(tx, holder.loadId);
  await ledger.forgetParts(tx, holder.loadId);
  await tx.query(createStage(merge.plan, tables.stage));
  for (const index of parts.keys()) {
    const input = { part: index, chunks: (partSignal: AbortSignal) => source.chunks(index, partSignal) };
    const part = await stagePart(tx, input, { plan: merge.plan, tables, rejects, signal });
    await ledger.addPart(tx, holder, index, part);
  }
  if (parts.size > 0) await tx.query(deleteStaged(merge, tables));
  if (strategy.inOrder) {
    // The parts may have come in another order than theirs.
    await ledger.forgetParts(tx, holder.loadId);
    await tx.query(`DROP TABLE ${tables.stage}`);
    await tx.query(createStage(merge.plan, tables.stage));
  }
  await ledger.setStrategy(tx, holder, { name: "gather", reason });
}

/** The figures of all parts together; says how they break the law, if they do. */
export function sumParts(
  parts: ReadonlyMap<number, LedgerPart>,
  expected: number,
): { figures: Figures; breach: string | undefined } {
  const figures = {
    ...[...parts.values()].reduce((sum, part) => addFigures(sum, part.figures), noFigures()),
    expected,
  };
  return { figures, breach: conservationBreach(figures) };
}
