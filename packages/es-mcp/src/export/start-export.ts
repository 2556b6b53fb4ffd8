import { clip, type Jobs, jobEnded, type Logger, ToolError } from "@es-to-pg/mcp-kit";
import { type ExportWriter, type Manifest, StagingError, type StagingStore } from "@es-to-pg/staging";
import type { Elasticsearch, LeftOut, ResolvedIndex } from "../elasticsearch/elasticsearch.ts";
import { guardBody } from "../elasticsearch/guard.ts";
import { snapshotLost } from "./pages.ts";
import { type ExportRequest, requestDigest } from "./request.ts";
import { runExport } from "./run-export.ts";
import { refuseUnknownFields, selectedMapping } from "./selected-fields.ts";
import { closePoints, openSnapshot, type Snapshot, touchPoints } from "./snapshot.ts";
import { withStartLock } from "./start-lock.ts";
import { isCut } from "./state.ts";
import { tellExport } from "./telemetry.ts";

/** For how long after its end the same call is answered with the export that is there, in milliseconds. */
const REUSE_MS = 120_000;

/** What an export works with; the part of a tool's context that it needs. */
export interface ExportContext {
  elasticsearch: Elasticsearch;
  store: StagingStore;
  jobs: Jobs;
  logger: Logger;
  /** Slices that an export reads at the same time. */
  slicesAtOnce: number;
  /** Documents of a part, where a test wants many parts of few. */
  partDocumentsMax?: number;
  /** Pauses between attempts, where a test does not want to wait for them. */
  retryDelaysMs?: readonly number[];
  /** Age at which the lock of a killed start is passed over, where a test does not want to wait for it. */
  startLockStaleMs?: number;
}

export interface StartedExport {
  exportId: string;
  /** The export was there already: it works, or it ended moments ago. */
  reused: boolean;
  /** The export had stopped half-way and goes on. */
  resumed: boolean;
}

/**
 * Starts an export, or finds or resumes the one that the same request has made.
 *
 * 1. The start of this request is locked, and what the same request has made is looked for.
 * 2. The points in time are opened, for a minute at first: a process killed here leaves them for no longer.
 * 3. The export is stored with its points. From here on any process can go on with it.
 * 4. Pages of several slices are asked for at once; the documents of one are scanned, profiled and written to the open
 *    part while Elasticsearch makes the others ready.
 * 5. The part is full: it is closed, made durable and renamed, while the next one is filled.
 * 6. The manifest lists the part, with totals, profile and the place in each slice after its last document, in one step.
 * 7. Everything is read: the count is compared with the snapshot's exact total, and the last part listed.
 * 8. The points in time are closed.
 * 9. The manifest says that the export is completed, and holds no position any more.
 * 10. The writer's own directory is removed.
 *
 * Killed anywhere, the same call goes on: before 3 anew, up to 8 from the parts of step 6, after that with the rest.
 * The kill tests use these numbers.
 */
export async function startExport(
  context: ExportContext,
  request: ExportRequest,
  options: { fresh: boolean; signal: AbortSignal },
): Promise<StartedExport> {
  guardBody(request.query);
  const { elasticsearch, store } = context;
  const { fresh, signal } = options;
  const clusterUuid = await elasticsearch.clusterUuid({ signal });
  const digest = requestDigest(request, clusterUuid);
  await store.sweep();
  const create = (mustHold: () => Promise<void>) =>
    createExport(context, request, { clusterUuid, digest, signal, mustHold });
  if (fresh) return await create(async () => {});
  const { startLockStaleMs: staleMs } = context;
  return await withStartLock(
    { root: store.root, requestDigest: digest, signal, ...(staleMs === undefined ? {} : { staleMs }) },
    async (mustHold) => (await findExport(context, request, { digest, signal })) ?? (await create(mustHold)),
  );
}

async function createExport(
  context: ExportContext,
  request: ExportRequest,
  options: { clusterUuid: string; digest: string; signal: AbortSignal; mustHold: () => Promise<void> },
): Promise<StartedExport> {
  const { elasticsearch, store } = context;
  const { clusterUuid, digest, signal, mustHold } = options;
  const { indices, leftOut } = await elasticsearch.resolve(request.index, {
    includeHidden: request.includeHidden,
    signal,
  });
  refuseDisabledSource(indices);
  const mapping = await elasticsearch.mapping(
    indices.map(({ name }) => name),
    { signal },
  );
  if (request.fields !== undefined) refuseUnknownFields(request.fields, mapping);
  const earlier = request.since === undefined ? undefined : await readSince(store, request.since, request, clusterUuid);
  const since = earlier?.watermark;
  const query = request.query ?? { match_all: {} };
  const watermarks = (await store.list()).exports.map(({ source, watermark }) => ({
    pitTimeMs: Date.parse(source.pit_time),
    watermark,
  }));
  const snapshot: Snapshot = await openSnapshot({
    elasticsearch,
    indices,
    query,
    since,
    earlier: watermarks,
    signal,
  });
  let writer: ExportWriter;
  try {
    const total = snapshot.documents.reduce((sum, documents) => sum + documents, 0);
    await mustHold();
    writer = await store.create({
      request_digest: digest,
      source: {
        cluster_uuid: clusterUuid,
        indices: indices.map(({ name, uuid, shards, sourceMode }, position) => ({
          name,
          uuid,
          shards,
          source_mode: sourceMode === "disabled" ? "stored" : sourceMode,
          documents: snapshot.documents[position] ?? 0,
        })),
        query: request.query ?? null,
        fields: request.fields ?? null,
        max_documents: request.maxDocuments ?? null,
        since: request.since ?? null,
        method: snapshot.method,
        pit_time: snapshot.pitTime,
        expected: Math.min(total, request.maxDocuments ?? total),
      },
      mapping: request.fields === undefined ? mapping : selectedMapping(request.fields, mapping),
      watermark: snapshot.watermark,
      checkpoint: { points: snapshot.points, point: 0, reading: [], next_slice: 0 },
      warnings: [...snapshot.warnings, ...warningsOf(indices, leftOut, earlier)],
    });
  } catch (error) {
    await closePoints(elasticsearch, snapshot.points);
    throw error;
  }
  run(context, writer);
  return { exportId: writer.manifest.export_id, reused: false, resumed: false };
}

