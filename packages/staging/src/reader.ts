import { Buffer } from "node:buffer";
import { readdir, rm } from "node:fs/promises";
import { join } from "node:path";
import { z } from "zod";
import { errorCode, isDirectory, makeDirectory, openForReading, type StagingMode, writeAtomically } from "./files.ts";
import type { Manifest, PartInfo } from "./manifest.ts";
import { readManifest } from "./manifest-file.ts";
import { type LineChunk, partFileName, readChunks, readLines } from "./part.ts";
import { StagingError } from "./staging-error.ts";
import { timestamp } from "./writer.ts";

/** A load's view of an export. Its lease keeps the export from being removed until `close()`. */
export interface ExportReader {
  /** As last read. */
  readonly manifest: Manifest;
  /** Reads the manifest again, for a load that follows a working export. */
  refresh(): Promise<Manifest>;
  /** The lines of a listed part without LF, in batches. Ends in `staging_corrupt` unless size, crc32 and count fit. */
  lines(part: PartInfo, options?: { batchBytesMax?: number; signal?: AbortSignal }): AsyncIterable<Buffer[]>;
  /** The same in memory that is used again: the fast way for who is done with a chunk before asking for the next. */
  chunks(part: PartInfo, options?: { chunkBytesMax?: number; signal?: AbortSignal }): AsyncIterable<LineChunk>;
  close(): Promise<void>;
}

const loadIdSchema = z.string().regex(/^load_[0-9a-hjkmnp-tv-z]{26}$/);
const READERS = "readers";
const LEASE_FILE = /^(load_[0-9a-hjkmnp-tv-z]{26})\.json$/;
/** A reader's lease is some hundred bytes; a larger file is not one. */
const LEASE_BYTES_MAX = 4096;
const readerLeaseSchema = z.strictObject({ load_id: loadIdSchema, owner: z.string(), lease_until: z.iso.datetime() });

/** What a reader needs from its store. */
export interface ReaderHome {
  readonly directory: string;
  readonly mode: StagingMode;
  readonly leaseMs: number;
  readonly owner: string;
  now(): number;
}

export class FileExportReader implements ExportReader {
  readonly #home: ReaderHome;
  readonly #loadId: string;
  readonly #exportId: string;
  #renewal: NodeJS.Timeout | undefined;
  #manifest: Manifest;
  #lost: StagingError | undefined;
  #writing: Promise<void> = Promise.resolve();

  private constructor(home: ReaderHome, manifest: Manifest, loadId: string) {
    this.#home = home;
    this.#manifest = manifest;
    this.#exportId = manifest.export_id;
    this.#loadId = loadId;
  }

