import { canonicalJson, ToolError } from "@es-to-pg/mcp-kit";
import { z } from "zod";
import type { LoadPlan } from "../mapping/plan.ts";
import { quoteLiteral, readTable, type Table, type Transaction } from "../postgres/index.ts";
import { type ChildFigures, forgetOtherChildren, lockChildren, removeOrphans, writeWithChildren } from "./children.ts";
import { errorCode, isRowError } from "./database-error.ts";
import { conservationBreach, type Figures, noFigures } from "./figures.ts";
import { forBlocks } from "./isolate.ts";
import type { LedgerPart } from "./ledger.ts";
import {
  analyzeStage,
  blockRange,
  castsSayAll,
  cookedQuery,
  cookRowByRow,
  cookRows,
  countRounded,
  countRoundedRowByRow,
  countStage,
  createCooked,
  createReady,
  fedCondition,
  fillNewReady,
  fillReady,
  findDuplicate,
  insertStage,
  isRejectOf,
  type LoadTables,
  type MergePlan,
  mergeRowByRow,
  mergeRows,
  metaNames,
  OUTCOME_SETTING,
  rejectNulls,
  retryForeignKeys,
  roundingColumns,
  storedRows,
  unstagedCondition,
  updatedColumns,
} from "./plan-sql.ts";
import { checkRejectLimits, type RejectLimits, type Rejects } from "./rejects.ts";
import type { KeyProof } from "./strategy.ts";

/** Sorts and keys of the merge, one load of a table at a time; the server's default of 4 MB spills at 20 000 rows. */
const MERGE_WORK_MEM = "64MB";

/**
 * For the join with the target, which several processes may share: more makes it no faster, and the memory of three of
 * them, doubled by hash_mem_multiplier, must fit into the 64 MB of shared memory that a container has by default.
 */
const JOIN_WORK_MEM = "8MB";

/** Passes over documents that wait for parents in the same load. Bounds a chain in no order at all. */
const FOREIGN_KEY_PASSES_MAX = 50;

/** A stage of fewer rows is joined well enough by the planner's guess. */
const ANALYZE_ROWS_MIN = 1_000;

export interface MergeOutcome {
  figures: Figures;
  /** Rows that `replace` removed. They are no documents, so the law does not count them. */
  deleted: number;
  rounded: Record<string, number>;
  replaced: Record<string, number>;
  /** The target's rows behind the staged ones, as JSON, when they were asked for. */
  stored: string[];
  children: ChildFigures[];
}

export interface MergeOptions {
  merge: MergePlan;
  tables: LoadTables;
  rejects: Rejects;
  /** The ledger's parts: what the stage must hold. */
  parts: ReadonlyMap<number, LedgerPart>;
  expected: number;
  limits: RejectLimits;
  deleteRatioMax: number;
  /** Rows that `replace` may remove at most: as many as the confirmed dry run did; null: nothing is confirmed. */
  deletesMax: number | null;
  /** Only documents that this load has rejected are merged; the others only decide who wins a key. */
  replayOf: string | null;
  /** The one part that is merged, where each has a transaction of its own. */
  part?: number;
  /** No row of the target is expected to have one of the keys, so that a plain INSERT is worth the try. */
  expectsNew?: boolean;
  /** Throws `NotAllNew` where some row is not new. */
  onlyNew?: boolean;
  /** Shows that no two documents have one key, by itself or by what the stage holds. */
  keyProof?: KeyProof | undefined;
  /** Largest number of stored rows to answer; 0 for a load that nobody reads row by row. */
  storedRowsMax: number;
  /** Hears of each numbered step of `mergeStage` as it begins. */
  onStep?: (step: string) => void;
}

/** Some row of a part is there already or does not fit, and the load's strategy rests on all of them being new. */
export class NotAllNew extends Error {
  override readonly name = "NotAllNew";
}

