import { setTimeout as delay } from "node:timers/promises";
import { ToolError } from "@es-to-pg/mcp-kit";
import type { Elasticsearch } from "../elasticsearch/elasticsearch.ts";
import { ResponseBuffer } from "../elasticsearch/response-buffer.ts";
import { PAGE_BYTES_MAX, type PageSize } from "./page-size.ts";
import { CLOSE_TIMEOUT_MS, KEEP_ALIVE } from "./snapshot.ts";
import type { VectorRequest } from "./vectors.ts";

/** Time for one page: a busy cluster may take long, and a lost connection shows by itself. */
const PAGE_TIMEOUT_MS = 120_000;

/** Pauses before a page is asked for again, in milliseconds. Together they are well within the snapshot's keep-alive. */
const RETRY_DELAYS_MS = [500, 1_000, 2_000, 4_000, 8_000, 15_000, 30_000, 60_000];

/** Where a page begins: a slice of a point in time, after a document. */
export interface PageQuery {
  pitId: string;
  query: unknown;
  slice: number;
  slices: number;
  after: readonly unknown[] | null;
  /** Documents that may be asked for, however small they are; at least one. */
  documentsMax: number;
  /** Ask for one document alone. */
  single: boolean;
}

/** What the pages of one slice share, and no other slice has: its documents may be of another size. */
export interface PageRoom {
  readonly size: PageSize;
  readonly memory: ResponseBuffer;
}

export interface RawPage {
  bytes: Buffer;
  /** Documents that were asked for. */
  asked: number;
}

/** What reading pages has had to put up with, for the log. */
export interface ReadingTrouble {
  retries: number;
  halvings: number;
}

/**
 * Reads raw pages of a point in time, several at once if asked to. Asks again, for less and after a pause, where that can
 * help. A page is valid until another one is read into the same memory.
 */
export class PageReader {
  readonly trouble: ReadingTrouble = { retries: 0, halvings: 0 };
  readonly #elasticsearch: Elasticsearch;
  readonly #vectors: VectorRequest;
  readonly #signal: AbortSignal;
  readonly #retryDelaysMs: readonly number[];

  constructor(options: {
    elasticsearch: Elasticsearch;
    vectors: VectorRequest;
    signal: AbortSignal;
    retryDelaysMs?: readonly number[];
  }) {
    this.#elasticsearch = options.elasticsearch;
    this.#vectors = options.vectors;
    this.#signal = options.signal;
    this.#retryDelaysMs = options.retryDelaysMs ?? RETRY_DELAYS_MS;
  }

  async read(query: PageQuery, { size, memory }: PageRoom): Promise<RawPage> {
    for (let attempt = 0; ; ) {
      const asked = query.single ? 1 : Math.min(size.documents, query.documentsMax);
      try {
        return { bytes: await this.#request(query, asked, memory), asked };
      } catch (error) {
        this.#signal.throwIfAborted();
        if (!(error instanceof ToolError)) throw error;
        if (isSnapshotLost(error)) throw snapshotLost(error);
        if (this.#vectors.isRefused(error)) continue;
        if (error.code === "response_too_large") {
          this.trouble.halvings++;
          if (asked === 1) throw error;
          halveBelow(size, asked);
          continue;
        }
        const pauseMs = this.#retryDelaysMs[attempt];
        if (!error.retryable || pauseMs === undefined) throw error;
        attempt++;
        this.trouble.retries++;
        if (error.code === "busy" && asked > 1 && size.isLarge(asked)) {
          this.trouble.halvings++;
          halveBelow(size, asked);
        }
        await delay(pauseMs * (0.5 + Math.random()), undefined, { signal: this.#signal });
      }
    }
  }

  async #request(query: PageQuery, size: number, into: ResponseBuffer): Promise<Buffer> {
    return await this.#elasticsearch.bytes(
      {
        method: "POST",
        path: ["_search"],
        query: { allow_partial_search_results: "false" },
        body: {
          size,
          query: query.query,
          pit: { id: query.pitId, keep_alive: KEEP_ALIVE },
          sort: [{ _shard_doc: "asc" }],
          seq_no_primary_term: true,
          track_total_hits: false,
          ...this.#vectors.body,
          ...(query.slices > 1 ? { slice: { id: query.slice, max: query.slices } } : {}),
          ...(query.after === null ? {} : { search_after: query.after }),
        },
      },
      // One document may be as large as Elasticsearch takes them.
      { signal: this.#signal, into, timeoutMs: PAGE_TIMEOUT_MS, ...(size === 1 ? {} : { bytesMax: PAGE_BYTES_MAX }) },
    );
  }
}

/** Makes the size smaller than a page that was refused, which a part or a limit may have made smaller than the size was. */
function halveBelow(size: PageSize, asked: number): void {
  while (size.documents >= asked && size.halve());
}

/** Reads an index by a scroll, for where points in time are not to be had. Nothing is asked for twice: a scroll moves on. */
export class ScrollReader {
  readonly #elasticsearch: Elasticsearch;
  readonly #vectors: VectorRequest;
  readonly #signal: AbortSignal;
  readonly #into: ResponseBuffer;
  #scrollId: string | undefined;

  constructor(options: {
    elasticsearch: Elasticsearch;
    vectors: VectorRequest;
    signal: AbortSignal;
    into: ResponseBuffer;
  }) {
    this.#elasticsearch = options.elasticsearch;
    this.#vectors = options.vectors;
    this.#signal = options.signal;
    this.#into = options.into;
  }

  /** The first page; `scanned` tells this reader how to go on. */
  async first(index: string, query: unknown, size: number): Promise<Buffer> {
    return await this.#vectors.ask((body) =>
      this.#elasticsearch.bytes(
        {
          method: "POST",
          path: [index, "_search"],
          query: { scroll: KEEP_ALIVE, allow_partial_search_results: "false" },
          body: { size, query, sort: ["_doc"], seq_no_primary_term: true, track_total_hits: true, ...body },
        },
        { signal: this.#signal, into: this.#into, timeoutMs: PAGE_TIMEOUT_MS },
      ),
    );
  }

  scanned(scrollId: string | undefined): void {
    if (scrollId !== undefined) this.#scrollId = scrollId;
  }

  async next(): Promise<Buffer> {
    try {
      return await this.#elasticsearch.bytes(
        {
          method: "POST",
          path: ["_search", "scroll"],
          body: { scroll: KEEP_ALIVE, scroll_id: this.#scrollId },
        },
        { signal: this.#signal, into: this.#into, timeoutMs: PAGE_TIMEOUT_MS, once: true },
      );
    } catch (error) {
      throw error instanceof ToolError && isSnapshotLost(error) ? snapshotLost(error) : error;
    }
  }

  /** Lets the scroll go. What is gone already needs no closing, so this does not fail. */
  async close(): Promise<void> {
    if (this.#scrollId === undefined) return;
    await this.#elasticsearch
      .bytes(
        { method: "DELETE", path: ["_search", "scroll"], body: { scroll_id: this.#scrollId } },
        { signal: AbortSignal.timeout(CLOSE_TIMEOUT_MS) },
      )
      .catch(() => {});
  }
}

function isSnapshotLost(error: ToolError): boolean {
  return error.code === "search_context_missing" || error.code === "index_not_found" || error.code === "index_closed";
}

/** The failure of an export whose snapshot is gone. It cannot be stitched to another one. */
export function snapshotLost(cause: unknown): ToolError {
  return new ToolError("snapshot_lost", "Elasticsearch no longer has the snapshot of this export.", {
    next: "Start a new export with the same arguments.",
    cause,
  });
}
