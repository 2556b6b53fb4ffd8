import { Buffer, isUtf8 } from "node:buffer";
import { pipeline } from "node:stream/promises";
import type { LineChunk } from "@es-to-pg/staging";
import { type ChildBatch, childPath, openChildBatches } from "../mapping/children.ts";
import { createEncoder, type Encoder, type Remark, type RowLayout } from "../mapping/encode.ts";
import type { LoadPlan } from "../mapping/plan.ts";
import type { Transaction } from "../postgres/index.ts";
import { childStage } from "./children-sql.ts";
import { errorCode, isRowError } from "./database-error.ts";
import { forBlocks } from "./isolate.ts";
import type { LedgerPart } from "./ledger.ts";
import {
  blockRange,
  copyStatement,
  createTextStage,
  type LoadTables,
  metaNames,
  moveTextRowByRow,
  moveTextRows,
  partTables,
  reasonOf,
} from "./plan-sql.ts";
import type { Reject, Rejects } from "./rejects.ts";

/** Rejects kept in memory before the COPY is ended to write them. Protects the heap from a part of nothing but rejects. */
const PENDING_REJECTS_MAX = 2_000;

/**
 * Only buffers of this size are known to have left the process when the next is asked for: a socket keeps up to its
 * high water mark (64 kB) in memory. Smaller ones, the last of a part for one, are copied.
 */
const REUSED_BYTES_MIN = 80 * 1024;

export interface PartInput {
  part: number;
  chunks: (signal: AbortSignal) => AsyncIterable<LineChunk>;
}

/**
 * Copies a part into the stage: typed and fast, and if the server refuses that for the sake of some value, once more
 * as text, where each row is judged alone. The caller's transaction makes it all or nothing.
 */
export async function stagePart(
  tx: Transaction,
  { part, chunks }: PartInput,
  options: CopyOptions,
): Promise<LedgerPart> {
  const { tables, rejects, signal } = options;
  const before = await rejects.count(tx, tables.loadId, part);
  let read: Omit<LedgerPart, "rows" | "rejected">;
  try {
    read = await tx.savepoint(async () => {
      const { rows } = await copyRows(tx, { part, chunks }, tables.stage, "stage", options);
      return rows.read();
    });
  } catch (error) {
    if (!isRowError(error)) throw error;
    read = await tx.savepoint(() => copyAsText(tx, part, chunks(signal), options));
  }
  const rejected = (await rejects.count(tx, tables.loadId, part)) - before;
  return { ...read, rows: read.documents - rejected, rejected };
}

/**
 * Copies a part straight into the target, whose columns take the rows as they are: the shortest way where no row of the
 * target can be in the way. Throws a row error where one is; the caller goes back to a savepoint then.
 */
export async function copyPart(
  tx: Transaction,
  input: PartInput,
  options: CopyOptions,
): Promise<LedgerPart & { inserted: number }> {
  const { rows, copied: inserted } = await copyRows(tx, input, options.tables.target, "target", options);
  const read = rows.read();
  return { ...read, rows: read.documents - rows.rejected, rejected: rows.rejected, inserted };
}

interface CopyOptions {
  plan: LoadPlan;
  tables: LoadTables;
  rejects: Rejects;
  signal: AbortSignal;
}

