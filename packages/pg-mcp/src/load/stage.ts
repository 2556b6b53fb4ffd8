import { Buffer } from "node:buffer";
import { Readable } from "node:stream";
import { pipeline } from "node:stream/promises";
import { createEncoder } from "../mapping/encode.ts";
import type { LoadPlan } from "../mapping/plan.ts";
import type { Transaction } from "../postgres/index.ts";
import { errorCode, isRowError } from "./database-error.ts";
import { forBlocks } from "./isolate.ts";
import type { LedgerPart } from "./ledger.ts";
import {
  blockRange,
  copyStatement,
  createTextStage,
  type LoadTables,
  moveTextRowByRow,
  moveTextRows,
  reasonOf,
} from "./plan-sql.ts";
import type { Reject, Rejects } from "./rejects.ts";

/** Rejects kept in memory before the COPY is ended to write them. Protects the heap from a part of nothing but rejects. */
const PENDING_REJECTS_MAX = 2_000;

export interface PartInput {
  part: number;
  lines: (signal: AbortSignal) => AsyncIterable<Buffer[]>;
}

/**
 * Copies a part into the stage: typed and fast, and if the server refuses that for the sake of some value, once more
 * as text, where each row is judged alone. The caller's transaction makes it all or nothing.
 */
export async function stagePart(
  tx: Transaction,
  { part, lines }: PartInput,
  options: { plan: LoadPlan; tables: LoadTables; rejects: Rejects; signal: AbortSignal },
): Promise<LedgerPart> {
  const { tables, rejects, signal } = options;
  const before = await rejects.count(tx, tables.loadId);
  let read: Omit<LedgerPart, "rows" | "rejected">;
  try {
    read = await tx.savepoint(() => copyTyped(tx, part, lines(signal), options));
  } catch (error) {
    if (!isRowError(error)) throw error;
    read = await tx.savepoint(() => copyAsText(tx, part, lines(signal), options));
  }
  const rejected = (await rejects.count(tx, tables.loadId)) - before;
  return { ...read, rows: read.documents - rejected, rejected };
}

type CopyOptions = { plan: LoadPlan; tables: LoadTables; rejects: Rejects; signal: AbortSignal };

/** Encodes batches of lines as COPY text, and keeps what could not be encoded. */
function openBatches(plan: LoadPlan, part: number) {
  const encoder = createEncoder(plan);
  const rounded: Record<string, number> = {};
  const replaced: Record<string, number> = {};
  let documents = 0;
  let pending: Reject[] = [];
  return {
    rounded,
    replaced,
    get documents() {
      return documents;
    },
    get isFull() {
      return pending.length >= PENDING_REJECTS_MAX;
    },
    takeRejects(): Reject[] {
      const taken = pending;
      pending = [];
      return taken;
    },
    /** COPY rows of the lines that can be encoded, each with its line number. */
    encode(batch: readonly Buffer[]): { line: number; copy: Buffer }[] {
      const rows: { line: number; copy: Buffer }[] = [];
      for (const bytes of batch) {
        const line = ++documents;
        const encoded = encoder.encode(bytes, { part, line });
        if (encoded.reject !== undefined) {
          const { documentId, column, reason, message, sqlstate, value } = encoded.reject;
          pending.push({
            part,
            line,
            document_index: documentIndexOf(bytes),
            document_id: documentId,
            column_name: column,
            reason,
            message,
            sqlstate,
            value,
          });
        } else {
          for (const column of encoded.rounded) rounded[column] = (rounded[column] ?? 0) + 1;
          for (const column of encoded.replaced) replaced[column] = (replaced[column] ?? 0) + 1;
          rows.push({ line, copy: encoded.copy });
        }
      }
      return rows;
    },
  };
}