/**
 * Brings the stage into the target, in the caller's transaction:
 *  1. one load of a table at a time, and the stage holds what the ledger says;
 *  2. where nothing can collide, the stage goes straight in, and 3. and 4. have nothing to do; else expressions and
 *     casts, null keys, one winner per key, what the target has already;
 *  3. replace: rows whose key is not staged go;
 *  4. insert and update, row by row where the target's constraints refuse a row;
 *  5. the law of conservation; a breach throws, and the transaction with it.
 */
export async function mergeStage(tx: Transaction, options: MergeOptions): Promise<MergeOutcome> {
  const { merge, tables, rejects, parts, expected, limits, onStep } = options;
  onStep?.("1");
  await lockTarget(tx, merge);
  await lockChildren(tx, merge.plan);
  for (const plan of [merge.plan, ...merge.plan.children.map((child) => child.plan)]) await mustBeUnchanged(tx, plan);
  await tx.query(`SET LOCAL work_mem = '${MERGE_WORK_MEM}'`);
  // A part is small beside the table it goes into: its keys are looked up, and not the whole table read for each part.
  if (options.part !== undefined) await tx.query("SET LOCAL random_page_cost = 1.1");

  const inLedger = [...parts.values()].reduce((sum, part) => sum + part.rows, 0);
  const { rows: counted, keysAreUnique } = await lookAtStage(tx, options);
  if (counted !== inLedger) {
    throw new ToolError("stage_incomplete", `The stage holds ${counted} rows, the ledger says ${inLedger}.`, {
      retryable: true,
      next: "Make the same bulk_insert call again.",
    });
  }
  await forgetOthers(tx, tables, options.replayOf);
  await forgetOtherChildren(tx, merge, tables, options.replayOf);
  const countRejects = () => rejects.count(tx, tables.loadId, options.part);
  const beforeMerge = await countRejects();
  checkRejectLimits(limits, beforeMerge, expected);
  const staged =
    options.replayOf === null
      ? [...parts.values()].reduce((sum, part) => sum + part.documents, 0)
      : await rejects.count(tx, options.replayOf);
  const inStage = staged - beforeMerge;
  // The planner sees by the stage's size how many rows it has, but not how many of them share a key.
  if (!keysAreUnique && counted > ANALYZE_ROWS_MIN) await tx.query(analyzeStage(merge, tables));

  let byExpression: Record<string, number> = {};
  await withoutHelpersIfNeeded(tx, async () => {
    byExpression = await countRoundedByTypes(tx, options);
  });

  onStep?.("2");
  const direct = await insertDirectly(tx, { ...options, keysAreUnique });
  if (direct === undefined && options.onlyNew === true) throw new NotAllNew("a row is not new or does not fit");
  const hasChildren = merge.plan.children.length > 0;
  // An unchanged parent may have changed children, which find it in `ready`.
  const keepsSame = merge.mode === "replace" || options.replayOf !== null || options.storedRowsMax > 0 || hasChildren;
  let ready =
    direct === undefined
      ? await prepare(tx, { ...options, stageRows: counted, keysAreUnique, keepsSame })
      : { rows: inStage, same: 0, stale: 0, skipped: 0 };
  let afterPrepare = await countRejects();
  checkRejectLimits(limits, afterPrepare, expected);

  const bring = async () => {
    onStep?.("3");
    const replaces = merge.mode === "replace" && direct === undefined;
    const orphans = replaces ? await removeOrphans(tx, merge, tables) : [];
    const deleted = replaces ? await removeUnstaged(tx, options, ready.rows) : 0;
    onStep?.("4");
    // Deferred constraints are judged here, where a row can still be rejected, and not at COMMIT.
    await tx.query("SET CONSTRAINTS ALL IMMEDIATE");
    const written = direct === undefined ? await write(tx, options) : { inserted: direct, updated: 0, stored: [] };
    return { orphans, deleted, ...written };
  };
  await setSearchPath(tx, "role");
  const brought = hasChildren ? await writeWithChildren(tx, options, bring) : { written: await bring(), children: [] };
  const { written } = brought;
  await setSearchPath(tx, "fixed");
  if (merge.overridesIdentity) await advanceIdentities(tx, merge, tables);
  if ("refused" in brought) {
    // Documents that a child keeps out are rejects like those that could not be prepared.
    ready = subtract(ready, brought.refused);
    afterPrepare += brought.refused.rows;
  }
  const rejected = await countRejects();
  checkRejectLimits(limits, rejected, expected);

  onStep?.("5");
  const refused = rejected - afterPrepare;
  const fed = ready.rows - ready.same - ready.stale - ready.skipped;
  const missing = fed - written.inserted - written.updated - refused;
  const figures: Figures = {
    ...noFigures(),
    expected,
    staged,
    inserted: written.inserted,
    updated: written.updated,
    unchanged: ready.same,
    skipped: ready.skipped,
    stale: ready.stale,
    deduplicated: inStage - (afterPrepare - beforeMerge) - ready.rows,
    rejected,
  };
  // A row that was fed and not returned was swallowed by a trigger or a rule; without those, another writer's row came
  // first and `ignore` or the version's guard left it, or there was nothing beside the key to update.
  if (merge.triggered) figures.suppressed = missing;
  else if (merge.mode === "ignore") figures.skipped += missing;
  else if (merge.guard !== null) figures.stale += missing;
  else if (merge.key.length > 0 && updatedColumns(merge).length === 0) figures.unchanged += missing;
  else figures.suppressed = 0;

  const breach = conservationBreach(figures);
  if (breach !== undefined) {
    throw new ToolError("conservation_breach", `The load does not add up and was rolled back: ${breach}.`, {
      next: "Load again; if it happens twice, report the figures and the table's triggers.",
      details: { figures },
    });
  }
  const stored =
    options.storedRowsMax > 0 && merge.key.length > 0
      ? (await tx.query(storedRows(merge, tables), [options.storedRowsMax])).rows.map(([json]) => String(json))
      : written.stored;
  const children = brought.children.map((child, index) => ({
    ...child,
    deleted: child.deleted + (written.orphans[index] ?? 0),
  }));
  const { rounded, replaced } = adjustments(parts);
  for (const [column, times] of Object.entries(byExpression)) rounded[column] = (rounded[column] ?? 0) + times;
  return { figures, deleted: written.deleted, stored, children, rounded, replaced };
}

