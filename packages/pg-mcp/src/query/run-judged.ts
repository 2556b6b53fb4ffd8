import { setTimeout as sleep } from "node:timers/promises";
import { ToolError } from "@es-to-pg/mcp-kit";
import { isServerError } from "../errors.ts";
import { type BatchAnswer, type BatchStatement, failedStatement, type Transaction } from "../postgres/index.ts";
import { fetchBytesMax } from "./answer.ts";
import { canGroundsChange, type Grounds, groundsHold } from "./grounds.ts";
import { endedTransactions } from "./judge.ts";

/** What is run for a statement, and what lets it run. */
export interface Judged {
  text: string;
  grounds: Grounds;
  snapshot: string | undefined;
}

/** How long a statement is judged anew, as long as somebody changes or locks what it reads. */
const rejudgeMs = 2_000;
const rejudgePauseMs = 50;

export async function whileGroundsHold<T>(work: () => Promise<T>, signal: AbortSignal): Promise<T> {
  for (const deadline = Date.now() + rejudgeMs; ; await sleep(rejudgePauseMs, undefined, { signal })) {
    try {
      return await work();
    } catch (error) {
      if (!(error instanceof GroundsGone)) throw error;
      if (Date.now() < deadline) continue;
      if (isLockTimeout(error.cause)) throw error.cause;
      throw new ToolError("tables_changing", "What the statement reads is being changed by another session.", {
        retryable: true,
        next: "Make the same call again when the tables are left alone.",
        cause: error,
      });
    }
  }
}

/** Between the judgement and the plan somebody has added, or locked, what the plan would have been made with. */
class GroundsGone extends Error {
  override readonly name = "GroundsGone";
}

/**
 * How long the plan waits for a lock. The relations are locked since they were judged; whoever holds an index or an
 * inheriting table just now could add to them while the plan waits.
 */
const planLockTimeoutMs = 1;

/**
 * Runs what was judged, with what the judgement rests on looked at once more right before the plan is made: the
 * statements travel together, so that there is no time between the two but the server's own. Where there are several,
 * the last may fail; its result then says so.
 */
export async function runJudged(
  tx: Transaction,
  { grounds, snapshot }: Judged,
  statements: readonly BatchStatement[],
): Promise<BatchAnswer[]> {
  const send = async (before: readonly BatchStatement[]): Promise<BatchAnswer[]> => {
    const limits = { answerBytesMax: fetchBytesMax, lastMayFail: statements.length > 2 };
    return (await tx.batch([...before, ...statements], limits)).slice(before.length);
  };
  const asItIsRun = [
    { sql: "SET TRANSACTION READ ONLY", kept: true },
    { sql: "SET LOCAL plan_cache_mode = DEFAULT", kept: true },
  ];
  if (!canGroundsChange(grounds)) return await send(asItIsRun);
  const lockTimeout = { sql: `SET LOCAL lock_timeout = ${planLockTimeoutMs}`, kept: true };
  const run = (before: readonly BatchStatement[], guard: BatchStatement) =>
    ifGuarded(send([...before, guard]), before.length);
  if (snapshot !== undefined) {
    // Where no transaction at all has ended in between, nobody need look what it did: that is planned faster.
    const guard = {
      sql: `SELECT 1 / CASE ${endedTransactions} WHEN $1 THEN 1 ELSE 0 END`,
      params: [snapshot],
      kept: true,
    };
    const before = [...asItIsRun, lockTimeout, { sql: `SAVEPOINT ${beforeRun}`, kept: true }];
    try {
      return await run(before, guard);
    } catch (error) {
      if (!(error instanceof GroundsGone) || isLockTimeout(error.cause)) throw error;
    }
    return await run([{ sql: `ROLLBACK TO SAVEPOINT ${beforeRun}` }], groundsHold(grounds, tx.major));
  }
  return await run([...asItIsRun, lockTimeout], groundsHold(grounds, tx.major));
}

/** Where a judged statement goes back to when more has to be known before it runs. */
const beforeRun = "before_running";

function isLockTimeout(error: unknown): boolean {
  return isServerError(error) && error.code === "55P03";
}

/** Tells what the guard, or the plan right behind it, met from the statement's own failures. */
async function ifGuarded<T>(work: Promise<T>, guard: number): Promise<T> {
  try {
    return await work;
  } catch (error) {
    const failed = failedStatement(error);
    const isAdded = failed === guard && isServerError(error) && error.code === "22012";
    if (isAdded || (failed === guard + 1 && isLockTimeout(error))) throw new GroundsGone("", { cause: error });
    throw error;
  }
}
