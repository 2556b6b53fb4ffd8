import { JobStopped, type Logger, ToolError } from "@es-to-pg/mcp-kit";
import { type ExportWriter, type PartWriter, StagingError } from "@es-to-pg/staging";
import type { Elasticsearch } from "../elasticsearch/elasticsearch.ts";
import { ResponseBuffer } from "../elasticsearch/response-buffer.ts";
import { LineWriter } from "./line-writer.ts";
import { PageSize } from "./page-size.ts";
import { lastSort, type PageQuery, PageReader, type RawPage, ScrollReader } from "./pages.ts";
import { PROFILE_PATHS_MAX, Profile } from "./profile.ts";
import { FieldSelection } from "./rewrite.ts";
import { DocumentScanner, type Hit, PageScanner, ScanError, type ScannedPage } from "./scan.ts";
import { closePoints, type Point, touchPoints } from "./snapshot.ts";
import { VectorRequest } from "./vectors.ts";

/** A part closes at either of these: it is what one transaction of a load takes. */
const PART_DOCUMENTS_MAX = 100_000;
const PART_BYTES_MAX = 256 * 1024 * 1024;

/** How often the points that wait for their turn are kept alive, well within their keep-alive of 10 minutes. */
const TOUCH_INTERVAL_MS = 120_000;

/** Where reading stands: a point, a slice of it, and the last document read in the slice. */
interface Position {
  point: number;
  slice: number;
  after: unknown[] | null;
}

export interface RunExportOptions {
  writer: ExportWriter;
  elasticsearch: Elasticsearch;
  logger: Logger;
  signal: AbortSignal;
  retryDelaysMs?: readonly number[];
  partDocumentsMax?: number;
}