/**
 * How many values of expressions lose digits to the column's type, by column. A value whose expression fails is left
 * out, and so is an expression that gives no number.
 */
async function countRoundedByTypes(
  tx: Transaction,
  { merge, tables, replayOf }: MergeOptions,
): Promise<Record<string, number>> {
  const columns = roundingColumns(merge);
  const rounded: Record<string, number> = {};
  if (columns.length === 0) return rounded;
  const { part, line } = metaNames(merge.plan);
  const counted = replayOf === null ? "TRUE" : isRejectOf(tables, replayOf, part, line);
  const add = (counts: readonly unknown[]) => {
    for (const [index, { column }] of columns.entries()) {
      const times = Number(counts[index]);
      if (times > 0) rounded[column] = (rounded[column] ?? 0) + times;
    }
  };
  try {
    await forBlocks(tx, tables.stage, {
      together: async (from, to) => {
        const { rows } = await tx.query(countRounded(tables, columns, `${counted} AND ${blockRange(from, to)}`));
        add(rows[0] ?? []);
      },
      rowByRow: async (from, to) => {
        await tx.query(countRoundedRowByRow(tables, columns, `${counted} AND ${blockRange(from, to)}`));
        const { rows } = await tx.query(`SELECT current_setting(${quoteLiteral(OUTCOME_SETTING)})`);
        add(String(rows[0]?.[0]).split(" "));
      },
    });
  } catch (error) {
    if (errorCode(error)?.startsWith("42") !== true) throw error;
  }
  return rounded;
}

type Prepared = Awaited<ReturnType<typeof prepare>>;

function subtract(from: Prepared, taken: Prepared): Prepared {
  return {
    rows: from.rows - taken.rows,
    same: from.same - taken.same,
    stale: from.stale - taken.stale,
    skipped: from.skipped - taken.skipped,
  };
}

