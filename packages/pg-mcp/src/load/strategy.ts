import type { Manifest } from "@es-to-pg/staging";
import type { Transaction } from "../postgres/index.ts";
import type { LoadedColumn, LoadTables, MergePlan } from "./plan-sql.ts";
import type { RejectLimits } from "./rejects.ts";

/** Indices as an export's manifest names them. */
export type SourceIndices = Manifest["source"]["indices"];

/** `direct`: each part goes into the target in a transaction of its own; `gather`: all parts in one, at the end. */
export type StrategyName = "direct" | "gather";

export interface Strategy {
  name: StrategyName;
  /**
   * Why parts may go in one by one: no key can come twice (`key`), or every row is new, which the unique index sees to
   * (`insert`). Null for `gather`. A stored version that guards the update is not enough: of two equal versions the
   * later part would win, and not the one that `gather` and verify_load choose.
   */
  proof: "key" | "insert" | null;
  /** What becomes of a document may depend on documents of other keys, so that parts are merged in their order. */
  inOrder: boolean;
  reason: string;
}

/** What the choice looks at. */
export interface StrategyFacts {
  merge: MergePlan;
  indices: SourceIndices;
  dryRun: boolean;
  replays: boolean;
  limits: RejectLimits;
  table: TableFacts;
}

export interface TableFacts {
  isEmpty: boolean;
  /** Other tables' foreign keys refer to it; what was inserted cannot be taken back then. */
  isReferenced: boolean;
  referencesItself: boolean;
  mayDelete: boolean;
  /** Unique indexes or exclusion constraints beside that of the key: rows of different keys may exclude each other. */
  hasOtherUniques: boolean;
}

/** Reads what the choice must know of the target. */
export async function readTableFacts(tx: Transaction, merge: MergePlan, tables: LoadTables): Promise<TableFacts> {
  const { rows } = await tx.query(
    `SELECT NOT EXISTS (SELECT 1 FROM ${merge.from}${tables.target}),
       EXISTS (SELECT 1 FROM pg_constraint WHERE contype = 'f' AND confrelid = $1::oid AND conrelid <> $1::oid),
       EXISTS (SELECT 1 FROM pg_constraint WHERE contype = 'f' AND confrelid = $1::oid AND conrelid = $1::oid),
       has_table_privilege($1::oid, 'DELETE'),
       EXISTS (SELECT FROM pg_index WHERE (indisunique OR indisexclusion)
               AND indrelid IN (SELECT $1::oid UNION ALL SELECT relid::oid FROM pg_partition_tree($1::oid::regclass))
               GROUP BY indrelid HAVING count(*) > $2)`,
    [merge.plan.table.oid, merge.key.length === 0 ? 0 : 1],
  );
  const [isEmpty, isReferenced, referencesItself, mayDelete, hasOtherUniques] = (rows[0] ?? []).map(
    (value) => value === true,
  );
  return {
    isEmpty: isEmpty === true,
    isReferenced: isReferenced === true,
    referencesItself: referencesItself === true,
    mayDelete: mayDelete === true,
    hasOtherUniques: hasOtherUniques === true,
  };
}

/** Chooses how a load's parts reach the target (design-review.md L1). The reason is for people. */
export function chooseStrategy({ merge, indices, dryRun, replays, limits, table }: StrategyFacts): Strategy {
  // A trigger may do anything with a row for the sake of another, and tables of children have constraints of their own.
  const inOrder = merge.triggered || table.hasOtherUniques || table.referencesItself || merge.plan.children.length > 0;
  const told = (reason: string) =>
    inOrder ? `${reason}; parts keep their order, as one row may exclude another` : reason;
  const gather = (reason: string): Strategy => ({ name: "gather", proof: null, inOrder, reason: told(reason) });
  const direct = (proof: "key" | "insert", reason: string): Strategy => ({
    name: "direct",
    proof,
    inOrder,
    reason: told(reason),
  });
  if (merge.mode === "replace") return gather("replace changes the table in one transaction");
  if (merge.mode === "append") return gather("an append that stops half-way could not be repeated");
  if (dryRun) return gather("a dry run is rolled back as a whole");
  if (replays) return gather("rejects are tried again together");
  if (limits.onError === "stop" || limits.rejectsMax !== null || limits.rejectRatioMax !== null) {
    return gather("too many rejects shall leave the table untouched");
  }
  if (merge.plan.children.length > 0) return gather("child rows are replaced with their parents");
  if (table.referencesItself) return gather("rows of the table may refer to rows of later parts");

  const known = proveKeys(merge, indices);
  // What only the stage can show is known too late.
  if (known?.ids.length === 0) return direct("key", known.reason);
  if (table.isEmpty && !merge.triggered && !table.isReferenced && table.mayDelete) {
    return direct("insert", "the table is empty, and its unique index tells of a key that comes twice");
  }
  return gather("the key may come twice, and the table holds rows");
}

/** What shows that no two documents have one key. */
export interface KeyProof {
  /** Columns of the key: if one of them is the document's `_id` in every row, no key comes twice. Empty: none does. */
  ids: LoadedColumn[];
  reason: string;
}

/**
 * The proof that no key comes twice, if there may be one. `_id` is unique in a shard, routing may repeat it in others.
 */
export function proveKeys({ key, plan }: MergePlan, indices: SourceIndices): KeyProof | undefined {
  if (indices.some(({ shards }) => shards !== 1)) return undefined;
  const kept = key.filter(
    (column) =>
      column.expression === undefined &&
      column.onMissing === "null" &&
      column.onError !== "default" &&
      // Two texts without their U+0000 may be one.
      column.nul === "reject" &&
      column.encoding === "reject" &&
      // A collation of its own may call two texts equal.
      plan.table.columns.some(({ name, collation }) => name === column.column && collation === null),
  );
  const texts = kept.filter(({ targetType }) => KEEPS_TEXT.test(targetType));
  const read = new Set(texts.map(({ from }) => from));
  if (indices.length !== 1 && !read.has("_index")) return undefined;
  if (read.has("_id")) {
    const reason =
      indices.length === 1
        ? "the key is the _id of one index of one shard"
        : "the key is (_index, _id) of indices of one shard";
    return { ids: [], reason };
  }
  const ids = kept.filter(
    ({ staged, targetType }) => staged && (KEEPS_TEXT.test(targetType) || WHOLE.test(targetType)),
  );
  return ids.length === 0 ? undefined : { ids, reason: "the key holds the _id in every document" };
}

/** Types in which two different texts stay different; a number would make one of "1" and "01". */
const KEEPS_TEXT = /^(text|character varying(\(\d+\))?)$/;
/** Types whose values have one text each, so that two with different texts differ. */
const WHOLE = /^(smallint|integer|bigint)$/;