/** The export that the same request has made, if it still stands for it; a stalled one goes on. */
async function findExport(
  context: ExportContext,
  request: ExportRequest,
  { digest, signal }: { digest: string; signal: AbortSignal },
): Promise<StartedExport | undefined> {
  const { store } = context;
  const { exports } = await store.list();
  for (const manifest of exports.filter(({ request_digest }) => request_digest === digest)) {
    const exportId = manifest.export_id;
    if (isResumable(store, manifest)) {
      if (await resumeExport(context, manifest, signal)) {
        return { exportId, reused: false, resumed: true };
      }
    } else if (manifest.status === "working") {
      // One that is about to end as cancelled is not what the caller asks for.
      if (!(await store.isCancelRequested(exportId))) return { exportId, reused: true, resumed: false };
    } else if (manifest.status === "completed" && ageMs(manifest) < REUSE_MS) {
      if (await isOfPresentIndices(context, request, manifest, signal))
        return { exportId, reused: true, resumed: false };
    }
  }
  return undefined;
}

/** Whether the names still mean the indices of the export: one can have been made anew or have joined a pattern. */
async function isOfPresentIndices(
  { elasticsearch }: ExportContext,
  { index, includeHidden }: ExportRequest,
  { source }: Manifest,
  signal: AbortSignal,
): Promise<boolean> {
  const { indices } = await elasticsearch.resolve(index, { includeHidden, signal });
  const uuids = new Set(source.indices.map(({ uuid }) => uuid));
  return indices.length === uuids.size && indices.every(({ uuid }) => uuids.has(uuid));
}

/** Takes up every export that its process left half-way. For a server that lives long; one on a pipe may end at once. */
export async function resumeStalled(context: ExportContext, signal: AbortSignal): Promise<void> {
  const { store, logger } = context;
  const { working } = await store.survey();
  // What another source left is that source's.
  const stalled = working.filter((candidate) => store.isStalled(candidate) && candidate.source.method !== "other");
  for (const manifest of stalled) {
    await resumeExport(context, manifest, signal).catch((error: unknown) =>
      logger.warn("export_not_resumed", { exportId: manifest.export_id, error }),
    );
  }
}

/** Whether an export stopped half-way with nobody at work on it. */
function isResumable(store: StagingStore, manifest: Manifest): boolean {
  return store.isStalled(manifest) || (manifest.status === "failed" && manifest.checkpoint !== null);
}

/**
 * Takes over an export that stopped half-way and goes on from its checkpoint. False where that cannot be: its snapshot
 * is gone, which is recorded.
 */
async function resumeExport(context: ExportContext, manifest: Manifest, signal: AbortSignal): Promise<boolean> {
  const { elasticsearch, store, logger } = context;
  const exportId = manifest.export_id;
  let writer: ExportWriter;
  try {
    writer = await store.takeOver(exportId);
  } catch (error) {
    // Another process was faster: the export works, which is all the caller wants.
    if (error instanceof StagingError && error.code === "lease_held") return true;
    throw error;
  }
  try {
    const { checkpoint, source, totals } = writer.manifest;
    if (await store.isCancelRequested(exportId)) {
      await closePoints(elasticsearch, checkpoint?.points ?? []);
      await writer.finish("cancelled", null, { checkpoint: null });
      jobEnded("export", "cancelled");
      return false;
    }
    if (checkpoint === null) throw snapshotLost(undefined);
    // With all documents staged the snapshot may be closed already: its last process was killed between steps 7 and 9.
    if (totals.documents < source.expected) {
      // A scroll has moved on by what its last process read.
      if (source.method === "scroll") throw snapshotLost(undefined);
      await touchPoints(elasticsearch, checkpoint.points.slice(checkpoint.point), signal);
    }
    run(context, writer);
    logger.info("export_resumed", { exportId });
    return true;
  } catch (error) {
    const lost =
      error instanceof ToolError &&
      ["snapshot_lost", "search_context_missing", "index_not_found", "index_closed"].includes(error.code);
    if (!lost) {
      await writer.release().catch(() => {});
      throw error;
    }
    await closePoints(elasticsearch, writer.manifest.checkpoint?.points ?? []);
    const { totals, source } = writer.manifest;
    const message = `Elasticsearch no longer has the snapshot of this export. ${totals.documents} of ${source.expected} documents are staged.`;
    await tellExport(exportId, async () => {
      await writer.finish("failed", { code: "snapshot_lost", message, retryable: false }, { checkpoint: null });
      return { outcome: "failed", code: "snapshot_lost" };
    });
    logger.warn("export_failed", { exportId, code: "snapshot_lost", message });
    return false;
  }
}