/** Values that lost digits or were changed by a policy, by column, over all parts. */
export function adjustments(parts: MergeOptions["parts"]): Pick<MergeOutcome, "rounded" | "replaced"> {
  const rounded: Record<string, number> = {};
  const replaced: Record<string, number> = {};
  for (const part of parts.values()) {
    for (const [column, times] of Object.entries(part.rounded)) rounded[column] = (rounded[column] ?? 0) + times;
    for (const [column, times] of Object.entries(part.replaced)) replaced[column] = (replaced[column] ?? 0) + times;
  }
  return { rounded, replaced };
}

/** In a replay: rejects of documents that are not replayed are none of its business. */
async function forgetOthers(tx: Transaction, tables: LoadTables, replayOf: string | null): Promise<void> {
  if (replayOf === null) return;
  await tx.query(
    `DELETE FROM ${tables.rejects} WHERE load_id = $1 AND NOT ${isRejectOf(tables, replayOf, "part", "line")}`,
    [tables.loadId],
  );
}

/**
 * Loads of one table queue here, so that what is unchanged and what is missing stays true until the commit. Who only
 * adds rows that are all new, and learns from the unique index where one is not, shares the lock with others of its kind.
 */
export async function lockTarget(tx: Transaction, merge: MergePlan, { shared = false } = {}): Promise<void> {
  await tx.query("SET LOCAL lock_timeout = 0");
  await tx.query(`SELECT pg_advisory_xact_lock${shared ? "_shared" : ""}(hashtextextended($1, 0))`, [
    `data_transformer.target.${merge.plan.table.oid}`,
  ]);
  await tx.query("SET LOCAL lock_timeout = '30s'");
}

/** The plan was checked against the table as it was; rows may have been staged for an hour since. */
export async function mustBeUnchanged(tx: Transaction, plan: LoadPlan): Promise<void> {
  const loaded = new Set(plan.columns.filter((column) => column.load).map((column) => column.column));
  const shape = (table: Table | undefined) =>
    table === undefined
      ? null
      : canonicalJson({
          ...table,
          rowsEstimate: null,
          comment: null,
          partitions: null,
          partitionOf: null,
          indexes: null,
          checks: null,
          foreignKeys: null,
          columns: table.columns
            .filter((column) => loaded.has(column.name) || (column.notNull && column.default === null))
            .map((column) => ({ ...column, comment: null })),
        });
  if (shape(await readTable(tx, plan.table)) === shape(plan.table)) return;
  throw new ToolError("table_changed", "The table was changed while its rows were being staged.", {
    retryable: true,
    next: "Make the same bulk_insert call again: it is checked against the table as it is now.",
  });
}

/**
 * Runs work under a savepoint, and where the server lacks something, once more without parallel processes: a container
 * may have too little shared memory for what they share, and one process needs none.
 */
async function withoutHelpersIfNeeded(tx: Transaction, work: () => Promise<void>): Promise<void> {
  try {
    await tx.savepoint(work);
  } catch (error) {
    if (errorCode(error)?.startsWith("53") !== true) throw error;
    await tx.savepoint(async () => {
      await tx.query("SET LOCAL max_parallel_workers_per_gather = 0");
      await work();
    });
  }
}

async function countRows(tx: Transaction, table: string): Promise<number> {
  const { rows } = await tx.query(`SELECT count(*) FROM ${table}`);
  return Number(rows[0]?.[0]);
}

/**
 * The usual first load: into an empty table, or as an append, with every key once, the stage goes straight into the
 * target. Answers the number of rows, or undefined with nothing done where the long way is needed.
 */
