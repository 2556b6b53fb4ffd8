import { lstat, readdir, rename, rm } from "node:fs/promises";
import { join } from "node:path";
import {
  asStagingError,
  createFile,
  errorCode,
  isDirectory,
  makeDirectory,
  type StagingMode,
  syncDirectory,
  writeAtomically,
} from "./files.ts";
import type { Manifest, PartInfo } from "./manifest.ts";
import { serialiseManifest } from "./manifest-file.ts";
import { FilePartWriter, type PartWriter, partFileName, verifyPart } from "./part.ts";
import { StagingError } from "./staging-error.ts";

/** What a writer may change between creation and end. */
export type ManifestChange = Partial<
  Pick<Manifest, "parts" | "totals" | "profile" | "checkpoint" | "source" | "mapping" | "watermark" | "warnings">
>;

/** The one holder of a working export. It renews its lease by itself; `signal` aborts when the lease is lost. */
export interface ExportWriter {
  readonly manifest: Manifest;
  /** Aborts with the `lease_lost` error once another process has the export or it is gone. */
  readonly signal: AbortSignal;
  /** Aborts once a process has asked by `requestCancel` that this export end as cancelled. */
  readonly cancelRequest: AbortSignal;
  /** Opens the next part. Checks the quota. */
  openPart(): Promise<PartWriter>;
  /** Reads a listed part, and throws `staging_corrupt` unless it is what the manifest says. */
  verifyPart(part: PartInfo, signal: AbortSignal): Promise<void>;
  /** Replaces the manifest in one step. Lists parts that are closed, and only those. */
  commit(change: ManifestChange): Promise<void>;
  /** Ends the export and gives the lease up. Where it throws, nothing has ended, and `release` is still due. */
  finish(
    status: "completed" | "failed" | "cancelled",
    error?: Manifest["error"],
    change?: Pick<ManifestChange, "checkpoint">,
  ): Promise<void>;
  /** Gives the lease up and leaves the export working, for another process to take over. Where it throws, the lease runs out. */
  release(): Promise<void>;
}

/** What a writer needs from its store. */
export interface WriterHome {
  readonly directory: string;
  readonly mode: StagingMode;
  readonly leaseMs: number;
  /** Milliseconds of the store's clock. */
  now(): number;
  /** Throws `staging_full` when the root holds more than its quota. */
  checkQuota(): Promise<void>;
}

/** The file whose presence asks the holder of an export to end it as cancelled. */
export const CANCEL_REQUEST = "cancel-requested";
/** How often a holder looks for that file, in milliseconds. */
const CANCEL_POLL_INTERVAL_MS = 500;

/** The directories that fenced writers are moved to before they are removed. */
export const FENCED_PREFIX = ".fenced-";

const WRITER_DIRECTORY = /^writer-([0-9]{5,})$/;

/** The directory that the holder of an epoch writes in before it renames into the export. */
export function writerDirectoryName(epoch: number): string {
  return `writer-${String(epoch).padStart(5, "0")}`;
}

/** The epoch that a directory belongs to, if it is a writer's. */
export function epochOfDirectory(name: string): number | undefined {
  const digits = WRITER_DIRECTORY.exec(name)?.[1];
  return digits === undefined ? undefined : Number(digits);
}

/** An ISO timestamp of the store's clock. */
export function timestamp(milliseconds: number): string {
  return new Date(milliseconds).toISOString();
}

/**
 * Everything a writer publishes is a rename out of its own `writer-<epoch>` directory. Whoever takes over removes that
 * directory first, so a late writer's rename finds no source: no check can be overtaken between looking and writing.
 */
export class FileExportWriter implements ExportWriter {
  readonly #home: WriterHome;
  readonly #own: string;
  readonly #abort = new AbortController();
  readonly #cancel = new AbortController();
  readonly #renewal: NodeJS.Timeout;
  readonly #looking: NodeJS.Timeout;
  #manifest: Manifest;
  #nextPart: number;
  readonly #openParts = new Set<PartWriter>();
  #ended = false;
  #writtenAt: number;
  /** Manifest writes, one after another: two at once could finish in the wrong order. */
  #queue: Promise<unknown> = Promise.resolve();

