import {
  breaches,
  counter,
  type Instrument,
  instrumentsOfJobs,
  jobEnded,
  type Operation,
  traced,
} from "@es-to-pg/mcp-kit";

/** Documents and bytes of parts that are durable and listed; what is read twice after a crash counts once. */
const exportedDocuments = counter({
  name: "etl.export.documents",
  unit: "{document}",
  description: "Documents in parts that were staged",
  attributes: [],
  zeros: [{}],
});
const exportedBytes = counter({
  name: "etl.export.size",
  unit: "By",
  description: "Bytes of parts that were staged",
  attributes: [],
  zeros: [{}],
});

/** What exports are measured by. */
export const instruments: readonly Instrument[] = [exportedDocuments, exportedBytes, ...instrumentsOfJobs(["export"])];

/** A part that is being written. Several promises make up its life, so it says itself when that is over. */
export interface PartTold {
  listed(written: { documents: number; bytes: number }): void;
  failed(error: unknown): void;
}

/** Tells of a part from here on. */
export function tellPart(exportId: string, part: number): PartTold {
  const { promise, resolve, reject } = Promise.withResolvers<void>();
  const operation: Operation = { name: "export part", attributes: { "etl.export.id": exportId, "etl.part": part } };
  traced(operation, () => promise).catch(() => {});
  return {
    listed({ documents, bytes }) {
      operation.attributes["etl.documents"] = documents;
      operation.attributes["etl.bytes"] = bytes;
      exportedDocuments.add(documents);
      exportedBytes.add(bytes);
      resolve();
    },
    failed: reject,
  };
}

/** Failures that mean that documents got lost, or that what was staged is not what is there. */
const BREACHES = new Set(["documents_missing", "staging_corrupt"]);

/** How an export ended in this process; `code` says why it failed. */
export type ExportEnd = { outcome: "completed" | "cancelled" | "released" } | { outcome: "failed"; code: string };

/** Runs an export as one operation, and tells how it ended. */
export async function tellExport(exportId: string, run: () => Promise<ExportEnd>): Promise<void> {
  await traced({ name: "export", attributes: { "etl.export.id": exportId } }, async (operation) => {
    const end = await run();
    operation.attributes["etl.outcome"] = end.outcome;
    jobEnded("export", end.outcome);
    if (end.outcome !== "failed") return;
    operation.failure = end.code;
    if (BREACHES.has(end.code)) breaches.add(1, { kind: "export" });
  });
}
