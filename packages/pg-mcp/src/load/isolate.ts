import { quoteLiteral, type Transaction } from "../postgres/index.ts";
import { isRowError } from "./database-error.ts";

/** Blocks of 8 kB below which halving stops and rows are tried one by one. */
const LEAF_BLOCKS = 8;

/**
 * Runs a statement over a whole table, and where some row's values make it fail, over halves of the table's blocks,
 * and in the end row by row. Each try has a savepoint, so that what succeeded stays.
 */
export async function forBlocks(
  tx: Transaction,
  table: string,
  work: {
    together: (from: number, to: number) => Promise<void>;
    /** Catches what each row causes, and throws nothing that a row caused. */
    rowByRow: (from: number, to: number) => Promise<void>;
  },
): Promise<void> {
  const { rows } = await tx.query(
    `SELECT pg_relation_size(${quoteLiteral(table)}::regclass) / current_setting('block_size')::bigint`,
  );
  const blocks = Number(rows[0]?.[0]);
  async function run(from: number, to: number): Promise<void> {
    if (from >= to) return;
    try {
      await tx.savepoint(() => work.together(from, to));
      return;
    } catch (error) {
      if (!isRowError(error)) throw error;
    }
    if (to - from <= LEAF_BLOCKS) {
      await work.rowByRow(from, to);
      return;
    }
    const middle = Math.floor((from + to) / 2);
    await run(from, middle);
    await run(middle, to);
  }
  await run(0, blocks);
}