async function insertDirectly(
  tx: Transaction,
  options: MergeOptions & { keysAreUnique: boolean },
): Promise<number | undefined> {
  const { merge, tables, replayOf, storedRowsMax } = options;
  if (replayOf !== null || storedRowsMax > 0 || merge.triggered || merge.meta.keep !== undefined) return undefined;
  // Children find their parents in `ready`.
  if (merge.plan.children.length > 0) return undefined;
  if (merge.mode !== "append" && options.expectsNew !== true) {
    const { rows } = await tx.query(`SELECT EXISTS (SELECT 1 FROM ${merge.from}${tables.target})`);
    if (rows[0]?.[0] === true) return undefined;
  }
  try {
    return await tx.savepoint(async () => {
      if (merge.key.length > 0 && !options.keysAreUnique) {
        const { rows } = await tx.query(findDuplicate(merge, cookedQuery(merge, tables.stage)));
        if (rows[0]?.[0] === true) return undefined;
      }
      const { rowCount } = await tx.query(insertStage(merge, tables));
      await tx.query("SET CONSTRAINTS ALL IMMEDIATE");
      return rowCount;
    });
  } catch (error) {
    // Some row does not fit, or another writer was there first: the long way finds out which. And only there do the
    // functions of checks and defaults find what they name by the role's search path.
    if (!isRowError(error) && errorCode(error)?.startsWith("42") !== true) throw error;
    return undefined;
  }
}

/** Counts the stage, and finds out whether the key's proof holds in it. */
export async function lookAtStage(
  tx: Transaction,
  { merge, tables, keyProof }: Pick<MergeOptions, "merge" | "tables" | "keyProof">,
): Promise<{ rows: number; keysAreUnique: boolean }> {
  const result = await tx.query(countStage(merge, tables, keyProof?.ids ?? []));
  const [rows, ...others] = (result.rows[0] ?? []).map(Number);
  const isShown = keyProof !== undefined && (keyProof.ids.length === 0 || others.includes(0));
  return { rows: rows ?? 0, keysAreUnique: isShown };
}

/** Fills `ready`; by one statement over the stage, or where a row fails in it, over the rows that could be cooked. */
export async function prepare(
  tx: Transaction,
  options: Pick<MergeOptions, "merge" | "tables" | "replayOf"> & {
    stageRows: number;
    keysAreUnique: boolean;
    /** Whether rows that equal the target's stand in `ready`, for who looks them up there. */
    keepsSame: boolean;
  },
): Promise<{ rows: number; same: number; stale: number; skipped: number }> {
  const { merge, tables, replayOf } = options;
  /** Rows that were left out because they equal the target's. */
  let left = 0;
  const fill = async (source: string, sourceRows: number, fills: typeof fillReady) => {
    const nulls = rejectNulls(merge, tables, source);
    const rejected = nulls === undefined ? 0 : (await tx.query(nulls)).rowCount;
    let hasDuplicates = false;
    if (merge.key.length > 0 && !options.keysAreUnique) {
      hasDuplicates = (await tx.query(findDuplicate(merge, source))).rows[0]?.[0] === true;
    }
    // How many winners there are is known without counting them only where every row is one.
    const keepsSame = options.keepsSame || hasDuplicates || merge.key.length === 0;
    await tx.query(`SET LOCAL work_mem = '${JOIN_WORK_MEM}'`);
    const { rowCount } = await tx.query(fills(merge, tables, source, { hasDuplicates, keepsSame }));
    await tx.query(`SET LOCAL work_mem = '${MERGE_WORK_MEM}'`);
    left = keepsSame ? 0 : sourceRows - rejected - rowCount;
  };
  const fillTyped = async (source: string, sourceRows: number) => {
    await tx.query(createReady(merge, tables.ready));
    await fill(source, sourceRows, fillReady);
  };
  const fillFromStage = async () => {
    const source = cookedQuery(merge, tables.stage);
    await (castsSayAll(merge) ? fill(source, options.stageRows, fillNewReady) : fillTyped(source, options.stageRows));
  };
  try {
    await withoutHelpersIfNeeded(tx, fillFromStage);
  } catch (error) {
    if (!isRowError(error)) throw error;
    await tx.query(createCooked(merge, tables.cooked));
    await forBlocks(tx, tables.stage, {
      together: async (from, to) => {
        await tx.query(cookRows(merge, tables, blockRange(from, to)));
      },
      rowByRow: async (from, to) => {
        await tx.query(cookRowByRow(merge, tables, blockRange(from, to)));
      },
    });
    await fillTyped(`SELECT * FROM ${tables.cooked}`, await countRows(tx, tables.cooked));
    await tx.query(`DROP TABLE ${tables.cooked}`);
  }
  await forgetOthers(tx, tables, replayOf);
  if (replayOf !== null) {
    await tx.query(`DELETE FROM ${tables.ready} WHERE NOT ${isRejectOf(tables, replayOf, "_part", "_line")}`);
  }
  const { rows } = await tx.query(
    `SELECT count(*), count(*) FILTER (WHERE _same), count(*) FILTER (WHERE NOT _same AND _stale),
       count(*) FILTER (WHERE NOT _same AND NOT _stale AND _existing AND ${merge.mode === "ignore"})
     FROM ${tables.ready}`,
  );
  const [all, same, stale, skipped] = (rows[0] ?? []).map(Number);
  return { rows: (all ?? 0) + left, same: (same ?? 0) + left, stale: stale ?? 0, skipped: skipped ?? 0 };
}

