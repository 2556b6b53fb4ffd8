import { Buffer } from "node:buffer";
import type { FileHandle } from "node:fs/promises";
import { crc32 } from "node:zlib";
import { asStagingError, errorCode, openForReading, writeFully } from "./files.ts";
import type { PartInfo } from "./manifest.ts";
import { StagingError } from "./staging-error.ts";

const LF = 10;

/** Bytes read at once, and so the size of a batch of lines, unless the caller says otherwise. */
const BATCH_BYTES_MAX = 1024 * 1024;

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

/**
 * The lines of a part without their LF, in batches of about `batchBytesMax` bytes; a longer line makes a batch of its
 * own. Size, checksum and number of lines are checked, so a part that was cut or altered ends in `staging_corrupt`
 * and never in a short result: use nothing of a part before the iteration has ended.
 */
export async function* readLines(
  path: string,
  part: PartInfo,
  options: { batchBytesMax?: number; signal?: AbortSignal } = {},
): AsyncGenerator<Buffer[], void, undefined> {
  const { batchBytesMax = BATCH_BYTES_MAX, signal } = options;
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
    let crc = 0;
    let bytes = 0;
    let lines = 0;
    // Pieces of a line whose end has not been read; joined once, so that a line of 100 MB is not copied a hundred times.
    let pieces: Buffer[] = [];
    for (;;) {
      signal?.throwIfAborted();
      // A new buffer each time: the lines are views of it and belong to the caller.
      const buffer = Buffer.allocUnsafeSlow(Math.max(1, Math.min(batchBytesMax, part.bytes - bytes)));
      const { bytesRead } = await handle.read(buffer, 0, buffer.length, null);
      if (bytesRead === 0) break;
      const chunk = buffer.subarray(0, bytesRead);
      crc = crc32(chunk, crc);
      bytes += bytesRead;
      if (bytes > part.bytes) throw corrupt("it grew while it was read");
      const batch: Buffer[] = [];
      let start = 0;
      for (let end = chunk.indexOf(LF); end !== -1; end = chunk.indexOf(LF, start)) {
        const line = chunk.subarray(start, end);
        if (pieces.length > 0) {
          batch.push(Buffer.concat([...pieces, line]));
          pieces = [];
        } else {
          batch.push(line);
        }
        start = end + 1;
      }
      if (start < bytesRead) pieces.push(chunk.subarray(start));
      lines += batch.length;
      if (batch.length > 0) yield batch;
    }
    if (bytes !== part.bytes) throw corrupt(`it has ${bytes} bytes, the manifest says ${part.bytes}`);
    if (pieces.length > 0) throw corrupt("its last line has no end");
    if (crcText(crc) !== part.crc32) throw corrupt(`its crc32 is ${crcText(crc)}, the manifest says ${part.crc32}`);
    if (lines !== part.documents) throw corrupt(`it has ${lines} lines, the manifest says ${part.documents}`);
  } finally {
    await handle.close();
  }
}

/** Reads a whole part and throws `staging_corrupt` unless it is what the manifest says. */
export async function verifyPart(path: string, part: PartInfo, signal?: AbortSignal): Promise<void> {
  for await (const batch of readLines(path, part, signal === undefined ? {} : { signal })) void batch;
}
