import { lstat, readdir, rename, rm } from "node:fs/promises";
import { join } from "node:path";
import { errorCode, randomWord, type StagingMode, writeAtomically } from "./files.ts";
import type { Manifest } from "./manifest.ts";
import { readManifest, serialiseManifest } from "./manifest-file.ts";
import { StagingError } from "./staging-error.ts";
import { epochOfDirectory, FENCED_PREFIX, makeWriterDirectory, timestamp, writerDirectoryName } from "./writer.ts";

/** A process that wants to go on with an export. */
export interface Claimant {
  readonly directory: string;
  readonly exportId: string;
  readonly owner: string;
  readonly mode: StagingMode;
  readonly leaseMs: number;
  /** Milliseconds of the store's clock. */
  now(): number;
}

/** Whether a working export has nobody who works on it. */
export function isStalled(manifest: Manifest, now: number): boolean {
  if (manifest.status !== "working") return false;
  return manifest.lease === null || Date.parse(manifest.lease.until) <= now;
}

/**
 * Gives a resumable export to this process, or throws `lease_held`:
 * 1. Claim the next epoch: `mkdir writer-<epoch>`, which one process wins. A claim younger than a lease is respected.
 * 2. Look again: a higher claim wins; every lower holder is fenced off by moving its directory away and removing it.
 *    From here on nothing of theirs can be published.
 * 3. Read the manifest again, which is now final, and write it with the new epoch and lease.
 * A process killed after 1 or 2 leaves a claim that runs out; after 3, a lease that runs out. Parts are the new holder's business.
 */
export async function claimExport(claimant: Claimant): Promise<Manifest> {
  const { directory, exportId, mode, leaseMs } = claimant;
  const path = join(directory, "manifest.json");
  const held = (cause?: unknown) =>
    new StagingError("lease_held", `Another process is taking ${exportId} over.`, {
      retryable: true,
      details: { export_id: exportId },
      cause,
    });
  const before = await readManifest(path, exportId);
  mustBeResumable(before, claimant.now());
  let epoch = before.lease?.epoch ?? 0;
  for (const claim of await epochs(directory)) {
    if (claim > (before.lease?.epoch ?? 0)) {
      const { mtimeMs } = await lstat(join(directory, writerDirectoryName(claim))).catch((error: unknown) => {
        // Given back since the directory was read.
        throw errorCode(error) === "ENOENT" ? held(error) : error;
      });
      if (mtimeMs + leaseMs > claimant.now()) throw held();
    }
    epoch = Math.max(epoch, claim);
  }
  epoch += 1;
  await makeWriterDirectory(directory, epoch, mode).catch((error: unknown) => {
    throw errorCode(error) === "EEXIST" ? held(error) : error;
  });
  try {
    const claims = await epochs(directory);
    // This process was slow and claimed a number that a faster one had given back.
    if (claims.some((claim) => claim > epoch)) throw held();
    for (const claim of claims) if (claim < epoch) await fence(directory, claim);
    const final = await readManifest(path, exportId);
    // A lease renewed a moment ago does not count: its holder is fenced off already.
    if (final.status !== "working") mustBeResumable(final, claimant.now());
    if ((final.lease?.epoch ?? 0) >= epoch) throw held();
    const now = claimant.now();
    const manifest: Manifest = {
      ...final,
      status: "working",
      finished_at: null,
      error: null,
      updated_at: timestamp(now),
      lease: { owner: claimant.owner, epoch, until: timestamp(now + leaseMs) },
    };
    await writeAtomically({
      target: path,
      directory,
      beside: join(directory, writerDirectoryName(epoch)),
      bytes: serialiseManifest(manifest),
      mode: mode,
    }).catch((error: unknown) => {
      throw errorCode(error) === "ENOENT" ? held(error) : error;
    });
    return manifest;
  } catch (error) {
    await rm(join(directory, writerDirectoryName(epoch)), { recursive: true, force: true });
    throw error;
  }
}

function mustBeResumable(manifest: Manifest, now: number): void {
  const { status, checkpoint } = manifest;
  if (status === "failed" && checkpoint !== null) return;
  if (status !== "working") {
    throw new StagingError("lease_held", `${manifest.export_id} is ${status}; there is nothing to go on with.`, {
      details: { export_id: manifest.export_id, status },
    });
  }
  if (!isStalled(manifest, now)) {
    throw new StagingError("lease_held", `${manifest.export_id} is being written by another process.`, {
      retryable: true,
      details: { export_id: manifest.export_id, until: manifest.lease?.until },
    });
  }
}

/** Moves the directory of an epoch away, so that no path leads to it, and removes it, so that no handle does either. */
async function fence(directory: string, epoch: number): Promise<void> {
  const away = join(directory, `${FENCED_PREFIX}${epoch}-${randomWord()}`);
  try {
    await rename(join(directory, writerDirectoryName(epoch)), away);
  } catch (error) {
    if (errorCode(error) === "ENOENT") return;
    throw error;
  }
  // Retries: a file that the fenced writer was just creating may come after the first look.
  await rm(away, { recursive: true, force: true, maxRetries: 3 });
}

/** The epochs that have a directory in the export. */
async function epochs(directory: string): Promise<number[]> {
  return (await readdir(directory)).map(epochOfDirectory).filter((epoch) => epoch !== undefined);
}
