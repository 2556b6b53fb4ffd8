import { Buffer } from "node:buffer";
import { lstat, readdir, realpath, rename, rm } from "node:fs/promises";
import { hostname } from "node:os";
import { basename, join } from "node:path";
import {
  asStagingError,
  createFile,
  ensureDirectory,
  errorCode,
  isDirectory,
  makeDirectory,
  openForReading,
  randomWord,
  type StagingMode,
  syncDirectory,
  writeAtomically,
  writeFully,
} from "./files.ts";
import { newId } from "./ids.ts";
import { exportIdSchema, MANIFEST_VERSION, type Manifest } from "./manifest.ts";
import { readManifest, serialiseManifest } from "./manifest-file.ts";
import { type ExportReader, FileExportReader, liveReaders, removeDeadReaders } from "./reader.ts";
import { defaultRoot, isMountPoint, rootFromUrl } from "./root.ts";
import { StagingError } from "./staging-error.ts";
import { claimExport, isStalled } from "./take-over.ts";
import {
  CANCEL_REQUEST,
  type ExportWriter,
  epochOfDirectory,
  FileExportWriter,
  isCancelRequested,
  makeWriterDirectory,
  removeUnlistedParts,
  removeWriterRests,
  timestamp,
  type WriterHome,
  writerDirectoryName,
} from "./writer.ts";

/** What an export is created with; everything that is left out starts empty. */
export type ManifestDraft = Pick<Manifest, "request_digest" | "source" | "mapping"> &
  Partial<Pick<Manifest, "profile" | "watermark" | "checkpoint" | "warnings">>;

/** Exports by their state, without those whose manifest cannot be used. */
export interface Survey {
  /** Newest first; some of them may be stalled. */
  working: Manifest[];
  ended: Record<Ended, number>;
}

type Ended = Exclude<Manifest["status"], "working">;

interface KnownEnd {
  /** What tells the file of the manifest from every other. */
  file: string;
  status: Ended | "corrupt";
}

/** Staged exports in one place, shared by any number of processes. */
export interface StagingStore {
  readonly root: string;
  /**
   * Proves that this process can write, read and remove in the root. Throws `staging_unshared`. Who asks while it is under
   * way gets the same answer.
   */
  probe(): Promise<void>;
  /** All exports, newest first, and those whose manifest cannot be used. */
  list(): Promise<{ exports: Manifest[]; corrupt: { export_id: string; message: string }[] }>;
  /**
   * What is at work and how much has ended, for who looks again and again: manifests of exports that have ended are not
   * read a second time unless they have changed.
   */
  survey(): Promise<Survey>;
  read(exportId: string): Promise<Manifest>;
  /** Whether a working export has nobody who works on it. */
  isStalled(manifest: Manifest): boolean;
  create(draft: ManifestDraft): Promise<ExportWriter>;
  /**
   * Goes on with an export that is stalled, or that failed and kept its checkpoint: parts that are not listed are removed;
   * those that are, the writer verifies when it is asked to. Throws `lease_held` while another process holds it.
   */
  takeOver(exportId: string): Promise<ExportWriter>;
  /** Asks the holder of an export, in whatever process, to end it as cancelled; one that takes it over is asked too. */
  requestCancel(exportId: string): Promise<void>;
  /** Whether somebody has asked for the end of an export that has not ended yet. */
  isCancelRequested(exportId: string): Promise<boolean>;
  openReader(exportId: string, loadId: string): Promise<ExportReader>;
  /** Removes an export. Throws `export_in_use` while somebody writes or reads it. */
  remove(exportId: string): Promise<void>;
  /** Removes what is older than the TTL and in nobody's use. */
  sweep(): Promise<{ removed: string[]; bytes: number }>;
  usage(): Promise<{ bytes: number; bytesMax: number | null }>;
}

export interface StoreOptions {
  /** A `file:` URL. Default: `es-to-pg/staging` in the user's state directory. */
  url?: string;
  /** `private`: this uid alone. `group`: every uid of the group. Default `private`. */
  mode?: StagingMode;
  /** Age in hours at which `sweep()` removes. Default 72; 0 keeps everything. */
  ttlHours?: number;
  /** Bytes that all exports together may take. Default: no limit. */
  bytesMax?: number;
  /** Refuse a root that is not a mount point of its own, as when a volume was forgotten. */
  requireMount?: boolean;
  /** How long a silent holder keeps its lease. Default 30 000. */
  leaseMs?: number;
}

