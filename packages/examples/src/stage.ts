import { Buffer } from "node:buffer";
import { JobStopped, type Jobs, type ToolCall, waitForJob } from "@es-to-pg/mcp-kit";
import type { ExportWriter, Manifest, StagingStore } from "@es-to-pg/staging";
import { z } from "zod";

/** One document, as a line of a part: `source` is the JSON text of an object, and goes as it is. */
export interface StagedDocument {
  index: string;
  id: string;
  source: string;
}

/** A part is what one transaction of a load takes; a chunk is what is written at once. */
const PART_DOCUMENTS_MAX = 100_000;
const CHUNK_BYTES_MAX = 1024 * 1024;

/**
 * Writes documents into parts and lists each part in the manifest when it is full, so that a load may follow. Ends the
 * export whatever happens; a failure is told in the manifest and not thrown.
 */
export async function stageDocuments(
  writer: ExportWriter,
  documents: AsyncIterable<StagedDocument>,
  signal: AbortSignal,
): Promise<void> {
  const stopped = AbortSignal.any([signal, writer.signal, writer.cancelRequest]);
  try {
    await writeParts(writer, documents, stopped);
    const { totals, source } = writer.manifest;
    if (totals.documents !== source.expected) {
      throw new Error(`${totals.documents} documents came, and ${source.expected} were expected.`);
    }
    await writer.finish("completed");
  } catch (error) {
    const cancelled = writer.cancelRequest.aborted || (error instanceof JobStopped && error.reason === "cancelled");
    const message = error instanceof Error ? error.message : String(error);
    await writer
      .finish(
        cancelled ? "cancelled" : "failed",
        cancelled ? null : { code: "source_failed", message, retryable: true },
      )
      // What cannot be recorded ends by its lease.
      .catch(() => {});
  }
}

async function writeParts(
  writer: ExportWriter,
  documents: AsyncIterable<StagedDocument>,
  signal: AbortSignal,
): Promise<void> {
  let part = await writer.openPart();
  let lines: string[] = [];
  let bytes = 0;
  let number = 0;
  const flush = async (): Promise<void> => {
    await part.write(Buffer.from(lines.join("")), lines.length);
    [lines, bytes] = [[], 0];
  };
  const list = async (): Promise<void> => {
    await flush();
    const closed = await part.close();
    const { parts, totals } = writer.manifest;
    await writer.commit({
      parts: [...parts, closed],
      totals: { ...totals, documents: totals.documents + closed.documents, bytes: totals.bytes + closed.bytes },
    });
  };
  for await (const { index, id, source } of documents) {
    signal.throwIfAborted();
    // The members of a line are what elasticdump writes too; _seq_no tells which of two documents is the newer one.
    const line = `{"_index":${JSON.stringify(index)},"_id":${JSON.stringify(id)},"_seq_no":${number++},"_primary_term":1,"_source":${source}}\n`;
    lines.push(line);
    bytes += line.length;
    if (bytes >= CHUNK_BYTES_MAX) await flush();
    if (part.documents + lines.length >= PART_DOCUMENTS_MAX) {
      await list();
      part = await writer.openPart();
    }
  }
  await list();
}

/** What both examples answer of an export. */
export const staged = z.object({
  export_id: z.string(),
  status: z.enum(["working", "completed", "failed", "cancelled"]),
  documents: z.int(),
  expected: z.int(),
  error: z.string().optional(),
  next: z.string(),
});

/** Waits for an export of this process, and describes it. */
export async function describeStaged(
  store: StagingStore,
  exportId: string,
  options: { jobs: Jobs; waitSeconds: number; call: Pick<ToolCall, "signal" | "progress"> },
): Promise<z.infer<typeof staged>> {
  const { status, totals, source, error }: Manifest = await waitForJob({
    read: () => store.read(exportId),
    isDone: (manifest) => manifest.status !== "working" || store.isStalled(manifest),
    waitSeconds: options.waitSeconds,
    call: options.call,
    end: options.jobs.end(exportId),
    progress: (manifest) => ({ done: manifest.totals.documents, total: manifest.source.expected }),
  });
  return {
    export_id: exportId,
    status,
    documents: totals.documents,
    expected: source.expected,
    ...(error === null ? {} : { error: error.message }),
    next: status === "completed" ? "Call propose_mapping of pg-mcp with this export_id." : "Call this tool again.",
  };
}