/** Encodes the lines of a part one by one, and keeps what could not be encoded and what goes to child tables. */
function openRows(encoder: Encoder, part: number, plan: LoadPlan) {
  const children = openChildBatches(plan);
  const hasChildren = plan.children.length > 0;
  const rounded: Record<string, number> = {};
  const replaced: Record<string, number> = {};
  // One object for all lines: a million of them would be the young generation's only work.
  const at = { part, line: 0 };
  let rejected = 0;
  let pending: Reject[] = [];

  function note(bytes: Buffer, remark: Remark): void {
    if (remark.reject === undefined) {
      for (const column of remark.rounded) rounded[column] = (rounded[column] ?? 0) + 1;
      for (const column of remark.replaced) replaced[column] = (replaced[column] ?? 0) + 1;
      return;
    }
    const { documentId, column, reason, message, sqlstate, value } = remark.reject;
    rejected++;
    pending.push({
      ...at,
      document_index: documentIndexOf(bytes),
      document_id: documentId,
      column_name: column,
      reason,
      message,
      sqlstate,
      value,
    });
  }

  return {
    read: () => ({ documents: at.line, rounded, replaced }),
    get rejected() {
      return rejected;
    },
    get isFull() {
      return pending.length >= PENDING_REJECTS_MAX || children.isFull;
    },
    children,
    takeRejects(): Reject[] {
      const taken = pending;
      pending = [];
      return taken;
    },
    /** COPY rows of the lines that can be encoded, in memory that the next call uses again. */
    add({ bytes, ends }: LineChunk): Buffer {
      const isValid = isUtf8(bytes);
      let start = 0;
      // By index: the iterator of a typed array would be a tenth of what a row costs.
      for (let index = 0; index < ends.length; index++) {
        const end = ends[index] ?? 0;
        at.line++;
        const objects = hasChildren ? children.encode(bytes, start, end, at) : null;
        if (objects?.reject !== undefined) note(bytes.subarray(start, end), objects);
        else {
          const remark = encoder.add(bytes, start, end, isValid || isUtf8(bytes.subarray(start, end)), at);
          if (remark !== null) note(bytes.subarray(start, end), remark);
          if (objects !== null && remark?.reject === undefined) {
            note(bytes.subarray(start, end), objects);
            children.keep(objects, at.line);
          }
        }
        start = end + 1;
      }
      return encoder.take();
    },
    /** COPY rows one by one, each with its line number and memory of its own. */
    each({ bytes, ends }: LineChunk): { line: number; copy: Buffer }[] {
      const rows: { line: number; copy: Buffer }[] = [];
      let start = 0;
      for (const end of ends) {
        at.line++;
        const line = bytes.subarray(start, end);
        const objects = children.encode(bytes, start, end, at);
        const encoded = objects?.reject === undefined ? encoder.encode(line, at) : objects;
        if (encoded.reject === undefined) {
          rows.push({ line: at.line, copy: encoded.copy });
          if (objects !== null && objects.reject === undefined) {
            note(line, objects);
            children.keep(objects, at.line);
          }
        }
        if (encoded.reject !== undefined || encoded.rounded.length + encoded.replaced.length > 0) note(line, encoded);
        start = end + 1;
      }
      return rows;
    },
  };
}

type Rows = ReturnType<typeof openRows>;

/** The `_index` of a line: its first member, and a name that needs no JSON escape. */
function documentIndexOf(line: Buffer): string | null {
  return /^\{"_index":"([^"\\]*)"/.exec(line.toString("utf8", 0, 300))?.[1] ?? null;
}

/** Encodes chunks into one COPY, or several where rejects pile up; answers the number of rows the server took. */
async function copyRows(
  tx: Transaction,
  { part, chunks }: PartInput,
  table: string,
  layout: RowLayout,
  { plan, tables, rejects, signal }: CopyOptions,
): Promise<{ rows: Rows; copied: number }> {
  const iterator = chunks(signal)[Symbol.asyncIterator]();
  const reading = { ended: false };
  let copied = 0;
  try {
    // What the documents look like decides the order of the columns, so the first of them is read before the COPY.
    let first: IteratorResult<LineChunk, void> | undefined = await iterator.next();
    const like = first.done === true ? undefined : first.value.bytes.subarray(0, first.value.ends[0]);
    const encoder = createEncoder(plan, { layout, like });
    const rows = openRows(encoder, part, plan);
    const sql = copyStatement(table, encoder.columns);
    while (!reading.ended) {
      copied += await copyBuffers(
        tx,
        sql,
        async function* () {
          while (!rows.isFull) {
            const next = first ?? (await iterator.next());
            first = undefined;
            if (next.done === true) {
              reading.ended = true;
              return;
            }
            const text = rows.add(next.value);
            if (text.length > 0) yield text.length < REUSED_BYTES_MIN ? Buffer.from(text) : text;
          }
        },
        signal,
      );
      for (const child of rows.children.take()) {
        if (child.rows.length > 0) await copyChild(tx, child, child.rows, tables, signal);
      }
      await rejects.insert(tx, tables.loadId, rows.takeRejects());
    }
    return { rows, copied };
  } finally {
    await iterator.return?.();
  }
}