/** Deletes what is not staged: all of a table without key, as nothing tells its rows apart. */
async function removeUnstaged(tx: Transaction, options: MergeOptions, ready: number): Promise<number> {
  const { merge, tables, deleteRatioMax, deletesMax } = options;
  const target = `${merge.from}${tables.target} AS t`;
  const condition = merge.key.length === 0 ? "TRUE" : unstagedCondition(merge, tables);
  await tx.query(`ANALYZE ${tables.ready}`);
  const { rows } = await tx.query(`SELECT count(*), count(*) FILTER (WHERE ${condition}) FROM ${target}`);
  const [existing = 0, unstaged = 0] = (rows[0] ?? []).map(Number);
  if (existing === 0) return 0;
  // Without a key every row is written anew, so what counts as lost is by how much the table shrinks.
  const lost = merge.key.length === 0 ? Math.max(0, existing - ready) : unstaged;
  if (lost > deleteRatioMax * existing) {
    throw new ToolError(
      "too_many_deletes",
      `replace would remove ${lost} of ${existing} rows, more than max_delete_ratio ${deleteRatioMax} allows.`,
      {
        next: "Check that the export is the whole source; raise max_delete_ratio only if the rows shall go.",
        details: { existing, would_delete: lost, max_delete_ratio: deleteRatioMax },
      },
    );
  }
  if (deletesMax === null) throw confirmNeeded(existing);
  if (unstaged > deletesMax) {
    throw new ToolError(
      "confirm_outdated",
      `replace would remove ${unstaged} rows now, and the confirmed dry run removed ${deletesMax}.`,
      {
        next: "Repeat the call with dry_run:true and fresh:true, show the user figures and deleted, and confirm anew.",
        details: { existing, would_delete: unstaged, confirmed: deletesMax },
      },
    );
  }
  try {
    const { rowCount } = await tx.query(`DELETE FROM ${target} WHERE ${condition}`);
    if (rowCount < unstaged) await mustBeGone(tx, `SELECT count(*) FROM ${target} WHERE ${condition}`);
    return rowCount;
  } catch (error) {
    if (!isRowError(error)) throw error;
    throw new ToolError("delete_refused", "A row that replace must remove is held by a constraint or a trigger.", {
      next: "Remove the rows that refer to it first, or use mode upsert.",
      cause: error,
    });
  }
}

/** A trigger that keeps rows from being deleted must not make a `replace` that replaced nothing. */
async function mustBeGone(tx: Transaction, countLeft: string): Promise<void> {
  const { rows } = await tx.query(countLeft);
  const left = Number(rows[0]?.[0]);
  if (left === 0) return;
  throw new ToolError(
    "delete_refused",
    `${left} rows that replace must remove are still there: a trigger keeps them.`,
    {
      next: "Disable the trigger for the load, or use mode upsert.",
      details: { left },
    },
  );
}

/**
 * The target's own code (triggers, checks) finds what it names by the role's search path, as it does for every other
 * client. The statements of a load need none: they name their schemas, and compare by named operators.
 */
