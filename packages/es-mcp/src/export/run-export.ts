import { JobStopped, type Logger, ToolError } from "@es-to-pg/mcp-kit";
import { type ExportWriter, StagingError } from "@es-to-pg/staging";
import type { Elasticsearch } from "../elasticsearch/elasticsearch.ts";
import { ResponseBuffer } from "../elasticsearch/response-buffer.ts";
import { LineWriter } from "./line-writer.ts";
import { PageSize } from "./page-size.ts";
import { type PageQuery, PageReader, type RawPage, ScrollReader } from "./pages.ts";
import { PartSink } from "./part-sink.ts";
import { PROFILE_PATHS_MAX, Profile } from "./profile.ts";
import { FieldSelection } from "./rewrite.ts";
import { DocumentScanner, type Hit, PageScanner, ScanError, type ScannedPage } from "./scan.ts";
import { type SlicePlace, SliceQueue } from "./slice-queue.ts";
import { closePoints, type Point, pointQuery, touchPoints } from "./snapshot.ts";
import { type ExportEnd, tellExport } from "./telemetry.ts";
import { VectorRequest } from "./vectors.ts";

/** A part closes at either of these: it is what one transaction of a load takes. */
const PART_DOCUMENTS_MAX = 100_000;
const PART_BYTES_MAX = 256 * 1024 * 1024;

/** How often the points that wait for their turn are kept alive, well within their keep-alive of 10 minutes. */
const TOUCH_INTERVAL_MS = 120_000;

/** One of the slices that are read at the same time, in memory of its own. */
interface Lane {
  readonly memory: ResponseBuffer;
  size: PageSize;
  place: SlicePlace | undefined;
  /** The page on its way. */
  page: Promise<{ lane: Lane; page: RawPage }> | undefined;
  /** Most documents that the page on its way can have. */
  asked: number;
  /** The next document has to be asked for alone. */
  single: boolean;
}

export interface RunExportOptions {
  writer: ExportWriter;
  elasticsearch: Elasticsearch;
  logger: Logger;
  signal: AbortSignal;
  /** Slices that are read at the same time. */
  slicesAtOnce: number;
  retryDelaysMs?: readonly number[];
  partDocumentsMax?: number;
}

/** Reads what is left of a snapshot into parts and records how it ended: steps 4 to 10 of an export (`startExport`). */
export async function runExport(options: RunExportOptions): Promise<void> {
  await tellExport(options.writer.manifest.export_id, () => runToItsEnd(options));
}

async function runToItsEnd(options: RunExportOptions): Promise<ExportEnd> {
  const run = new ExportRun(options);
  try {
    await run.read();
    await run.complete();
    return { outcome: "completed" };
  } catch (error) {
    try {
      return await run.end(error);
    } catch (unrecorded) {
      // As on a disk that is full to its last byte. The lease must not live on, so that the same call can go on later.
      const { export_id: exportId } = options.writer.manifest;
      const { code } = failureOf(error);
      options.logger.warn("export_end_not_recorded", { exportId, code, error: unrecorded });
      await options.writer.release().catch(() => {});
      return { outcome: "failed", code };
    }
  }
}

class ExportRun {
  readonly #options: RunExportOptions;
  readonly #writer: ExportWriter;
  readonly #signal: AbortSignal;
  readonly #points: Point[];
  #expected: number;
  readonly #selection: FieldSelection | undefined;
  readonly #lines: LineWriter;
  readonly #scanner = new PageScanner();
  readonly #cutScanner = new DocumentScanner();
  readonly #lanes: readonly Lane[];
  readonly #profile: Profile;
  readonly #warnings: string[];
  readonly #vectors: VectorRequest;
  /** Position of the current point. */
  #point: number;
  #slices: SliceQueue;
  /** Documents of the current point that were read before. */
  #pointDocuments: number;
  #documents: number;
  #bytes: number;
  readonly #parts: PartSink;
  /** False while part, totals, profile and places are not of the same documents: then nothing may be checkpointed. */
  #consistent = true;
  #touchedAt = 0;