/** The way out for a part that the typed stage refuses: nothing of it is believed but the bytes. */
async function copyAsText(tx: Transaction, part: number, chunks: AsyncIterable<LineChunk>, options: CopyOptions) {
  const { plan, tables, rejects, signal } = options;
  const text = partTables(tables, part).stage.replace(/"stage_/, '"text_');
  await tx.query(createTextStage(plan, text));
  const encoder = createEncoder(plan);
  const lines = openRows(encoder, part, plan);
  const unread = new Set<number>();
  for await (const chunk of chunks) {
    await copyHalves(lines.each(chunk));
    for (const child of lines.children.take()) await copyChildHalves(child, child.rows);
    if (lines.isFull) await rejects.insert(tx, tables.loadId, lines.takeRejects());
  }
  await rejects.insert(tx, tables.loadId, lines.takeRejects());
  await forgetUnread();
  await forBlocks(tx, text, {
    together: async (from, to) => {
      await tx.query(moveTextRows(plan, text, tables.stage, blockRange(from, to)));
    },
    rowByRow: async (from, to) => {
      await tx.query(moveTextRowByRow(plan, text, tables, blockRange(from, to)));
    },
  });
  await tx.query(`DROP TABLE ${text}`);
  return lines.read();

  /** A line that the server cannot even read as text, for its encoding, is found by halving. */
  async function copyHalves(rows: readonly { line: number; copy: Buffer }[]): Promise<void> {
    const [first] = rows;
    if (first === undefined) return;
    try {
      await tx.savepoint(() =>
        copyBuffers(
          tx,
          copyStatement(text, encoder.columns),
          async function* () {
            yield Buffer.concat(rows.map((row) => row.copy));
          },
          signal,
        ),
      );
    } catch (error) {
      if (!isRowError(error)) throw error;
      if (rows.length > 1) {
        const middle = rows.length >> 1;
        await copyHalves(rows.slice(0, middle));
        await copyHalves(rows.slice(middle));
        return;
      }
      await rejectUnread(first.line, null, errorCode(error) ?? "");
    }
  }

  /** The same for rows of a child, which take their document with them. */
  async function copyChildHalves(child: ChildBatch, rows: ChildBatch["rows"]): Promise<void> {
    const [first] = rows;
    if (first === undefined) return;
    try {
      await tx.savepoint(() => copyChild(tx, child, rows, tables, signal));
    } catch (error) {
      if (!isRowError(error)) throw error;
      if (rows.length > 1) {
        const middle = rows.length >> 1;
        await copyChildHalves(child, rows.slice(0, middle));
        await copyChildHalves(child, rows.slice(middle));
        return;
      }
      await rejectUnread(first.line, childPath(child.from, null), errorCode(error) ?? "");
    }
  }

  async function rejectUnread(line: number, column: string | null, sqlstate: string): Promise<void> {
    // Another row of the document may have kept it out already.
    if (unread.has(line)) return;
    unread.add(line);
    const reject: Reject = {
      part,
      line,
      document_index: null,
      document_id: null,
      column_name: column,
      reason: reasonOf(sqlstate),
      message: "PostgreSQL cannot read the document's row.",
      sqlstate,
      value: null,
    };
    await rejects.insert(tx, tables.loadId, [reject]);
  }

  /** Of a document that one of the tables cannot read nothing stays in the others. */
  async function forgetUnread(): Promise<void> {
    if (unread.size === 0) return;
    const stages = [
      { name: text, own: plan },
      ...plan.children.map((child, index) => ({ name: childStage(tables, index), own: child.plan })),
    ];
    for (const { name, own } of stages) {
      const meta = metaNames(own);
      await tx.query(
        `DELETE FROM ${name} WHERE ${meta.part}::integer = $1 AND ${meta.line}::bigint = ANY ($2::bigint[])`,
        [part, [...unread]],
      );
    }
  }
}

/** Copies rows of a child into its stage. */
async function copyChild(
  tx: Transaction,
  child: ChildBatch,
  rows: ChildBatch["rows"],
  tables: LoadTables,
  signal: AbortSignal,
): Promise<void> {
  await copyBuffers(
    tx,
    copyStatement(childStage(tables, child.index), child.columns),
    async function* () {
      yield Buffer.concat(rows.map(({ copy }) => copy));
    },
    signal,
  );
}

/**
 * Sends buffers to a COPY with back-pressure and answers the number of rows it took; a failure on either side ends
 * both. The pipeline asks for the next buffer after the socket has taken the last one: it reads ahead of no generator.
 */
async function copyBuffers(
  tx: Transaction,
  sql: string,
  buffers: () => AsyncGenerator<Buffer>,
  signal: AbortSignal,
): Promise<number> {
  const copy = tx.copyIn(sql);
  await pipeline(buffers, copy, { signal });
  return copy.rowCount;
}