function run(context: ExportContext, writer: ExportWriter): void {
  const { elasticsearch, jobs, logger, slicesAtOnce, partDocumentsMax, retryDelaysMs } = context;
  jobs.start(writer.manifest.export_id, (signal) =>
    runExport({
      writer,
      elasticsearch,
      logger,
      signal,
      slicesAtOnce,
      ...(partDocumentsMax === undefined ? {} : { partDocumentsMax }),
      ...(retryDelaysMs === undefined ? {} : { retryDelaysMs }),
    }),
  );
}

function ageMs({ finished_at }: Manifest): number {
  return finished_at === null ? 0 : Date.now() - Date.parse(finished_at);
}

function refuseDisabledSource(indices: readonly ResolvedIndex[]): void {
  const disabled = indices.filter(({ sourceMode }) => sourceMode === "disabled").map(({ name }) => name);
  if (disabled.length === 0) return;
  throw new ToolError(
    "source_disabled",
    "The index does not keep its documents (`_source` is disabled), so there is nothing to export.",
    {
      next: "Leave this index out, or read single fields with search_documents and docvalue fields.",
      details: { indices: disabled.slice(0, 20) },
    },
  );
}

/** The earlier export, if what has changed since then makes it whole again. */
async function readSince(
  store: StagingStore,
  exportId: string,
  request: ExportRequest,
  clusterUuid: string,
): Promise<Manifest> {
  const earlier = await store.read(exportId);
  const refuse = (message: string): ToolError =>
    new ToolError("since_unusable", message, {
      next: "Export without since: a full export.",
      details: { since: exportId },
    });
  if (earlier.status !== "completed") throw refuse("The earlier export is not complete, so nothing can go on from it.");
  if (isCut(earlier)) throw refuse("The earlier export was cut by max_documents.");
  if (earlier.watermark.length === 0) throw refuse("The earlier export has no watermark.");
  const { since, max_documents: maxDocuments } = earlier.source;
  const repeated = { ...request, since: since ?? undefined, maxDocuments: maxDocuments ?? undefined };
  if (requestDigest(repeated, clusterUuid) !== earlier.request_digest) {
    // What it did not select then would be in neither export unless it has changed.
    throw new ToolError("since_unusable", "The earlier export selected other documents.", {
      next: "Give the index, query, fields and include_hidden of the earlier export, or export without since.",
      details: {
        since: exportId,
        earlier: {
          indices: earlier.source.indices.slice(0, 5).map(({ name }) => name),
          query: earlier.source.query === null ? null : clip(JSON.stringify(earlier.source.query), 300),
          fields: earlier.source.fields?.slice(0, 10).map((field) => clip(field, 100)) ?? null,
        },
      },
    });
  }
  return earlier;
}

function warningsOf(
  indices: readonly ResolvedIndex[],
  leftOut: readonly LeftOut[],
  earlier: Manifest | undefined,
): string[] {
  const warnings: string[] = [];
  const synthetic = indices.filter(({ sourceMode }) => sourceMode === "synthetic");
  if (synthetic.length > 0) {
    warnings.push(
      `Synthetic _source in ${namesOf(synthetic)}: documents are rebuilt, so order, duplicates and number texts may differ from what was sent.`,
    );
  }
  const filtered = indices.filter(({ sourceMode }) => sourceMode === "filtered");
  if (filtered.length > 0) {
    warnings.push(
      `_source of ${namesOf(filtered)} is kept with includes or excludes: other fields are not in the documents.`,
    );
  }
  if (leftOut.length > 0)
    warnings.push(`Left out: ${namesOf(leftOut)} (${[...new Set(leftOut.map(({ why }) => why))].join(", ")}).`);
  if (earlier !== undefined) {
    warnings.push("Documents deleted since the earlier export are not in it.");
    const gone = earlier.source.indices.filter(({ uuid }) => !indices.some((index) => index.uuid === uuid));
    if (gone.length > 0) warnings.push(`Gone since the earlier export, with all their documents: ${namesOf(gone)}.`);
  }
  return warnings;
}

function namesOf(found: readonly { name: string }[]): string {
  const shown = found.slice(0, 5).map(({ name }) => JSON.stringify(name));
  return found.length > 5 ? `${shown.join(", ")} and ${found.length - 5} more` : shown.join(", ");
}