/** The rows' bytes in few pieces: the encoder writes one row behind the other, so that most of them need no copy. */
function* adjoined(rows: readonly { copy: Buffer }[]): Generator<Buffer> {
  let first: Buffer | undefined;
  let length = 0;
  for (const { copy } of rows) {
    if (first !== undefined && first.buffer === copy.buffer && first.byteOffset + length === copy.byteOffset) {
      length += copy.length;
    } else {
      if (first !== undefined) yield Buffer.from(first.buffer, first.byteOffset, length);
      first = copy;
      length = copy.length;
    }
  }
  if (first !== undefined) yield Buffer.from(first.buffer, first.byteOffset, length);
}

/** The `_index` of a line: its first member, and a name that needs no JSON escape. */
function documentIndexOf(line: Buffer): string | null {
  return /^\{"_index":"([^"\\]*)"/.exec(line.toString("utf8", 0, 300))?.[1] ?? null;
}

async function copyTyped(tx: Transaction, part: number, lines: AsyncIterable<Buffer[]>, options: CopyOptions) {
  const { plan, tables, rejects, signal } = options;
  const batches = openBatches(plan, part);
  const iterator = lines[Symbol.asyncIterator]();
  const reading = { ended: false };
  try {
    while (!reading.ended) {
      await copyBuffers(
        tx,
        copyStatement(plan, tables.stage),
        async function* () {
          while (!batches.isFull) {
            const next = await iterator.next();
            if (next.done === true) {
              reading.ended = true;
              return;
            }
            yield* adjoined(batches.encode(next.value));
          }
        },
        signal,
      );
      await rejects.insert(tx, tables.loadId, batches.takeRejects());
    }
  } finally {
    await iterator.return?.();
  }
  return { documents: batches.documents, rounded: batches.rounded, replaced: batches.replaced };
}

/** The way out for a part that the typed stage refuses: nothing of it is believed but the bytes. */
async function copyAsText(tx: Transaction, part: number, lines: AsyncIterable<Buffer[]>, options: CopyOptions) {
  const { plan, tables, rejects, signal } = options;
  const text = tables.stage.replace(/"stage_/, '"text_');
  await tx.query(createTextStage(plan, text));
  const batches = openBatches(plan, part);
  for await (const batch of lines) {
    const rows = batches.encode(batch);
    await copyHalves(rows);
    if (batches.isFull) await rejects.insert(tx, tables.loadId, batches.takeRejects());
  }
  await rejects.insert(tx, tables.loadId, batches.takeRejects());
  await forBlocks(tx, text, {
    together: async (from, to) => {
      await tx.query(moveTextRows(plan, text, tables.stage, blockRange(from, to)));
    },
    rowByRow: async (from, to) => {
      await tx.query(moveTextRowByRow(plan, text, tables, blockRange(from, to)));
    },
  });
  await tx.query(`DROP TABLE ${text}`);
  return { documents: batches.documents, rounded: batches.rounded, replaced: batches.replaced };

  /** A line that the server cannot even read as text, for its encoding, is found by halving. */
  async function copyHalves(rows: readonly { line: number; copy: Buffer }[]): Promise<void> {
    const [first] = rows;
    if (first === undefined) return;
    try {
      await tx.savepoint(() =>
        copyBuffers(
          tx,
          copyStatement(plan, text),
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
      const sqlstate = errorCode(error) ?? "";
      await rejects.insert(tx, tables.loadId, [
        {
          part,
          line: first.line,
          document_index: null,
          document_id: null,
          column_name: null,
          reason: reasonOf(sqlstate),
          message: "PostgreSQL cannot read the document's row.",
          sqlstate,
          value: null,
        },
      ]);
    }
  }
}

/** Sends buffers to a COPY with back-pressure; a failure on either side ends both. */
async function copyBuffers(
  tx: Transaction,
  sql: string,
  buffers: () => AsyncIterable<Buffer>,
  signal: AbortSignal,
): Promise<void> {
  await pipeline(Readable.from(buffers(), { objectMode: true }), tx.copyIn(sql), { signal });
}