const NEW_PREFIX = ".new-";
const TRASH_PREFIX = ".trash-";
const PROBE_PREFIX = ".probe-";
/** Locks of es-mcp for the start of an export; their holders touch them each second. */
const STARTING_PREFIX = ".starting-";
const STARTING_AGE_MS_MAX = 60_000;
/** Manifests read at once by `list()` and `survey()`; each may take 8 MiB. */
const LIST_CONCURRENCY = 8;

/** Opens the store and proves with a probe file that its root can be shared. */
export async function openStore(options: StoreOptions = {}): Promise<StagingStore> {
  const named = options.url === undefined ? defaultRoot() : rootFromUrl(options.url);
  // Whoever runs the server may make the root a link. Beneath it no link is followed.
  const root = await realpath(named).catch(() => named);
  const store = new FileStore(root, options);
  await store.probe();
  return store;
}

class FileStore implements StagingStore {
  readonly root: string;
  readonly #mode: StagingMode;
  readonly #ttlMs: number;
  readonly #bytesMax: number | null;
  readonly #requireMount: boolean;
  readonly #leaseMs: number;
  readonly #owner = `${hostname()}-${process.pid}-${randomWord()}`;
  /** What the store's clock is ahead of this process's: leases are compared across machines by one clock. */
  #clockAheadMs = 0;
  #probing: Promise<void> | undefined;
  /** Bytes of the files directly in an export, valid while the directory's mtime stays. */
  readonly #sizes = new Map<string, { mtimeMs: number; bytes: number; writers: string[] }>();
  /** How exports ended that `survey()` has read, valid while their manifest is the same file and has not changed. */
  #ended = new Map<string, KnownEnd>();

  constructor(root: string, options: StoreOptions) {
    this.root = root;
    this.#mode = options.mode ?? "private";
    this.#ttlMs = (options.ttlHours ?? 72) * 3_600_000;
    this.#bytesMax = options.bytesMax ?? null;
    this.#requireMount = options.requireMount ?? false;
    this.#leaseMs = options.leaseMs ?? 30_000;
  }