  constructor(home: WriterHome, manifest: Manifest) {
    if (manifest.lease === null) throw new Error("a writer needs a lease");
    this.#home = home;
    this.#manifest = manifest;
    this.#own = join(home.directory, writerDirectoryName(manifest.lease.epoch));
    this.#nextPart = (manifest.parts.at(-1)?.index ?? -1) + 1;
    this.#writtenAt = home.now();
    this.#renewal = setInterval(() => void this.#renew(), home.leaseMs / 3);
    // A lease keeps no process alive: one that has nothing else to do shall end, and its lease runs out.
    this.#renewal.unref();
    this.#looking = setInterval(() => void this.#lookForCancel(), Math.min(CANCEL_POLL_INTERVAL_MS, home.leaseMs / 3));
    this.#looking.unref();
  }

  get manifest(): Manifest {
    return this.#manifest;
  }

  get signal(): AbortSignal {
    return this.#abort.signal;
  }

  get cancelRequest(): AbortSignal {
    return this.#cancel.signal;
  }

  async openPart(): Promise<PartWriter> {
    this.#mustHold();
    await this.#home.checkQuota();
    const index = this.#nextPart++;
    const name = partFileName(index);
    const path = join(this.#own, name);
    const handle = await createFile(path, this.#home.mode).catch((error: unknown) => this.#fail(error));
    const part: PartWriter = new FilePartWriter({
      index,
      handle,
      signal: this.signal,
      publish: async () => {
        await this.#home.checkQuota();
        await rename(path, join(this.#home.directory, name)).catch((error: unknown) => this.#fail(error));
        await syncDirectory(this.#home.directory);
        this.#openParts.delete(part);
      },
      remove: async () => {
        this.#openParts.delete(part);
        await rm(path, { force: true });
        // The number is free again unless a later part has been opened meanwhile.
        if (this.#nextPart === index + 1) this.#nextPart = index;
      },
    });
    this.#openParts.add(part);
    return part;
  }

  async verifyPart(part: PartInfo, signal: AbortSignal): Promise<void> {
    const path = join(this.#home.directory, partFileName(part.index));
    await verifyPart(path, part, AbortSignal.any([signal, this.signal]));
  }

  async commit(change: ManifestChange): Promise<void> {
    await this.#enqueue(async () => {
      this.#mustHold();
      if (change.parts !== undefined) await this.#mustExtend(change.parts);
      await this.#write({ ...this.#manifest, ...change }, this.#home.now() + this.#home.leaseMs);
    });
  }

  async finish(
    status: "completed" | "failed" | "cancelled",
    error: Manifest["error"] = null,
    change: Pick<ManifestChange, "checkpoint"> = {},
  ): Promise<void> {
    await this.#enqueue(async () => {
      this.#mustHold();
      // First, for the room that an open part takes may be what the manifest needs on a full disk.
      await this.#discardOpenParts();
      const now = this.#home.now();
      // A failed export may be gone on with: its epoch is what the next holder counts from.
      const leaseUntil = status === "failed" ? now : null;
      await this.#write({ ...this.#manifest, ...change, status, error, finished_at: timestamp(now) }, leaseUntil);
      await removeUnlistedParts(this.#home.directory, this.#manifest);
      await rm(join(this.#home.directory, CANCEL_REQUEST), { force: true });
      await this.#end();
    });
  }

  async release(): Promise<void> {
    await this.#enqueue(async () => {
      if (this.#ended || this.signal.aborted) return;
      try {
        await this.#discardOpenParts();
        // The lease stays in the manifest, run out: its epoch is what the next holder counts from.
        await this.#write(this.#manifest, this.#home.now());
      } finally {
        // Renewing a lease that nobody works under would keep every other process away for good.
        await this.#end();
      }
    });
  }

  async #renew(): Promise<void> {
    await this.#enqueue(async () => {
      // A commit renews too.
      if (this.#ended || this.signal.aborted || this.#home.now() - this.#writtenAt < this.#home.leaseMs / 4) return;
      try {
        await this.#write(this.#manifest, this.#home.now() + this.#home.leaseMs);
      } catch (error) {
        // A full disk may have room again at the next try; what counts is the lease on disk.
        if (this.#home.now() > this.#writtenAt + this.#home.leaseMs) this.#lose(error);
      }
    }).catch((error: unknown) => this.#lose(error));
  }

  async #lookForCancel(): Promise<void> {
    if (!(await isCancelRequested(this.#home.directory).catch(() => false))) return;
    clearInterval(this.#looking);
    this.#cancel.abort();
  }

  async #enqueue(work: () => Promise<void>): Promise<void> {
    const mine = this.#queue.then(work);
    this.#queue = mine.catch(() => {});
    await mine;
  }

  async #write(next: Manifest, leaseUntil: number | null): Promise<void> {
    const lease = this.#manifest.lease;
    if (lease === null) throw new Error("the writer has ended");
    const now = this.#home.now();
    const manifest: Manifest = {
      ...next,
      updated_at: timestamp(now),
      lease: leaseUntil === null ? null : { ...lease, until: timestamp(leaseUntil) },
    };
    const bytes = serialiseManifest(manifest);
    await writeAtomically({
      target: join(this.#home.directory, "manifest.json"),
      directory: this.#home.directory,
      beside: this.#own,
      bytes,
      mode: this.#home.mode,
    }).catch((error: unknown) => this.#fail(error));
    this.#manifest = manifest;
    this.#writtenAt = now;
  }

  /** Readers may have loaded a listed part already: it stays as it is, and only closed files come after it. */
  async #mustExtend(parts: readonly PartInfo[]): Promise<void> {
    for (const [position, listed] of this.#manifest.parts.entries()) {
      const same = parts[position];
      if (same?.index !== listed.index || same.crc32 !== listed.crc32 || same.bytes !== listed.bytes) {
        throw new StagingError("manifest_invalid", `Part ${listed.index} is listed and must stay as it is.`);
      }
    }
    for (const { index, bytes } of parts.slice(this.#manifest.parts.length)) {
      const stats = await lstat(join(this.#home.directory, partFileName(index))).catch((error: unknown) => {
        if (errorCode(error) !== "ENOENT") throw error;
        return undefined;
      });
      // Whoever takes over removes unlisted parts before this writer learns of it.
      if (stats === undefined && !(await isDirectory(this.#own))) throw this.#lose(undefined);
      if (stats === undefined || !stats.isFile() || stats.size !== bytes) {
        throw new StagingError("manifest_invalid", `Part ${index} is not a closed file of ${bytes} bytes.`);
      }
    }
  }

  async #end(): Promise<void> {
    this.#ended = true;
    clearInterval(this.#renewal);
    clearInterval(this.#looking);
    await rm(this.#own, { recursive: true, force: true });
  }

  async #discardOpenParts(): Promise<void> {
    await Promise.all([...this.#openParts].map((part) => part.discard()));
  }

  #mustHold(): void {
    this.signal.throwIfAborted();
    if (this.#ended) throw new StagingError("lease_lost", `This writer of ${this.#manifest.export_id} has ended.`);
  }

  /** A missing directory means that another holder has fenced this one off, or that the export was removed. */
  #fail(error: unknown): never {
    const code = errorCode(error);
    if (code !== undefined && code !== "ENOENT" && code !== "ESTALE" && code !== "ENOTDIR") throw asStagingError(error);
    if (code === undefined && error instanceof Error) throw error;
    throw this.#lose(error);
  }

  #lose(cause: unknown): StagingError {
    const error = new StagingError(
      "lease_lost",
      `Another process has taken ${this.#manifest.export_id} over, or it was removed; this one stops.`,
      { details: { export_id: this.#manifest.export_id, epoch: this.#manifest.lease?.epoch }, cause },
    );
    clearInterval(this.#renewal);
    clearInterval(this.#looking);
    this.#abort.abort(error);
    // Only closes handles: the files went with the directory.
    void this.#discardOpenParts().catch(() => {});
    return error;
  }
}

/** Makes the private directory of an epoch; EEXIST tells that another process claims the same epoch. */
export async function makeWriterDirectory(directory: string, epoch: number, mode: StagingMode): Promise<void> {
  await makeDirectory(join(directory, writerDirectoryName(epoch)), mode);
}

/** Removes closed parts that no manifest lists: left by a writer that stopped between closing and committing. */
export async function removeUnlistedParts(directory: string, manifest: Manifest): Promise<void> {
  const listed = new Set(manifest.parts.map((part) => partFileName(part.index)));
  for (const name of await readdir(directory)) {
    if (/^part-[0-9]+\.ndjson$/.test(name) && !listed.has(name)) await rm(join(directory, name), { force: true });
  }
}

/** Removes what writers older than `epoch` left when they were killed while fencing or ending. */
export async function removeWriterRests(directory: string, epoch: number): Promise<void> {
  for (const name of await readdir(directory)) {
    const own = epochOfDirectory(name);
    if (name.startsWith(FENCED_PREFIX) || (own !== undefined && own < epoch)) {
      await rm(join(directory, name), { recursive: true, force: true, maxRetries: 3 });
    }
  }
}

/** Whether a process has asked for the end of the export in this directory. */
export async function isCancelRequested(directory: string): Promise<boolean> {
  try {
    return (await lstat(join(directory, CANCEL_REQUEST))).isFile();
  } catch (error) {
    if (errorCode(error) === "ENOENT") return false;
    throw error;
  }
}
