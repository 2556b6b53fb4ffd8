import { open, rm, stat, utimes } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { ToolError } from "@es-to-pg/mcp-kit";

/** A lock whose file was not touched for so long belongs to a process that is gone. */
const STALE_MS = 6_000;
const RENEW_INTERVAL_MS = 1_000;
const POLL_INTERVAL_MS = 25;
/** Longest wait for another start of the same export, in milliseconds. */
const WAIT_MS = 40_000;

/**
 * Runs `work` while no other process that shares the staging root runs it for the same request, so that the second
 * of two equal calls finds the export of the first.
 */
export async function withStartLock<T>(
  root: string,
  requestDigest: string,
  signal: AbortSignal,
  work: () => Promise<T>,
): Promise<T> {
  const path = join(root, `.starting-${requestDigest.slice(0, 32)}`);
  await acquire(path, signal);
  const renewing = setInterval(() => {
    const now = new Date();
    utimes(path, now, now).catch(() => {});
  }, RENEW_INTERVAL_MS);
  try {
    return await work();
  } finally {
    clearInterval(renewing);
    await rm(path, { force: true });
  }
}

async function acquire(path: string, signal: AbortSignal): Promise<void> {
  for (const deadline = performance.now() + WAIT_MS; ; ) {
    signal.throwIfAborted();
    try {
      await (await open(path, "wx", 0o600)).close();
      return;
    } catch (error) {
      if (!isCode(error, "EEXIST")) throw error;
    }
    const age = await stat(path).then(
      ({ mtimeMs }) => Date.now() - mtimeMs,
      () => 0,
    );
    if (age > STALE_MS) await rm(path, { force: true });
    else if (performance.now() > deadline) {
      throw new ToolError("export_starting", "Another call is starting the same export.", {
        retryable: true,
        next: "Call again in some seconds.",
      });
    } else await delay(POLL_INTERVAL_MS, undefined, { signal });
  }
}

function isCode(error: unknown, code: string): boolean {
  return error instanceof Error && "code" in error && error.code === code;
}
