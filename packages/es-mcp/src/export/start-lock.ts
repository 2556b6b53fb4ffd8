import { randomBytes } from "node:crypto";
import { type FileHandle, open, readdir, rm, stat, utimes } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { ToolError } from "@es-to-pg/mcp-kit";
import { StagingError } from "@es-to-pg/staging";

/** A lock whose file was not touched for so long belongs to a process that is gone. */
const STALE_MS = 6_000;
/** Renewed so often within that time. */
const RENEWALS = 6;
/** Pause before the next look while somebody else starts the same export, in milliseconds, at random up to its double. */
const POLL_INTERVAL_MS = 25;
/** Longest wait for another start of the same export, in milliseconds. */
const WAIT_MS = 40_000;

/**
 * Runs `work` while no other process that shares the staging root runs it for the same request, so that the second
 * of two equal calls finds the export of the first. The lock is a file of one's own:
 *
 * 1. Make it, under a name that nobody else has.
 * 2. Look for others of the same request. Is one fresh, take back one's own and try again later: of two that look,
 *    the second sees the first, whatever the order.
 * 3. Remove those that are stale. Names are never used twice, so nobody removes a lock that was taken meanwhile.
 *
 * A process that slept for longer than a lock holds finds its file gone: `work` asks `mustHold` before it creates.
 */
export async function withStartLock<T>(
  options: { root: string; requestDigest: string; signal: AbortSignal; staleMs?: number },
  work: (mustHold: () => Promise<void>) => Promise<T>,
): Promise<T> {
  const { root, requestDigest, signal, staleMs = STALE_MS } = options;
  const prefix = `.starting-${requestDigest.slice(0, 32)}-`;
  const path = await acquire({ root, prefix, signal, staleMs });
  const touch = async (): Promise<void> => {
    const now = new Date();
    await utimes(path, now, now);
  };
  const renewing = setInterval(() => void touch().catch(() => {}), staleMs / RENEWALS);
  try {
    return await work(async () => {
      await touch().catch((error: unknown) => {
        throw isCode(error, "ENOENT") ? starting() : unusable(root, error);
      });
    });
  } finally {
    clearInterval(renewing);
    await rm(path, { force: true });
  }
}

async function acquire(options: {
  root: string;
  prefix: string;
  signal: AbortSignal;
  staleMs: number;
}): Promise<string> {
  const { root, prefix, signal, staleMs } = options;
  for (const deadline = performance.now() + WAIT_MS; ; ) {
    signal.throwIfAborted();
    const own = `${prefix}${randomBytes(8).toString("hex")}`;
    const path = join(root, own);
    let handle: FileHandle;
    try {
      handle = await open(path, "wx", 0o600);
    } catch (error) {
      throw unusable(root, error);
    }
    // By the clock of the file system, which all who share it have in common.
    const { mtimeMs: now } = await handle.stat();
    await handle.close();
    const stale: string[] = [];
    let taken = false;
    for (const name of await readdir(root)) {
      if (!name.startsWith(prefix) || name === own) continue;
      const touchedMs = await stat(join(root, name)).then(
        ({ mtimeMs }) => mtimeMs,
        () => undefined,
      );
      if (touchedMs === undefined) continue;
      if (now - touchedMs > staleMs) stale.push(name);
      else taken = true;
    }
    if (!taken) {
      for (const name of stale) await rm(join(root, name), { force: true });
      return path;
    }
    await rm(path, { force: true });
    if (performance.now() > deadline) throw starting();
    await delay(POLL_INTERVAL_MS * (1 + Math.random()), undefined, { signal });
  }
}

function starting(): ToolError {
  return new ToolError("export_starting", "Another call is starting the same export.", {
    retryable: true,
    next: "Call again in some seconds.",
  });
}

function unusable(root: string, cause: unknown): StagingError {
  const why = cause instanceof Error ? cause.message : String(cause);
  return new StagingError("staging_unshared", `The staging root ${root} cannot be written: ${why}.`, {
    retryable: true,
    next: "Make the staging volume writable for this server.",
    cause,
  });
}

function isCode(error: unknown, code: string): boolean {
  return error instanceof Error && "code" in error && error.code === code;
}
