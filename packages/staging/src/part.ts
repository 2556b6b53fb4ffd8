import { Buffer } from "node:buffer";
import type { FileHandle } from "node:fs/promises";
import { crc32 } from "node:zlib";
import { asStagingError, errorCode, openForReading, writeFully } from "./files.ts";
import type { PartInfo } from "./manifest.ts";
import { StagingError } from "./staging-error.ts";

const LF = 10;

/** Bytes read at once, and so the size of a batch of lines, unless the caller says otherwise. */
const BATCH_BYTES_MAX = 1024 * 1024;

/**
 * Longest line, in bytes: no answer of Elasticsearch that es-mcp reads is as large. Without it a part that is one line, or
 * a hole in a file, would take as much memory as it says it has bytes.
 */
const LINE_BYTES_MAX = 512 * 1024 * 1024;

/** Line ends that a chunk has room for at first. */
const ENDS_FIRST = 4096;

/** The file of a part, derived from its position. */
export function partFileName(index: number): string {
  return `part-${String(index).padStart(5, "0")}.ndjson`;
}

/** The checksum as a manifest states it. */
function crcText(crc: number): string {
  return crc.toString(16).padStart(8, "0");
}

/** A part being written. Nobody reads it before it is closed, and no manifest lists it before it is committed. */
export interface PartWriter {
  readonly index: number;
  readonly documents: number;
  readonly bytes: number;
  /** Appends whole lines: `chunk` ends in LF and holds `documents` of them. The buffer may be reused afterwards. */
  write(chunk: Buffer, documents: number): Promise<void>;
  /** Makes the file durable under its final name. */
  close(): Promise<PartInfo>;
  /** Removes the file. Does nothing after `close()`. */
  discard(): Promise<void>;
}

/** What a part needs from the export it belongs to. */
export interface PartHome {
  readonly index: number;
  readonly handle: FileHandle;
  readonly signal: AbortSignal;
  /** Called when all is written and fsynced: gives the file its final name. */
  publish(): Promise<void>;
  /** Called instead of `publish`: removes the file. */
  remove(): Promise<void>;
}

export class FilePartWriter implements PartWriter {
  readonly #home: PartHome;
  #documents = 0;
  #bytes = 0;
  #crc = 0;
  #open = true;

  constructor(home: PartHome) {
    this.#home = home;
  }

  get index(): number {
    return this.#home.index;
  }

  get documents(): number {
    return this.#documents;
  }

  get bytes(): number {
    return this.#bytes;
  }

  async write(chunk: Buffer, documents: number): Promise<void> {
    this.#home.signal.throwIfAborted();
    if (!this.#open) throw new Error("the part is closed");
    if (chunk.length === 0 && documents === 0) return;
    if (chunk.at(-1) !== LF) throw new Error("a chunk of a part ends in LF");
    await writeFully(this.#home.handle, chunk).catch((error: unknown) => {
      // A lost lease closes the file under a write on its way.
      this.#home.signal.throwIfAborted();
      throw error;
    });
    this.#crc = crc32(chunk, this.#crc);
    this.#bytes += chunk.length;
    this.#documents += documents;
  }