/** Reads what is left of a snapshot into parts and records how it ended: steps 4 to 10 of an export (`startExport`). */
export async function runExport(options: RunExportOptions): Promise<void> {
  const run = new ExportRun(options);
  try {
    await run.read();
    await run.complete();
  } catch (error) {
    try {
      await run.end(error);
    } catch (unrecorded) {
      // As on a disk that is full to its last byte. The lease must not live on, so that the same call can go on later.
      const { export_id: exportId } = options.writer.manifest;
      options.logger.warn("export_end_not_recorded", { exportId, code: failureOf(error).code, error: unrecorded });
      await options.writer.release().catch(() => {});
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
  /** One page is in use while the next one comes in. */
  readonly #memory = [new ResponseBuffer(), new ResponseBuffer()] as const;
  readonly #profile: Profile;
  readonly #warnings: string[];
  readonly #vectors: VectorRequest;
  #position: Position;
  /** Documents of the current point that were read before. */
  #pointDocuments: number;
  #documents: number;
  #bytes: number;
  #part: PartWriter | undefined;
  /** False while part, totals, profile and position are not of the same documents: then nothing may be checkpointed. */
  #consistent = true;
  #touchedAt = 0;

  constructor(options: RunExportOptions) {
    const { manifest } = options.writer;
    const { checkpoint } = manifest;
    if (checkpoint === null) throw new Error("an export that runs has a checkpoint");
    this.#options = options;
    this.#writer = options.writer;
    this.#signal = AbortSignal.any([options.signal, options.writer.signal, options.writer.cancelRequest]);
    this.#points = checkpoint.points.map((point) => ({ ...point }));
    this.#position = { point: checkpoint.point, slice: checkpoint.slice, after: checkpoint.after };
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
    while (this.#position.point < this.#points.length && this.#documents < this.#expected) {
      this.#signal.throwIfAborted();
      if (this.#writer.manifest.source.method === "scroll") await this.#readScroll();
      else await this.#readPoint();
      if (this.#documents >= this.#expected) break;
      this.#position = { point: this.#position.point + 1, slice: 0, after: null };
      this.#pointDocuments = 0;
    }
  }

  async #readPoint(): Promise<void> {
    const point = this.#currentPoint();
    const size = new PageSize(point.page_documents_max);
    // Pages in flight end with the point, whatever ends it.
    const reading = new AbortController();
    const reader = new PageReader({
      elasticsearch: this.#options.elasticsearch,
      size,
      vectors: this.#vectors,
      memory: this.#memory,
      signal: AbortSignal.any([this.#signal, reading.signal]),
      ...(this.#options.retryDelaysMs === undefined ? {} : { retryDelaysMs: this.#options.retryDelaysMs }),
    });
    try {
      for (
        ;
        this.#position.slice < point.slices;
        this.#position = { ...this.#position, slice: this.#position.slice + 1, after: null }
      ) {
        if (point.documents === 0 || this.#pointDocuments >= point.documents) break;
        await this.#readSlice(point, reader, size);
        if (this.#documents >= this.#expected) return;
      }
    } finally {
      reading.abort();
      const { retries, halvings } = reader.trouble;
      if (retries + halvings > 0) this.#options.logger.info("export_slowed", { retries, halvings });
    }
    if (this.#pointDocuments !== point.documents) throw this.#incomplete(point);
  }

  async #readSlice(point: Point, reader: PageReader, size: PageSize): Promise<void> {
    let single = false;
    let next: Promise<RawPage> | undefined;
    for (;;) {
      await this.#touch();
      const page: RawPage = await (next ?? reader.read(this.#pageQuery(point, this.#position.after, 0, single)));
      // The next page is read by Elasticsearch while this one is scanned and written here.
      const after = lastSort(page.bytes);
      const ahead = this.#pageQuery(point, after ?? null, page.asked, false);
      next = after === undefined || ahead.documentsMax <= 0 || single ? undefined : reader.read(ahead);
      next?.catch(() => {});
      // A turn, so that the request leaves before the scan takes the thread.
      await new Promise((resolve) => setImmediate(resolve));

      this.#consistent = false;
      const scanned = this.#scan(page, single);
      if (scanned.pitId !== undefined) point.pit_id = scanned.pitId;
      size.saw(scanned.hits, page.bytes.length);
      await this.#write(scanned.hits);
      if (scanned.hits > 0) this.#position = { ...this.#position, after: this.#lastSort };
      this.#consistent = true;
      await this.#closePartIfFull();
      if (this.#documents >= this.#expected || this.#pointDocuments >= point.documents) return;
      if (scanned.stoppedAtLineComment) {
        // The hit that stopped the scan is read again, alone; the page asked for meanwhile lies behind it.
        single = true;
        await next?.catch(() => {});
        next = undefined;
      } else if (single) {
        single = false;
      } else if (scanned.hits < page.asked && after === undefined) {
        return;
      }
    }
  }

  async #readScroll(): Promise<void> {
    const point = this.#currentPoint();
    const index = this.#writer.manifest.source.indices[point.index];
    if (index === undefined) throw new Error("a point is of an index of the export");
    const reader = new ScrollReader({
      elasticsearch: this.#options.elasticsearch,
      vectors: this.#vectors,
      signal: this.#signal,
      into: this.#memory[0],
    });
    try {
      const asked = point.page_documents_max;
      let bytes = await reader.first(index.name, point.query, asked);
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

  #pageQuery(point: Point, after: unknown[] | null, documentsInFlight: number, single: boolean): PageQuery {
    const inPart = (this.#part?.documents ?? 0) + documentsInFlight;
    const partMax = this.#options.partDocumentsMax ?? PART_DOCUMENTS_MAX;
    // A page never crosses the end of a part or of the export, so that totals, profile and position agree at each checkpoint.
    const partRoom = inPart >= partMax ? partMax : partMax - inPart;
    return {
      pitId: point.pit_id,
      query: point.query,
      slice: this.#position.slice,
      slices: point.slices,
      after,
      documentsMax: Math.min(
        partRoom,
        this.#expected - this.#documents - documentsInFlight,
        point.documents - this.#pointDocuments - documentsInFlight,
      ),
      single,
    };
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
    this.#part ??= await this.#writer.openPart();
    const { lines } = this.#lines;
    await this.#part.write(lines, documents);
    this.#documents += documents;
    this.#pointDocuments += documents;
    this.#bytes += lines.length;
  }

  async #closePartIfFull(): Promise<void> {
    const part = this.#part;
    if (part === undefined) return;
    const documentsMax = this.#options.partDocumentsMax ?? PART_DOCUMENTS_MAX;
    if (part.documents >= documentsMax || part.bytes >= PART_BYTES_MAX) await this.#checkpoint();
  }

  /** Steps 5 and 6. */
  async #checkpoint(): Promise<void> {
    const { manifest } = this.#writer;
    const part = this.#part;
    this.#part = undefined;
    this.#consistent = false;
    const parts = part === undefined ? manifest.parts : [...manifest.parts, await part.close()];
    if (this.#profile.truncated && !this.#warnings.includes(PROFILE_TRUNCATED)) this.#warnings.push(PROFILE_TRUNCATED);
    await this.#writer.commit({
      parts,
      totals: {
        documents: this.#documents,
        bytes: this.#bytes,
        compacted: this.#lines.compacted,
        invalid_utf8: this.#lines.invalidUtf8,
      },
      profile: this.#profile.fields(),
      checkpoint: { points: this.#points, ...this.#position },
      warnings: this.#warnings,
    });
    this.#consistent = true;
  }

  /** Steps 7 to 10. */
  async complete(): Promise<void> {
    if (this.#documents !== this.#expected) throw this.#incomplete(undefined);
    await this.#checkpoint();
    await closePoints(this.#options.elasticsearch, this.#points);
    await this.#writer.finish("completed", null, { checkpoint: null });
  }

  /** Records how the export ended before its end. */
  async end(failed: unknown): Promise<void> {
    const { logger, elasticsearch, signal } = this.#options;
    const exportId = this.#writer.manifest.export_id;
    // Somebody else has the export, or it is gone: it is theirs to record, and the snapshot theirs to close.
    if (this.#writer.signal.aborted) {
      await this.#discardPart();
      logger.warn("export_lease_lost", { exportId });
      return;
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
      else await this.#discardPart();
    } catch (checkpointError) {
      await this.#discardPart();
      logger.warn("export_checkpoint_failed", { exportId, error: checkpointError });
    }
    if (shutdown) {
      await this.#writer.release();
      return;
    }
    if (!resumable) await closePoints(elasticsearch, this.#points);
    const change = resumable ? {} : { checkpoint: null };
    if (cancelled) {
      await this.#writer.finish("cancelled", null, change);
      return;
    }
    if (failure.code === "internal_error") logger.error("export_failed", { exportId, error: failed });
    else logger.warn("export_failed", { exportId, code: failure.code, message: failure.message });
    const { code, message, retryable } = failure;
    await this.#writer.finish("failed", { code, message: `${message} ${this.#missing()}`, retryable }, change);
  }

  async #discardPart(): Promise<void> {
    const part = this.#part;
    this.#part = undefined;
    await part?.discard().catch(() => {});
  }

  /** Points that wait for their turn, and at the start the current one too, whose first keep-alive is short. */
  async #touch(): Promise<void> {
    const now = performance.now();
    if (this.#touchedAt > 0 && now - this.#touchedAt < TOUCH_INTERVAL_MS) return;
    this.#touchedAt = now;
    try {
      await touchPoints(this.#options.elasticsearch, this.#points.slice(this.#position.point + 1), this.#signal);
    } catch (error) {
      // A point that cannot be reached now is told by its own pages, with retries and the right words.
      this.#signal.throwIfAborted();
      this.#options.logger.debug("export_touch_failed", { error });
    }
  }

  #currentPoint(): Point {
    const point = this.#points[this.#position.point];
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
