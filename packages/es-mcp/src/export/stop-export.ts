import { setTimeout as delay } from "node:timers/promises";
import { jobEnded, ToolError } from "@es-to-pg/mcp-kit";
import { type ExportWriter, StagingError } from "@es-to-pg/staging";
import { closePoints } from "./snapshot.ts";
import type { ExportContext } from "./start-export.ts";

/** What ends an export, or removes it. */
type StopContext = Pick<ExportContext, "elasticsearch" | "store" | "jobs">;

/** Time for another process to see that it is asked to stop, and to end its export, in milliseconds. */
const CANCEL_WAIT_MS = 8_000;
const POLL_INTERVAL_MS = 100;

/**
 * Ends a working export as cancelled, in whatever process it works. One that has ended already is left as it is. The
 * request stays in the store until then, so a process that is killed before it sees it leaves nothing that goes on.
 */
export async function cancelExport(context: StopContext, exportId: string): Promise<void> {
  const { store, jobs } = context;
  if (await jobs.cancel(exportId)) return;
  for (const deadline = performance.now() + CANCEL_WAIT_MS; ; await delay(POLL_INTERVAL_MS)) {
    const manifest = await store.read(exportId);
    if (manifest.status !== "working") return;
    if (store.isStalled(manifest) && (await cancelStalled(context, exportId))) return;
    await store.requestCancel(exportId);
    if (performance.now() > deadline) break;
  }
  throw new ToolError("export_elsewhere", "Another server process works on this export and has been asked to stop.", {
    retryable: true,
    next: "Look with get_export whether it has stopped; if that process is gone, call again in half a minute.",
    details: { export_id: exportId },
  });
}

/** False if another process has just taken the export up. */
async function cancelStalled({ elasticsearch, store }: StopContext, exportId: string): Promise<boolean> {
  let writer: ExportWriter;
  try {
    writer = await store.takeOver(exportId);
  } catch (error) {
    if (error instanceof StagingError && error.code === "lease_held") return false;
    throw error;
  }
  try {
    await closePoints(elasticsearch, writer.manifest.checkpoint?.points ?? []);
    await writer.finish("cancelled", null, { checkpoint: null });
    jobEnded("export", "cancelled");
    return true;
  } catch (error) {
    await writer.release().catch(() => {});
    throw error;
  }
}

/** Removes an export that nobody works on or reads, and answers the bytes that it took: none are known of a damaged one. */
export async function deleteExport({ elasticsearch, store }: StopContext, exportId: string): Promise<number> {
  const manifest = await store.read(exportId).catch((error: unknown) => {
    if (error instanceof StagingError && error.code === "staging_corrupt") return undefined;
    throw error;
  });
  await store.remove(exportId);
  await closePoints(elasticsearch, manifest?.checkpoint?.points ?? []);
  return manifest?.totals.bytes ?? 0;
}