  async close(): Promise<PartInfo> {
    this.#home.signal.throwIfAborted();
    if (!this.#open) throw new Error("the part is closed");
    this.#open = false;
    try {
      await this.#home.handle.sync();
      await this.#home.handle.close();
      await this.#home.publish();
    } catch (error) {
      await this.#abandon();
      this.#home.signal.throwIfAborted();
      throw asStagingError(error);
    }
    return {
      index: this.#home.index,
      documents: this.#documents,
      bytes: this.#bytes,
      crc32: crcText(this.#crc),
    };
  }

  async discard(): Promise<void> {
    if (!this.#open) return;
    this.#open = false;
    await this.#abandon();
  }

  async #abandon(): Promise<void> {
    // Closing twice is harmless, and a failed close leaves nothing to rescue in a file that goes away.
    await this.#home.handle.close().catch(() => {});
    await this.#home.remove();
  }
}

/** Whole lines of a part as they stand in the file. */
export interface LineChunk {
  /** Starts with the first line; valid until the next chunk is asked for, because its memory is used again. */
  bytes: Buffer;
  /** Position of the LF of each line; the next line starts behind it. */
  ends: Uint32Array;
}

/**
 * The lines of a part in chunks of about `chunkBytesMax` bytes; a longer line makes a chunk of its own. Size, checksum
 * and number of lines are checked, so a part that was cut or altered ends in `staging_corrupt` and never in a short
 * result: use nothing of a part before the iteration has ended.
 */
export async function* readChunks(
  path: string,
  part: PartInfo,
  options: { chunkBytesMax?: number; lineBytesMax?: number; signal?: AbortSignal } = {},
): AsyncGenerator<LineChunk, void, undefined> {
  const { chunkBytesMax = BATCH_BYTES_MAX, lineBytesMax = LINE_BYTES_MAX, signal } = options;
  const corrupt = (why: string) =>
    new StagingError("staging_corrupt", `Part ${part.index} is damaged: ${why}.`, {
      next: "Delete this export and make it again.",
      details: { part: part.index },
    });
  let handle: FileHandle;
  try {
    handle = await openForReading(path);
  } catch (error) {
    if (errorCode(error) === "ENOENT") throw corrupt("its file is missing");
    throw error;
  }
  try {
    const { size } = await handle.stat();
    if (size !== part.bytes) throw corrupt(`it has ${size} bytes, the manifest says ${part.bytes}`);
    let buffer = Buffer.allocUnsafeSlow(Math.max(1, Math.min(chunkBytesMax, part.bytes)));
    let ends = new Uint32Array(ENDS_FIRST);
    let crc = 0;
    let bytes = 0;
    let lines = 0;
    /** Bytes at the start of the buffer that are a line without its end. */
    let kept = 0;
    for (;;) {
      signal?.throwIfAborted();
      if (kept === buffer.length) {
        if (kept >= lineBytesMax) throw corrupt(`it has a line of more than ${lineBytesMax} bytes`);
        // One line fills the buffer. Doubled, so that a line of 100 MB is not copied a hundred times.
        const larger = Buffer.allocUnsafeSlow(2 * buffer.length);
        buffer.copy(larger, 0, 0, kept);
        buffer = larger;
      }
      const { bytesRead } = await handle.read(buffer, kept, buffer.length - kept, null);
      if (bytesRead === 0) break;
      crc = crc32(buffer.subarray(kept, kept + bytesRead), crc);
      bytes += bytesRead;
      if (bytes > part.bytes) throw corrupt("it grew while it was read");
      const filled = buffer.subarray(0, kept + bytesRead);
      let count = 0;
      let start = 0;
      // What was kept holds no LF.
      for (let end = filled.indexOf(LF, kept); end !== -1; end = filled.indexOf(LF, start)) {
        if (count === ends.length) {
          const more = new Uint32Array(2 * count);
          more.set(ends);
          ends = more;
        }
        ends[count++] = end;
        start = end + 1;
      }
      lines += count;
      if (count > 0) yield { bytes: buffer.subarray(0, start), ends: ends.subarray(0, count) };
      kept = filled.length - start;
      if (start > 0) buffer.copyWithin(0, start, filled.length);
    }
    if (bytes !== part.bytes) throw corrupt(`it has ${bytes} bytes, the manifest says ${part.bytes}`);
    if (kept > 0) throw corrupt("its last line has no end");
    if (crcText(crc) !== part.crc32) throw corrupt(`its crc32 is ${crcText(crc)}, the manifest says ${part.crc32}`);
    if (lines !== part.documents) throw corrupt(`it has ${lines} lines, the manifest says ${part.documents}`);
  } finally {
    await handle.close();
  }
}

/**
 * The lines of a part without their LF, in batches of about `batchBytesMax` bytes, each in memory of its own; checked
 * as `readChunks` does.
 */
export async function* readLines(
  path: string,
  part: PartInfo,
  { batchBytesMax, signal }: { batchBytesMax?: number; signal?: AbortSignal } = {},
): AsyncGenerator<Buffer[], void, undefined> {
  const options = {
    ...(batchBytesMax === undefined ? {} : { chunkBytesMax: batchBytesMax }),
    ...(signal === undefined ? {} : { signal }),
  };
  for await (const { bytes, ends } of readChunks(path, part, options)) {
    const own = Buffer.allocUnsafeSlow(bytes.length);
    bytes.copy(own);
    const batch: Buffer[] = [];
    let start = 0;
    for (const end of ends) {
      batch.push(own.subarray(start, end));
      start = end + 1;
    }
    yield batch;
  }
}

/** Reads a whole part and throws `staging_corrupt` unless it is what the manifest says. */
export async function verifyPart(path: string, part: PartInfo, signal: AbortSignal): Promise<void> {
  for await (const chunk of readChunks(path, part, { signal })) void chunk;
}