  probe(): Promise<void> {
    // On a file system that hangs, each would keep a thread of Node's few, and whatever else needs one would hang too.
    this.#probing ??= this.#probe().finally(() => {
      this.#probing = undefined;
    });
    return this.#probing;
  }

  async #probe(): Promise<void> {
    const path = join(this.root, `${PROBE_PREFIX}${randomWord()}`);
    try {
      await ensureDirectory(this.root, this.#mode);
      if (this.#requireMount && !(await isMountPoint(this.root))) {
        throw this.#unshared("it is not a mount point of its own, and STAGING_REQUIRE_MOUNT asks for one");
      }
      const token = randomWord();
      const writing = await createFile(path, this.#mode);
      const before = Date.now();
      try {
        await writeFully(writing, Buffer.from(token));
        await writing.sync();
      } finally {
        await writing.close();
      }
      const after = Date.now();
      const reading = await openForReading(path);
      try {
        const { mtimeMs } = await reading.stat();
        // Within what the write took the clocks agree, and a local disk's always do.
        this.#clockAheadMs = mtimeMs > after ? mtimeMs - after : mtimeMs < before - 1000 ? mtimeMs - before : 0;
        if ((await reading.readFile("utf8")) !== token) throw this.#unshared("a probe file read back differently");
      } finally {
        await reading.close();
      }
    } catch (error) {
      if (error instanceof StagingError && error.code !== "staging_corrupt") throw error;
      throw this.#unshared(error instanceof Error ? error.message : String(error), error);
    } finally {
      await rm(path, { force: true }).catch(() => {});
    }
  }

  async list(): Promise<{ exports: Manifest[]; corrupt: { export_id: string; message: string }[] }> {
    const exports: Manifest[] = [];
    const corrupt: { export_id: string; message: string }[] = [];
    await this.#eachExport(async (id) => {
      const found = await this.#readIfUsable(id);
      if (found instanceof StagingError) corrupt.push({ export_id: id, message: found.message });
      else if (found !== undefined) exports.push(found);
    });
    exports.sort(newestFirst);
    corrupt.sort((a, b) => compare(a.export_id, b.export_id));
    return { exports, corrupt };
  }

  async survey(): Promise<Survey> {
    const working: Manifest[] = [];
    const ended = { completed: 0, failed: 0, cancelled: 0 };
    const known = new Map<string, KnownEnd>();
    await this.#eachExport(async (id) => {
      // Before it is read: a change meanwhile makes another file of it.
      const file = await this.#manifestFile(id);
      const before = this.#ended.get(id);
      if (before !== undefined && before.file === file?.identity) {
        known.set(id, before);
        if (before.status !== "corrupt") ended[before.status] += 1;
        return;
      }
      const found = await this.#readIfUsable(id);
      if (found === undefined) return;
      const status = found instanceof StagingError ? "corrupt" : found.status;
      if (!(found instanceof StagingError) && found.status === "working") working.push(found);
      if (status === "working") return;
      if (status !== "corrupt") ended[status] += 1;
      // An export that is another user's today may be ours tomorrow, with the same manifest.
      const isAboutManifest = !(found instanceof StagingError) || found.code === "staging_corrupt";
      if (file?.isSettled === true && isAboutManifest) known.set(id, { file: file.identity, status });
    });
    // What is gone is forgotten with it.
    this.#ended = known;
    working.sort(newestFirst);
    return { working, ended };
  }

  async read(exportId: string): Promise<Manifest> {
    return await this.#existing(exportId, (directory) => readManifest(join(directory, "manifest.json"), exportId));
  }

  isStalled(manifest: Manifest): boolean {
    return isStalled(manifest, this.#now());
  }

  async create(draft: ManifestDraft): Promise<ExportWriter> {
    const exportId = newId("exp");
    const now = this.#now();
    const manifest: Manifest = {
      manifest_version: MANIFEST_VERSION,
      export_id: exportId,
      status: "working",
      created_at: timestamp(now),
      updated_at: timestamp(now),
      finished_at: null,
      lease: { owner: this.#owner, epoch: 1, until: timestamp(now + this.#leaseMs) },
      error: null,
      request_digest: draft.request_digest,
      source: draft.source,
      mapping: draft.mapping,
      parts: [],
      totals: { documents: 0, bytes: 0, compacted: 0, invalid_utf8: 0 },
      profile: draft.profile ?? [],
      watermark: draft.watermark ?? [],
      checkpoint: draft.checkpoint ?? null,
      warnings: draft.warnings ?? [],
    };
    const bytes = serialiseManifest(manifest);
    await this.#checkQuota();
    const beside = join(this.root, `${NEW_PREFIX}${exportId}`);
    const directory = join(this.root, exportId);
    try {
      await makeDirectory(beside, this.#mode);
      await makeDirectory(join(beside, "readers"), this.#mode);
      await makeWriterDirectory(beside, 1, this.#mode);
      await writeAtomically({
        target: join(beside, "manifest.json"),
        directory: beside,
        beside: join(beside, writerDirectoryName(1)),
        bytes,
        mode: this.#mode,
      });
      await rename(beside, directory);
      await syncDirectory(this.root);
    } catch (error) {
      // Under either name: nobody would work on what this call does not hand out.
      for (const path of [beside, directory]) await rm(path, { recursive: true, force: true }).catch(() => {});
      const cause = asStagingError(error);
      if (cause instanceof StagingError) throw cause;
      throw this.#unshared(error instanceof Error ? error.message : String(error), error);
    }
    return new FileExportWriter(this.#writerHome(directory), manifest);
  }

  async takeOver(exportId: string): Promise<ExportWriter> {
    return await this.#existing(exportId, async (directory) => {
      const manifest = await claimExport({
        directory,
        exportId,
        owner: this.#owner,
        mode: this.#mode,
        leaseMs: this.#leaseMs,
        now: () => this.#now(),
      });
      const writer = new FileExportWriter(this.#writerHome(directory), manifest);
      try {
        await removeUnlistedParts(directory, manifest);
        await removeWriterRests(directory, manifest.lease?.epoch ?? 0);
      } catch (error) {
        await writer.release().catch(() => {});
        throw error;
      }
      return writer;
    });
  }

  async requestCancel(exportId: string): Promise<void> {
    await this.#existing(exportId, async (directory) => {
      try {
        await (await createFile(join(directory, CANCEL_REQUEST), this.#mode)).close();
      } catch (error) {
        if (errorCode(error) !== "EEXIST") throw error;
      }
    });
  }

  async isCancelRequested(exportId: string): Promise<boolean> {
    return await this.#existing(exportId, isCancelRequested);
  }

  async openReader(exportId: string, loadId: string): Promise<ExportReader> {
    return await this.#existing(exportId, (directory) =>
      FileExportReader.open(
        {
          directory,
          mode: this.#mode,
          leaseMs: this.#leaseMs,
          owner: `${this.#owner}-${randomWord()}`,
          now: () => this.#now(),
        },
        exportId,
        loadId,
      ),
    );
  }

  async remove(exportId: string): Promise<void> {
    await this.#existing(exportId, async (directory) => {
      await this.#mustBeUnused(exportId, directory);
      const trash = join(this.root, `${TRASH_PREFIX}${exportId}-${randomWord()}`);
      await rename(directory, trash);
      try {
        // A reader or a new holder may have come between the look and the rename. None can come now.
        await this.#mustBeUnused(exportId, trash);
      } catch (error) {
        await rename(trash, directory);
        throw error;
      }
      this.#sizes.delete(exportId);
      await rm(trash, { recursive: true, force: true });
    });
  }

  async sweep(): Promise<{ removed: string[]; bytes: number }> {
    const removed: string[] = [];
    let bytes = 0;
    for (const name of await this.#names()) {
      try {
        if (exportIdSchema.safeParse(name).success) {
          const size = await this.#sizeOf(name);
          if (!(await this.#sweepExport(name))) continue;
          removed.push(name);
          bytes += size;
        } else {
          await this.#sweepRest(name);
        }
      } catch (error) {
        // In use after all, another process was faster, or another user's: what cannot be removed must not stop exports.
        if (error instanceof StagingError || errorCode(error) !== undefined) continue;
        throw error;
      }
    }
    return { removed, bytes };
  }

  async usage(): Promise<{ bytes: number; bytesMax: number | null }> {
    let bytes = 0;
    for (const name of await this.#names()) bytes += await this.#sizeOf(name);
    return { bytes, bytesMax: this.#bytesMax };
  }

  #now(): number {
    return Date.now() + this.#clockAheadMs;
  }

  #writerHome(directory: string): WriterHome {
    return {
      directory,
      mode: this.#mode,
      leaseMs: this.#leaseMs,
      now: () => this.#now(),
      checkQuota: () => this.#checkQuota(),
    };
  }

  /** Runs `work` on the directory of an export that exists; its disappearance meanwhile is `unknown_export` too. */
  async #existing<T>(exportId: string, work: (directory: string) => Promise<T>): Promise<T> {
    if (!exportIdSchema.safeParse(exportId).success) {
      throw new StagingError("invalid_export_id", "An export id is exp_ and 26 characters.", {
        next: "Call list_exports for the ids of the exports that exist.",
      });
    }
    const directory = join(this.root, exportId);
    const stats = await lstat(directory).catch((error: unknown) => {
      if (errorCode(error) !== "ENOENT") throw error;
      return undefined;
    });
    if (stats === undefined) throw await this.#unknown(exportId);
    if (!stats.isDirectory()) {
      throw new StagingError("staging_corrupt", `${exportId} is not a directory in ${this.root}.`, {
        details: { export_id: exportId },
      });
    }
    try {
      return await work(directory);
    } catch (error) {
      if (errorCode(error) === "EACCES" || errorCode(error) === "EPERM") {
        throw this.#unshared(`${exportId} belongs to another user`, error);
      }
      if (errorCode(error) !== "ENOENT") throw asStagingError(error);
      if (!(await isDirectory(directory))) throw await this.#unknown(exportId);
      const missing = error instanceof Error && "path" in error ? basename(String(error.path)) : "a file";
      throw new StagingError("staging_corrupt", `${exportId} is incomplete: ${missing} is missing.`, {
        next: "Delete this export and make it again.",
        details: { export_id: exportId },
        cause: error,
      });
    }
  }

  async #unknown(exportId: string): Promise<StagingError> {
    const names = await readdir(this.root).catch(() => []);
    const count = names.filter((name) => exportIdSchema.safeParse(name).success).length;
    return new StagingError(
      "unknown_export",
      count === 0
        ? `There is no export ${exportId}: the staging root ${this.root} holds none at all.`
        : `There is no export ${exportId} among the ${count} in ${this.root}.`,
      {
        next:
          count === 0
            ? "Check that both servers have the same STAGING_URL and see the same volume."
            : "Call list_exports for the ids of the exports that exist; old ones are removed after their time to live.",
        details: { export_id: exportId, root: this.root, exports: count },
      },
    );
  }

  /** Does the work for every export, for some at once. */
  async #eachExport(work: (exportId: string) => Promise<void>): Promise<void> {
    const next = (await this.#names()).filter((name) => exportIdSchema.safeParse(name).success).values();
    const worker = async (): Promise<void> => {
      for (const id of next) await work(id);
    };
    await Promise.all(Array.from({ length: LIST_CONCURRENCY }, worker));
  }

  /** The manifest, or why it cannot be used; undefined where the export was removed since the root was read. */
  async #readIfUsable(exportId: string): Promise<Manifest | StagingError | undefined> {
    try {
      return await this.read(exportId);
    } catch (error) {
      if (!(error instanceof StagingError)) throw error;
      return error.code === "unknown_export" ? undefined : error;
    }
  }

  /** What tells the file of a manifest from every other that has stood in its place; undefined where there is none. */
  async #manifestFile(exportId: string): Promise<{ identity: string; isSettled: boolean } | undefined> {
    const stats = await lstat(join(this.root, exportId, "manifest.json"), { bigint: true }).catch(() => undefined);
    if (stats === undefined) return undefined;
    const { dev, ino, size, mtimeNs, ctimeNs, ctimeMs } = stats;
    return {
      identity: [dev, ino, size, mtimeNs, ctimeNs].join(),
      // A change in the same tick of the file system's clock would go unseen.
      isSettled: Number(ctimeMs) + 1000 < this.#now(),
    };
  }

  /** Everything in the root. */
  async #names(): Promise<string[]> {
    try {
      return await readdir(this.root);
    } catch (error) {
      throw this.#unshared(error instanceof Error ? error.message : String(error), error);
    }
  }

  #unshared(why: string, cause?: unknown): StagingError {
    // Not userInfo(): it fails for a uid that no passwd entry names, such as the ones that OpenShift assigns.
    const uid = process.getuid?.() ?? null;
    const gid = process.getgid?.() ?? null;
    return new StagingError(
      "staging_unshared",
      `The staging root ${this.root} cannot be used by uid ${uid}, gid ${gid} in mode ${this.#mode}: ${why}.`,
      {
        next: "Mount one volume at the staging root of both servers and run both under the same uid, or set STAGING_MODE=group.",
        details: { root: this.root, uid, gid, mode: this.#mode },
        cause,
      },
    );
  }

  async #mustBeUnused(exportId: string, directory: string): Promise<void> {
    let manifest: Manifest | undefined;
    try {
      manifest = await readManifest(join(directory, "manifest.json"), exportId);
    } catch (error) {
      // A damaged export has no writer that could be told.
      if (!(error instanceof StagingError) && errorCode(error) !== "ENOENT") throw error;
    }
    if (manifest?.status === "working" && !this.isStalled(manifest)) {
      throw new StagingError("export_in_use", `${exportId} is still being written.`, {
        retryable: true,
        next: "Cancel the export first.",
        details: { export_id: exportId, until: manifest.lease?.until },
      });
    }
    const loads = await liveReaders(directory, this.#now());
    if (loads.length > 0) {
      throw new StagingError("export_in_use", `${exportId} is being read by ${loads.join(", ")}.`, {
        retryable: true,
        next: "Wait for the load, or cancel it.",
        details: { export_id: exportId, loads },
      });
    }
  }

  async #sweepExport(exportId: string): Promise<boolean> {
    const directory = join(this.root, exportId);
    const now = this.#now();
    let agedAt: number;
    try {
      const manifest = await this.read(exportId);
      if (manifest.status === "working" && !this.isStalled(manifest)) return false;
      agedAt = Date.parse(manifest.finished_at ?? manifest.updated_at);
      if (manifest.status !== "working" && agedAt + this.#leaseMs <= now) await this.#tidy(directory, manifest);
    } catch (error) {
      if (!(error instanceof StagingError) || error.code !== "staging_corrupt") throw error;
      agedAt = (await lstat(directory)).mtimeMs;
    }
    if (await isDirectory(directory)) await removeDeadReaders(directory, now);
    if (this.#ttlMs === 0 || agedAt + this.#ttlMs > now) return false;
    await this.remove(exportId);
    return true;
  }

  /** Removes what the last writer of an ended export left, if it was killed after its last word in the manifest. */
  async #tidy(directory: string, manifest: Manifest): Promise<void> {
    // A failed export may be going to its next holder at this moment, whose directory comes first.
    if (manifest.status === "failed" && manifest.checkpoint !== null) return;
    await removeUnlistedParts(directory, manifest);
    await removeWriterRests(directory, Number.POSITIVE_INFINITY);
    await rm(join(directory, CANCEL_REQUEST), { force: true });
  }

  async #sweepRest(name: string): Promise<void> {
    const path = join(this.root, name);
    const { ctimeMs, mtimeMs } = await lstat(path);
    const now = this.#now();
    const due =
      // Another process may be looking once more whether it may throw this away.
      (name.startsWith(TRASH_PREFIX) && ctimeMs + this.#leaseMs <= now) ||
      // These live for milliseconds; what is as old as a lease belongs to a process that was killed.
      ((name.startsWith(NEW_PREFIX) || name.startsWith(PROBE_PREFIX)) && mtimeMs + this.#leaseMs <= now) ||
      (name.startsWith(STARTING_PREFIX) && mtimeMs + STARTING_AGE_MS_MAX <= now);
    // Anything else in the root is not the store's.
    if (due) await rm(path, { recursive: true, force: true });
  }

  async #checkQuota(): Promise<void> {
    if (this.#bytesMax === null) return;
    let { bytes } = await this.usage();
    if (bytes <= this.#bytesMax) return;
    await this.sweep();
    ({ bytes } = await this.usage());
    if (bytes <= this.#bytesMax) return;
    throw new StagingError("staging_full", `Staged exports take ${bytes} bytes; ${this.#bytesMax} are allowed.`, {
      retryable: true,
      next: "Delete exports that are no longer needed, or raise STAGING_BYTES_MAX.",
      details: { bytes, bytes_max: this.#bytesMax },
    });
  }

  /** Bytes of an entry of the root. Closed files are counted anew only when the directory has changed. */
  async #sizeOf(name: string): Promise<number> {
    if (!exportIdSchema.safeParse(name).success && !name.startsWith(NEW_PREFIX) && !name.startsWith(TRASH_PREFIX))
      return 0;
    const directory = join(this.root, name);
    try {
      const { mtimeMs } = await lstat(directory);
      let size = this.#sizes.get(name);
      if (size?.mtimeMs !== mtimeMs) {
        size = { mtimeMs, bytes: 0, writers: [] };
        for (const entry of await readdir(directory, { withFileTypes: true })) {
          const path = join(directory, entry.name);
          if (entry.isFile()) size.bytes += (await lstat(path)).size;
          else if (epochOfDirectory(entry.name) !== undefined) size.writers.push(path);
        }
        // A change in the same tick of the file system's clock would go unseen.
        if (mtimeMs + 1000 < this.#now()) this.#sizes.set(name, size);
      }
      let bytes = size.bytes;
      // Open parts grow without a trace in the export's own mtime.
      for (const writer of size.writers) {
        for (const file of await readdir(writer)) bytes += (await lstat(join(writer, file))).size;
      }
      return bytes;
    } catch (error) {
      // Gone meanwhile, or another user's: one directory that cannot be counted must not stop everything else.
      if (["ENOENT", "ENOTDIR", "EACCES", "EPERM"].includes(errorCode(error) ?? "")) return 0;
      throw error;
    }
  }
}

function newestFirst(a: Manifest, b: Manifest): number {
  return Date.parse(b.created_at) - Date.parse(a.created_at) || compare(a.export_id, b.export_id);
}

function compare(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0;
}