  /** Takes the lease first and reads the manifest after it, so that what is read stays. */
  static async open(home: ReaderHome, exportId: string, loadId: string): Promise<FileExportReader> {
    if (!loadIdSchema.safeParse(loadId).success) {
      throw new StagingError("invalid_load_id", "A load id is load_ and 26 characters.");
    }
    const manifest = await readManifest(join(home.directory, "manifest.json"), exportId);
    const reader = new FileExportReader(home, manifest, loadId);
    await reader.#lease();
    try {
      await reader.refresh();
    } catch (error) {
      await reader.close();
      throw error;
    }
    reader.#renewal = setInterval(() => {
      reader.#writing = reader.#lease().catch((error: unknown) => reader.#failed(error));
    }, home.leaseMs / 3);
    reader.#renewal.unref();
    return reader;
  }

  get manifest(): Manifest {
    return this.#manifest;
  }

  async refresh(): Promise<Manifest> {
    if (this.#lost !== undefined) throw this.#lost;
    try {
      this.#manifest = await readManifest(join(this.#home.directory, "manifest.json"), this.#exportId);
    } catch (error) {
      throw errorCode(error) === "ENOENT" ? this.#removed(error) : error;
    }
    return this.#manifest;
  }

  async *chunks(
    part: PartInfo,
    options: { chunkBytesMax?: number; signal?: AbortSignal } = {},
  ): AsyncGenerator<LineChunk, void, undefined> {
    yield* this.#reading((path) => readChunks(path, part, options), part);
  }

  async *lines(
    part: PartInfo,
    options: { batchBytesMax?: number; signal?: AbortSignal } = {},
  ): AsyncGenerator<Buffer[], void, undefined> {
    yield* this.#reading((path) => readLines(path, part, options), part);
  }

  async *#reading<T>(read: (path: string) => AsyncGenerator<T, void, undefined>, part: PartInfo) {
    if (this.#lost !== undefined) throw this.#lost;
    try {
      yield* read(join(this.#home.directory, partFileName(part.index)));
    } catch (error) {
      // A part is not damaged when the whole export has gone.
      if (error instanceof StagingError && !(await isDirectory(this.#home.directory))) throw this.#removed(error);
      throw error;
    }
  }

  async close(): Promise<void> {
    clearInterval(this.#renewal);
    await this.#writing;
    const path = join(this.#home.directory, READERS, `${this.#loadId}.json`);
    // A load that another process has taken over keeps that process's lease.
    const lease = await readLease(path);
    if (lease?.owner === this.#home.owner) await rm(path, { force: true });
  }

  async #lease(): Promise<void> {
    const readers = join(this.#home.directory, READERS);
    await makeDirectory(readers, this.#home.mode).catch((error: unknown) => {
      if (errorCode(error) === "ENOENT") throw this.#removed(error);
      if (errorCode(error) !== "EEXIST") throw error;
    });
    if (!(await isDirectory(readers))) {
      throw new StagingError("staging_corrupt", `${readers} is not a directory.`);
    }
    const lease = {
      load_id: this.#loadId,
      owner: this.#home.owner,
      lease_until: timestamp(this.#home.now() + this.#home.leaseMs),
    };
    await writeAtomically({
      target: join(readers, `${this.#loadId}.json`),
      directory: readers,
      beside: readers,
      bytes: Buffer.from(`${JSON.stringify(lease)}\n`),
      mode: this.#home.mode,
    }).catch((error: unknown) => {
      throw errorCode(error) === "ENOENT" ? this.#removed(error) : error;
    });
  }

  #failed(error: unknown): void {
    // Anything but the export's end may be over at the next renewal.
    if (error instanceof StagingError && error.code === "unknown_export") this.#lost = error;
  }

  #removed(cause: unknown): StagingError {
    return new StagingError("unknown_export", `${this.#exportId} has been removed.`, {
      details: { export_id: this.#exportId },
      cause,
    });
  }
}

/** Ids of the loads whose lease on the export in this directory has not run out. */
export async function liveReaders(directory: string, now: number): Promise<string[]> {
  const live: string[] = [];
  for (const { loadId, until } of await readerLeases(directory)) if (until > now) live.push(loadId);
  return live;
}

/** Removes the leases that readers left behind when they died. */
export async function removeDeadReaders(directory: string, now: number): Promise<void> {
  for (const { loadId, until } of await readerLeases(directory)) {
    if (until <= now) await rm(join(directory, READERS, `${loadId}.json`), { force: true });
  }
}

async function readerLeases(directory: string): Promise<{ loadId: string; until: number }[]> {
  const readers = join(directory, READERS);
  if (!(await isDirectory(readers))) return [];
  const leases: { loadId: string; until: number }[] = [];
  for (const name of await readdir(readers)) {
    const loadId = LEASE_FILE.exec(name)?.[1];
    if (loadId === undefined) continue;
    const lease = await readLease(join(readers, name));
    if (lease !== undefined) leases.push({ loadId, until: Date.parse(lease.lease_until) });
  }
  return leases;
}

async function readLease(path: string): Promise<z.infer<typeof readerLeaseSchema> | undefined> {
  try {
    const handle = await openForReading(path);
    try {
      const buffer = Buffer.alloc(LEASE_BYTES_MAX);
      const { bytesRead } = await handle.read(buffer, 0, buffer.length, 0);
      return readerLeaseSchema.parse(JSON.parse(buffer.toString("utf8", 0, bytesRead)));
    } finally {
      await handle.close();
    }
  } catch (error) {
    // Removed meanwhile, or no lease at all: it protects nothing.
    if (errorCode(error) === "ENOENT" || error instanceof SyntaxError || error instanceof z.ZodError) return undefined;
    if (error instanceof StagingError) return undefined;
    throw error;
  }
}