export async function setSearchPath(tx: Transaction, path: "role" | "fixed"): Promise<void> {
  await tx.query(
    path === "fixed"
      ? "SET LOCAL search_path = pg_catalog"
      : `SELECT set_config('search_path', concat_ws(', ', 'pg_catalog', nullif(reset_val, '')), true)
         FROM pg_settings WHERE name = 'search_path'`,
  );
}

/** The sequence of an identity column whose values were loaded goes on after the greatest of them. */
async function advanceIdentities(tx: Transaction, merge: MergePlan, tables: LoadTables): Promise<void> {
  for (const { name, identity } of merge.plan.table.columns) {
    const column = merge.loaded.find((loaded) => loaded.column === name);
    if (column === undefined || identity === null) continue;
    await tx.query(
      `SELECT setval(s.sequence, m.greatest)
       FROM (SELECT pg_get_serial_sequence($1, $2)::regclass AS sequence) AS s,
            (SELECT max(${column.name})::bigint AS greatest FROM ${tables.target}) AS m,
            LATERAL (SELECT coalesce(pg_sequence_last_value(s.sequence), 0) AS last) AS l
       WHERE m.greatest > l.last`,
      [tables.target, name],
    );
  }
}

/** A filled table is replaced only with the token that a dry run answered. */
export function confirmNeeded(existing: number | null): ToolError {
  return new ToolError("confirm_needed", "replace of a table that holds rows needs a confirmation.", {
    next: "Repeat the call with dry_run:true, show the user figures.deleted, and pass the confirm token it answers.",
    details: existing === null ? {} : { existing },
    instead: { arguments: { dry_run: true } },
  });
}

/** Inserts and updates; where the target refuses a row, halves and then row by row. */
async function write(
  tx: Transaction,
  options: MergeOptions,
): Promise<{ inserted: number; updated: number; stored: string[] }> {
  const { merge, tables, rejects, limits, expected, part } = options;
  let stored: string[] = [];
  const fed = fedCondition(merge);
  let inserted = 0;
  let updated = 0;
  const add = (insertedMore: unknown, updatedMore: unknown) => {
    inserted += Number(insertedMore);
    updated += Number(updatedMore);
  };
  const together = async (where: string) => {
    const { rows } = await tx.query(mergeRows(merge, tables, where, options.storedRowsMax > 0));
    const [insertedMore, updatedMore, storedMore] = rows[0] ?? [];
    add(insertedMore, updatedMore);
    if (typeof storedMore === "string") stored = z.array(z.string()).parse(JSON.parse(storedMore));
  };
  const byBlock = async (statement: string) => {
    await tx.query(statement);
    const { rows } = await tx.query(`SELECT current_setting(${quoteLiteral(OUTCOME_SETTING)})`);
    const [insertedMore, updatedMore] = String(rows[0]?.[0]).split(" ");
    add(insertedMore, updatedMore);
  };
  try {
    await tx.savepoint(() => together(fed));
    return { inserted, updated, stored };
  } catch (error) {
    if (!isRowError(error)) throw error;
  }
  inserted = 0;
  updated = 0;
  await forBlocks(tx, tables.ready, {
    together: (from, to) => together(`${fed} AND ${blockRange(from, to)}`),
    rowByRow: async (from, to) => {
      await byBlock(mergeRowByRow(merge, tables, `${fed} AND ${blockRange(from, to)}`));
      checkRejectLimits(limits, await rejects.count(tx, tables.loadId, part), expected);
    },
  });
  // Parents may themselves have waited for theirs. Turning the order about settles a chain in either order at once.
  let waiting = await rejects.count(tx, tables.loadId, part);
  for (let pass = 0; pass < FOREIGN_KEY_PASSES_MAX; pass++) {
    await byBlock(retryForeignKeys(merge, tables, pass % 2 === 0 ? "ASC" : "DESC"));
    const left = await rejects.count(tx, tables.loadId, part);
    if (left === waiting) break;
    waiting = left;
  }
  return { inserted, updated, stored };
}
