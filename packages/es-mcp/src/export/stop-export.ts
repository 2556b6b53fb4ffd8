import { ToolError } from "@es-to-pg/mcp-kit";
import { closePoints } from "./snapshot.ts";
import type { ExportContext } from "./start-export.ts";

/** Ends a working export as cancelled. One that has ended already is left as it is. */
export async function cancelExport(context: ExportContext, exportId: string): Promise<void> {
  const { elasticsearch, store, jobs } = context;
  if (await jobs.cancel(exportId)) return;
  const manifest = await store.read(exportId);
  if (manifest.status !== "working") return;
  if (!store.isStalled(manifest)) {
    throw new ToolError("export_elsewhere", "Another server process works on this export.", {
      retryable: true,
      next: "Cancel it where it was started, or call again when that process has ended.",
      details: { export_id: exportId },
    });
  }
  const writer = await store.takeOver(exportId);
  await closePoints(elasticsearch, writer.manifest.checkpoint?.points ?? []);
  await writer.commit({ checkpoint: null });
  await writer.finish("cancelled");
}

/** Removes an export that nobody works on or reads, and answers the bytes that it took. */
export async function deleteExport({ elasticsearch, store }: ExportContext, exportId: string): Promise<number> {
  const { totals, checkpoint } = await store.read(exportId);
  await store.remove(exportId);
  await closePoints(elasticsearch, checkpoint?.points ?? []);
  return totals.bytes;
}