  constructor(options: RunExportOptions) {
    const { manifest } = options.writer;
    const { checkpoint } = manifest;
    if (checkpoint === null) throw new Error("an export that runs has a checkpoint");
    this.#options = options;
    this.#writer = options.writer;
    this.#parts = new PartSink(options.writer);
    this.#signal = AbortSignal.any([options.signal, options.writer.signal, options.writer.cancelRequest]);
    this.#points = checkpoint.points.map((point) => ({ ...point }));
    this.#point = checkpoint.point;
    this.#slices = new SliceQueue({ reading: checkpoint.reading, nextSlice: checkpoint.next_slice });
    this.#lanes = Array.from({ length: options.slicesAtOnce }, () => ({
      memory: new ResponseBuffer(),
      size: new PageSize(1),
      place: undefined,
      page: undefined,
      asked: 0,
      single: false,
    }));
    this.#expected = manifest.source.expected;
    this.#selection = manifest.source.fields === null ? undefined : new FieldSelection(manifest.source.fields);
    this.#lines = new LineWriter(this.#selection);
    this.#lines.compacted = manifest.totals.compacted;
    this.#lines.invalidUtf8 = manifest.totals.invalid_utf8;
    this.#documents = manifest.totals.documents;
    this.#bytes = manifest.totals.bytes;
    this.#profile = new Profile(manifest.profile, manifest.totals.documents);
    this.#warnings = [...manifest.warnings];
    this.#vectors = new VectorRequest(manifest.mapping);
    const before = this.#points.slice(0, checkpoint.point).reduce((sum, point) => sum + point.documents, 0);
    this.#pointDocuments = manifest.totals.documents - before;
  }

  async read(): Promise<void> {
    await this.#verify();
    while (this.#point < this.#points.length && this.#documents < this.#expected) {
      this.#signal.throwIfAborted();
      if (this.#writer.manifest.source.method === "scroll") await this.#readScroll();
      else await this.#readPoint();
      if (this.#documents >= this.#expected) break;
      this.#point++;
      this.#slices = new SliceQueue();
      this.#pointDocuments = 0;
    }
  }

  /** What an earlier process has staged is read once more before anything is added to it. */
  async #verify(): Promise<void> {
    for (const part of this.#writer.manifest.parts) {
      await this.#touch(this.#point);
      await this.#writer.verifyPart(part, this.#signal);
    }
  }

  async #readPoint(): Promise<void> {
    const point = this.#currentPoint();
    for (const lane of this.#lanes) lane.size = new PageSize(point.page_documents_max);
    // Pages in flight end with the point, whatever ends it.
    const reading = new AbortController();
    const reader = new PageReader({
      elasticsearch: this.#options.elasticsearch,
      vectors: this.#vectors,
      signal: AbortSignal.any([this.#signal, reading.signal]),
      ...(this.#options.retryDelaysMs === undefined ? {} : { retryDelaysMs: this.#options.retryDelaysMs }),
    });
    try {
      while (this.#documents < this.#expected && this.#pointDocuments < point.documents) {
        for (const lane of this.#lanes) this.#ask(lane, point, reader);
        await this.#touch(this.#point + 1);
        const coming = this.#lanes.flatMap(({ page }) => page ?? []);
        if (coming.length === 0) break;
        // A turn, so that the requests leave before a scan takes the thread.
        await new Promise((resolve) => setImmediate(resolve));
        const { lane, page } = await Promise.race(coming);
        lane.page = undefined;
        await this.#take(lane, page, point);
      }
    } finally {
      reading.abort();
      await Promise.allSettled(this.#lanes.flatMap(({ page }) => page ?? []));
      for (const lane of this.#lanes) Object.assign(lane, { place: undefined, page: undefined, single: false });
      const { retries, halvings } = reader.trouble;
      if (retries + halvings > 0) this.#options.logger.info("export_slowed", { retries, halvings });
    }
    if (this.#documents < this.#expected && this.#pointDocuments !== point.documents) throw this.#incomplete(point);
  }

  /** Asks for the next page of a lane that waits for none; of a slice that nobody reads where it has come to the end of its own. */
  #ask(lane: Lane, point: Point, reader: PageReader): void {
    if (lane.page !== undefined) return;
    lane.place ??= this.#slices.take(point.slices);
    if (lane.place === undefined) return;
    const coming = this.#lanes.reduce((sum, { page, asked }) => (page === undefined ? sum : sum + asked), 0);
    const room = this.#expected - this.#documents - coming;
    // What others have asked for may be all that is wanted; if it is not, this is asked again when it is here.
    if (room <= 0) return;
    const partMax = this.#partDocumentsMax();
    const partRoom = partMax - this.#parts.documents - coming;
    const query: PageQuery = {
      pitId: point.pit_id,
      query: pointQuery(this.#writer.manifest.source.query, point),
      slice: lane.place.slice,
      slices: point.slices,
      after: lane.place.after,
      documentsMax: Math.min(lane.size.documents, room, partRoom > 0 ? partRoom : partMax),
      single: lane.single,
    };
    lane.asked = query.documentsMax;
    lane.page = reader.read(query, lane).then((page) => ({ lane, page }));
    // Another lane's failure may end the reading before anybody waits for this page.
    lane.page.catch(() => {});
  }

  async #take(lane: Lane, page: RawPage, point: Point): Promise<void> {
    const { place, single } = lane;
    if (place === undefined) throw new Error("a page is of a slice");
    // A page lies in one part, so that totals, profile and places agree at each checkpoint.
    if (this.#parts.documents + page.asked > this.#partDocumentsMax()) await this.#checkpoint();
    this.#consistent = false;
    const scanned = this.#scan(page, single);
    if (scanned.pitId !== undefined) point.pit_id = scanned.pitId;
    if (scanned.stoppedAtLineComment) lane.size.used(scanned.hits);
    else lane.size.saw(scanned.hits, page.bytes.length);
    await this.#write(scanned.hits);
    if (scanned.hits > 0) place.after = this.#lastSort;
    // The hit that stopped the scan is read again, alone.
    lane.single = scanned.stoppedAtLineComment;
    if (!scanned.stoppedAtLineComment && scanned.hits < page.asked) {
      this.#slices.done(place);
      lane.place = undefined;
    }
    this.#consistent = true;
    await this.#closePartIfFull();
  }

  async #readScroll(): Promise<void> {
    const point = this.#currentPoint();
    const index = this.#writer.manifest.source.indices[point.index];
    if (index === undefined) throw new Error("a point is of an index of the export");
    const reader = new ScrollReader({
      elasticsearch: this.#options.elasticsearch,
      vectors: this.#vectors,
      signal: this.#signal,
      into: this.#lanes[0]?.memory ?? new ResponseBuffer(),
    });
    try {
      const asked = point.page_documents_max;
      let bytes = await reader.first(index.name, pointQuery(this.#writer.manifest.source.query, point), asked);
      for (let first = true; ; first = false) {
        this.#consistent = false;
        // The scroll is closed even if its first page cannot be read on.
        const scrollId = /^\{"_scroll_id":"([^"]+)"/.exec(bytes.toString("latin1", 0, SCROLL_HEAD_BYTES))?.[1];
        reader.scanned(scrollId);
        const scanned = this.#scan({ bytes, asked }, false, this.#maxDocuments() - this.#documents);
        if (scanned.stoppedAtLineComment) {
          throw new ScanError("a document with a line comment behind it can only be read from a point in time", 0);
        }
        await this.#write(scanned.hits);
        this.#consistent = true;
        if (first && scanned.total !== undefined) await this.#correctTotal(point, scanned.total);
        await this.#closePartIfFull();
        if (scanned.hits === 0 || this.#documents >= this.#expected) break;
        bytes = await reader.next();
      }
    } finally {
      await reader.close();
    }
    if (this.#documents < this.#expected && this.#pointDocuments !== point.documents) throw this.#incomplete(point);
  }

  #maxDocuments(): number {
    return this.#writer.manifest.source.max_documents ?? Number.MAX_SAFE_INTEGER;
  }

  /** The exact total of a scroll is known with its first page only. */
  async #correctTotal(point: Point, documents: number): Promise<void> {
    if (point.documents === documents) return;
    point.documents = documents;
    const { source } = this.#writer.manifest;
    const indices = source.indices.map((index, position) =>
      position === point.index ? { ...index, documents } : index,
    );
    const total = this.#points.reduce((sum, { documents: count }) => sum + count, 0);
    this.#expected = Math.min(total, this.#maxDocuments());
    await this.#writer.commit({ source: { ...source, indices, expected: this.#expected } });
  }

  #partDocumentsMax(): number {
    return this.#options.partDocumentsMax ?? PART_DOCUMENTS_MAX;
  }

  #lastSort: unknown[] = [];

  #scan(page: RawPage, single: boolean, hitsMax?: number): ScannedPage {
    const { bytes } = page;
    const lines = this.#lines;
    let sortStart = -1;
    let sortEnd = -1;
    lines.begin(bytes);
    const selected = this.#selection !== undefined;
    const visit = (hit: Hit): void => {
      const { start, end } = lines.append(hit);
      sortStart = hit.sortStart;
      sortEnd = hit.sortEnd;
      if (selected) {
        this.#cutScanner.reset(lines.buffer);
        this.#cutScanner.scan(lines.buffer, start, end, this.#profile);
      }
    };
    const scanned = this.#scanner.scan(bytes, {
      single,
      visit,
      ...(hitsMax === undefined ? {} : { hitsMax }),
      ...(selected ? {} : { profile: this.#profile }),
    });
    if (scanned.timedOut || scanned.shardsFailed > 0) {
      throw new ToolError("shards_failed", "Not every shard of the index answers.", {
        retryable: true,
        next: "Look at the health of the index, then call bulk_export again with the same arguments.",
      });
    }
    if (single && scanned.hits !== 1) throw new ScanError("a document that was there is gone", 0);
    if (scanned.hits > page.asked) throw new ScanError("the page has more documents than were asked for", 0);
    if (scanned.hits > 0) {
      const sort: unknown = sortStart < 0 ? undefined : JSON.parse(bytes.toString("latin1", sortStart, sortEnd));
      if (!Array.isArray(sort)) throw new ScanError("a hit has no sort values", 0);
      this.#lastSort = sort;
    }
    return scanned;
  }

  async #write(documents: number): Promise<void> {
    if (documents === 0) return;
    this.#bytes += await this.#parts.write(() => this.#lines.take(), documents);
    this.#documents += documents;
    this.#pointDocuments += documents;
  }

  async #closePartIfFull(): Promise<void> {
    const { documents, bytes } = this.#parts;
    if (documents >= this.#partDocumentsMax() || bytes >= PART_BYTES_MAX) await this.#checkpoint();
  }

  /** Begins steps 5 and 6 for all that was read so far. */
  async #checkpoint(): Promise<void> {
    this.#consistent = false;
    if (this.#profile.truncated && !this.#warnings.includes(PROFILE_TRUNCATED)) this.#warnings.push(PROFILE_TRUNCATED);
    await this.#parts.close({
      totals: {
        documents: this.#documents,
        bytes: this.#bytes,
        compacted: this.#lines.compacted,
        invalid_utf8: this.#lines.invalidUtf8,
      },
      profile: this.#profile.fields(),
      checkpoint: {
        points: this.#points.map((point) => ({ ...point })),
        point: this.#point,
        ...this.#slices.checkpoint(),
      },
      warnings: [...this.#warnings],
    });
    this.#consistent = true;
  }

  /** Steps 7 to 10. */
  async complete(): Promise<void> {
    if (this.#documents !== this.#expected) throw this.#incomplete(undefined);
    await this.#checkpoint();
    await this.#parts.listed();
    await closePoints(this.#options.elasticsearch, this.#points);
    await this.#writer.finish("completed", null, { checkpoint: null });
  }

  /** Records how the export ended before its end. */
  async end(failed: unknown): Promise<ExportEnd> {
    const { logger, elasticsearch, signal } = this.#options;
    const exportId = this.#writer.manifest.export_id;
    // Somebody else has the export, or it is gone: it is theirs to record, and the snapshot theirs to close.
    if (this.#writer.signal.aborted) {
      await this.#parts.discard();
      logger.warn("export_lease_lost", { exportId });
      return { outcome: "released" };
    }
    const stopped: unknown = signal.aborted ? signal.reason : failed;
    const cancelled =
      this.#writer.cancelRequest.aborted || (stopped instanceof JobStopped && stopped.reason === "cancelled");
    const shutdown = !cancelled && stopped instanceof JobStopped;
    const failure = failureOf(failed);
    // A scroll has moved on by what was read; a point in time can be read again.
    const resumable =
      !cancelled && this.#writer.manifest.source.method === "pit" && (shutdown || !FINAL_FAILURES.has(failure.code));
    // What was written since the last checkpoint is kept, if that still works; else the next process reads it again.
    try {
      if (this.#consistent) await this.#checkpoint();
      else await this.#parts.discard();
      await this.#parts.listed();
    } catch (checkpointError) {
      await this.#parts.discard();
      logger.warn("export_checkpoint_failed", { exportId, error: checkpointError });
    }
    if (shutdown) {
      await this.#writer.release();
      return { outcome: "released" };
    }
    if (!resumable) await closePoints(elasticsearch, this.#points);
    const change = resumable ? {} : { checkpoint: null };
    if (cancelled) {
      await this.#writer.finish("cancelled", null, change);
      return { outcome: "cancelled" };
    }
    if (failure.code === "internal_error") logger.error("export_failed", { exportId, error: failed });
    else logger.warn("export_failed", { exportId, code: failure.code, message: failure.message });
    const { code, message, retryable } = failure;
    await this.#writer.finish("failed", { code, message: `${message} ${this.#missing()}`, retryable }, change);
    return { outcome: "failed", code };
  }

  /** Keeps points alive that wait for their turn, and extends their first keep-alive, which is short. */
  async #touch(fromPoint: number): Promise<void> {
    const now = performance.now();
    if (this.#touchedAt > 0 && now - this.#touchedAt < TOUCH_INTERVAL_MS) return;
    this.#touchedAt = now;
    try {
      await touchPoints(this.#options.elasticsearch, this.#points.slice(fromPoint), this.#signal);
    } catch (error) {
      // A point that cannot be reached now is told by its own pages, with retries and the right words.
      this.#signal.throwIfAborted();
      this.#options.logger.debug("export_touch_failed", { error });
    }
  }

  #currentPoint(): Point {
    const point = this.#points[this.#point];
    if (point === undefined) throw new Error("the position lies behind the last point");
    return point;
  }

  #incomplete(point: Point | undefined): ToolError {
    const name = point === undefined ? undefined : this.#writer.manifest.source.indices[point.index]?.name;
    return new ToolError(
      "documents_missing",
      name === undefined
        ? "The snapshot gave other documents than it counted."
        : `Index ${JSON.stringify(name)} gave ${this.#pointDocuments} documents of the ${point?.documents ?? 0} that its snapshot counted.`,
      { next: "Start a new export with fresh: true." },
    );
  }

  #missing(): string {
    const { documents } = this.#writer.manifest.totals;
    return `${documents} of ${this.#expected} documents are staged.`;
  }
}

/** Where a scroll's id stands in its pages; with many shards it is long. */
const SCROLL_HEAD_BYTES = 1024 * 1024;

const PROFILE_TRUNCATED = `More than ${PROFILE_PATHS_MAX} paths: the profile leaves the rest out.`;

/** Failures after which reading on from the same snapshot would end the same way. After any other it is kept. */
const FINAL_FAILURES = new Set([
  "snapshot_lost",
  "documents_missing",
  "document_unreadable",
  "response_too_large",
  "query_invalid",
  "staging_corrupt",
  "manifest_invalid",
]);

function failureOf(error: unknown): ToolError {
  if (error instanceof ToolError) return error;
  if (error instanceof StagingError) {
    return new ToolError(error.code, error.message, {
      retryable: error.code === "staging_full" || error.retryable,
      cause: error,
    });
  }
  if (error instanceof ScanError) {
    const where = error.documentId === undefined ? "" : ` of the document with _id ${JSON.stringify(error.documentId)}`;
    return new ToolError("document_unreadable", `The answer${where} cannot be read: ${error.message}.`, {
      cause: error,
    });
  }
  return new ToolError("internal_error", "The export failed for a reason of its own; the server's log has it.", {
    cause: error,
  });
}
