import { ToolError } from "@es-to-pg/mcp-kit";
import type { Manifest } from "@es-to-pg/staging";
import { z } from "zod";
import type { Elasticsearch, ResolvedIndex } from "../elasticsearch/elasticsearch.ts";

/** How long Elasticsearch keeps a snapshot that nobody reads: a process that restarts within it can go on. */
export const KEEP_ALIVE = "10m";

/**
 * The first keep-alive, until the export is stored: a process that dies before leaves a snapshot for no longer. A point
 * costs some requests, so the first of very many has to wait longer for the last.
 */
const unstoredKeepAlive = (points: number): string => `${Math.max(60, points)}s`;

/** Documents of a shard that one slice covers. A page costs Elasticsearch a pass over its whole slice. */
const SLICE_DOCUMENTS = 100_000;

/** Fewer matching documents than this are read without slices. */
const UNSLICED_DOCUMENTS_MAX = 10_000;

/** More slices than this are tried on Elasticsearch first, because a version may refuse them. */
const SLICES_UNTRIED_MAX = 1024;

/** `index.max_result_window` where an index does not set it; also the most documents that a page has. */
const RESULT_WINDOW = 10_000;

export type Point = NonNullable<Manifest["checkpoint"]>["points"][number];
export type Watermark = Manifest["watermark"];

/** How far a shard had come at an earlier export, which may lie before what this snapshot is sure to show. */
export interface EarlierWatermark {
  pitTimeMs: number;
  watermark: Watermark;
}

/** Beyond `index.refresh_interval`, in milliseconds: a refresh that is slow, and clocks that differ. */
const REFRESH_SLACK_MS = 60_000;
const REFRESH_INTERVAL_DEFAULT_MS = 1_000;

/** A consistent view of the indices, and what was learnt when it was taken. */
export interface Snapshot {
  method: "pit" | "scroll";
  pitTime: string;
  points: Point[];
  /** Exact number of matching documents per index, in the order of the indices. */
  documents: number[];
  watermark: Watermark;
  warnings: string[];
}

const pitSchema = z.object({ id: z.string() });
const totalSchema = z.object({
  pit_id: z.string().optional(),
  timed_out: z.boolean(),
  _shards: z.object({ failed: z.int() }),
  hits: z.object({ total: z.object({ value: z.int() }) }),
});
const refreshSchema = z.object({ _shards: z.object({ failed: z.int() }) });
const copySchema = z.object({
  routing: z.object({ primary: z.boolean() }),
  docs: z.object({ count: z.number(), deleted: z.number() }).optional(),
  commit: z.object({ user_data: z.object({ history_uuid: z.string().optional() }).optional() }).optional(),
  seq_no: z.object({ global_checkpoint: z.int() }).optional(),
});
const statsSchema = z.object({
  indices: z
    .record(z.string(), z.object({ uuid: z.string().optional(), shards: z.record(z.string(), z.array(copySchema)) }))
    .default({}),
});
const termsSchema = z.object({
  metadata: z
    .object({
      indices: z.record(z.string(), z.object({ primary_terms: z.record(z.string(), z.int()).default({}) })).default({}),
    })
    .optional(),
});

/** What one shard held when its statistics were read. */
interface ShardState {
  /** Lucene documents, deleted and nested ones included: slices are cut by these. */
  documents: number;
  watermark: Watermark[number] | undefined;
}

export interface SnapshotOptions {
  elasticsearch: Elasticsearch;
  indices: readonly ResolvedIndex[];
  query: Record<string, unknown>;
  /** The watermark of the export that this one goes on from. */
  since: Watermark | undefined;
  /** Earlier exports' watermarks; what they saw counts where the indices cannot be refreshed. */
  earlier: readonly EarlierWatermark[];
  signal: AbortSignal;
}

/**
 * Takes the snapshot: the shards' checkpoints first, then a refresh, then the points in time, so that every operation
 * up to a checkpoint is in the snapshot. Closes what it opened if it fails.
 */
export async function openSnapshot(options: SnapshotOptions): Promise<Snapshot> {
  const { elasticsearch, indices, since, signal } = options;
  const warnings: string[] = [];
  const shards = await readShards(elasticsearch, indices, signal, warnings);
  const refreshed = await refresh(elasticsearch, indices, signal);
  const marks = [...shards.values()].flatMap(({ watermark: mark }) => (mark === undefined ? [] : [mark]));
  const watermark = refreshed ? marks : overlapping(indices, marks, options.earlier, Date.now());
  if (!refreshed && marks.length > 0) {
    warnings.push(
      watermark.every(({ checkpoint }) => checkpoint < 0)
        ? "The indices could not be refreshed and no export of them is old enough: an export `since` this one repeats everything."
        : "The indices could not be refreshed: an export `since` this one repeats what is newer than an earlier export.",
    );
  }
  if (since !== undefined) refuseBrokenHistory(indices, since, shards);

  const points: Point[] = [];
  const documents = indices.map(() => 0);
  const shardsTotal = indices.reduce((sum, index) => sum + index.shards, 0);
  const asked: AskOptions = {
    query: options.query,
    keepAlive: unstoredKeepAlive(since === undefined ? indices.length : shardsTotal),
    signal,
  };
  try {
    for (const [position, index] of indices.entries()) {
      // Sequence numbers count per shard, so what is new since a checkpoint is asked of each shard alone.
      const parts = since === undefined ? [null] : Array.from({ length: index.shards }, (_, shard) => shard);
      for (const shard of parts) {
        const pitId = await openPoint(elasticsearch, { index: index.name, shard }, asked);
        const point: Point = {
          index: position,
          shard,
          pit_id: pitId,
          slices: 1,
          documents: 0,
          filters: pointFilters(options, index, shard),
          page_documents_max: Math.min(
            RESULT_WINDOW,
            Number(index.settings["index.max_result_window"] ?? RESULT_WINDOW),
          ),
        };
        points.push(point);
        point.documents = await countPoint(elasticsearch, point, asked);
        documents[position] = (documents[position] ?? 0) + point.documents;
        const largest = largestShard(index, shard, shards) ?? point.documents;
        const wanted = slicesFor({ documents: point.documents, shards: shard === null ? index.shards : 1, largest });
        point.slices = await usableSlices(elasticsearch, point, wanted, asked);
      }
    }
  } catch (error) {
    await closePoints(elasticsearch, points);
    if (!isPitRefused(error, points)) throw error;
    if (since !== undefined) throw error;
    return await planScrolls(options, watermark, warnings);
  }
  return { method: "pit", pitTime: new Date().toISOString(), points, documents, watermark, warnings };
}

/**
 * Marks for a snapshot that no refresh preceded. What a shard had processed is visible once its refresh interval has
 * passed, so the mark is the newest one that an export saw so long ago; without one it lies before the first operation.
 */
export function overlapping(
  indices: readonly Pick<ResolvedIndex, "uuid" | "settings">[],
  marks: Watermark,
  earlier: readonly EarlierWatermark[],
  now: number,
): Watermark {
  return marks.map((mark) => {
    const settings = indices.find(({ uuid }) => uuid === mark.index_uuid)?.settings ?? {};
    const intervalMs = refreshIntervalMs(settings["index.refresh_interval"]);
    const seen = earlier
      .filter(({ pitTimeMs }) => pitTimeMs + intervalMs + REFRESH_SLACK_MS <= now)
      .flatMap(({ watermark }) => watermark)
      .filter(({ index_uuid, shard, history_uuid }) => {
        // Without a history's name nothing says that the numbers are of the same one.
        return (
          index_uuid === mark.index_uuid &&
          shard === mark.shard &&
          history_uuid !== null &&
          history_uuid === mark.history_uuid
        );
      })
      .map(({ checkpoint, processed }) => processed ?? checkpoint);
    return { ...mark, checkpoint: Math.min(mark.checkpoint, Math.max(-1, ...seen)), processed: mark.checkpoint };
  });
}

/** Elasticsearch's time value in milliseconds; endless where the index is never refreshed by itself. */
function refreshIntervalMs(setting: unknown): number {
  if (setting === undefined) return REFRESH_INTERVAL_DEFAULT_MS;
  const match = /^(\d+(?:\.\d+)?)(nanos|micros|ms|s|m|h|d)$/.exec(typeof setting === "string" ? setting : "");
  if (match === null) return Number.POSITIVE_INFINITY;
  const unitMs = { nanos: 1e-6, micros: 1e-3, ms: 1, s: 1_000, m: 60_000, h: 3_600_000, d: 86_400_000 }[match[2] ?? ""];
  return unitMs === undefined ? Number.POSITIVE_INFINITY : Number(match[1]) * unitMs;
}

/** Whether points in time are not to be had here at all: an old version, or credentials without them. */
function isPitRefused(error: unknown, points: readonly Point[]): boolean {
  if (points.length > 0 || !(error instanceof ToolError)) return false;
  const { status } = error.details;
  return isRefusal(error) || status === 405 || (status === 400 && error.code !== "query_invalid");
}

/**
 * One scroll per index instead, opened when its turn comes. A scroll cannot be resumed, and what an index holds is
 * settled only by its first page: the counts here are of a moment earlier.
 */
async function planScrolls(options: SnapshotOptions, watermark: Watermark, warnings: string[]): Promise<Snapshot> {
  const { elasticsearch, indices, signal } = options;
  const points: Point[] = [];
  for (const [position, index] of indices.entries()) {
    const filters = pointFilters(options, index, null);
    const query = pointQuery(options.query, { filters });
    const answer = countSchema.parse(
      await elasticsearch.json({ method: "POST", path: [index.name, "_count"], body: { query } }, { signal }),
    );
    points.push({
      index: position,
      shard: null,
      pit_id: "",
      slices: 1,
      documents: answer.count,
      filters,
      page_documents_max: SCROLL_DOCUMENTS,
    });
  }
  return {
    method: "scroll",
    pitTime: new Date().toISOString(),
    points,
    documents: points.map(({ documents }) => documents),
    watermark,
    warnings: [...warnings, "Points in time are not available, so each index was read by a scroll of its own."],
  };
}

const countSchema = z.object({ count: z.int() });

/** Documents of a scroll's page, which is the same to its end: small, because they may be large. */
const SCROLL_DOCUMENTS = 500;

/**
 * Slices per point: each covers at most about 100 000 documents of one shard, because a page costs its whole slice. Two
 * at least, so that Elasticsearch reads one while the other's documents are written.
 */
export function slicesFor(options: { documents: number; shards: number; largest: number }): number {
  const { documents, shards, largest } = options;
  if (documents <= UNSLICED_DOCUMENTS_MAX) return 1;
  return Math.max(2, shards * Math.ceil(Math.min(largest, documents) / SLICE_DOCUMENTS));
}

/** What a point is read by besides the caller's query: the alias's filter, and the range of sequence numbers that are new. */
function pointFilters({ since }: SnapshotOptions, index: ResolvedIndex, shard: number | null): unknown[] {
  const filter: unknown[] = [];
  if (index.aliasFilter !== undefined) filter.push(index.aliasFilter);
  const mark = since?.find((candidate) => candidate.index_uuid === index.uuid && candidate.shard === shard);
  if (mark !== undefined) filter.push({ range: { _seq_no: { gt: mark.checkpoint } } });
  return filter;
}

/** The whole query of a point, given the caller's. */
export function pointQuery(query: unknown, { filters }: Pick<Point, "filters">): unknown {
  const wanted = query ?? { match_all: {} };
  return filters.length === 0 ? wanted : { bool: { filter: [wanted, ...filters] } };
}

/** Lets go of points in time. What is gone already needs no closing, so nothing here fails. */
export async function closePoints(elasticsearch: Elasticsearch, points: readonly Point[]): Promise<void> {
  const signal = AbortSignal.timeout(CLOSE_TIMEOUT_MS);
  for (const { pit_id } of points) {
    if (pit_id === "") continue;
    await elasticsearch.bytes({ method: "DELETE", path: ["_pit"], body: { id: pit_id } }, { signal }).catch(() => {});
  }
}

/** Time for closing what was opened, in milliseconds: it must end within a server's way out. */
export const CLOSE_TIMEOUT_MS = 2_000;

/** What the requests share that open and count a point. */
interface AskOptions {
  query: unknown;
  keepAlive: string;
  signal: AbortSignal;
}

async function openPoint(
  elasticsearch: Elasticsearch,
  { index, shard }: { index: string; shard: number | null },
  { keepAlive, signal }: AskOptions,
): Promise<string> {
  const answer = await elasticsearch.json(
    {
      method: "POST",
      path: [index, "_pit"],
      query: { keep_alive: keepAlive, ...(shard === null ? {} : { preference: `_shards:${shard}` }) },
    },
    { signal },
  );
  return pitSchema.parse(answer).id;
}

async function countPoint(
  elasticsearch: Elasticsearch,
  point: Point,
  { query, keepAlive, signal }: AskOptions,
): Promise<number> {
  const answer = totalSchema.parse(
    await elasticsearch.json(
      {
        method: "POST",
        path: ["_search"],
        query: { allow_partial_search_results: "false" },
        body: {
          size: 0,
          track_total_hits: true,
          query: pointQuery(query, point),
          pit: { id: point.pit_id, keep_alive: keepAlive },
        },
      },
      { signal },
    ),
  );
  if (answer.timed_out || answer._shards.failed > 0) {
    throw new ToolError("shards_failed", "Not every shard of the index answers.", {
      retryable: true,
      next: "Look at the health of the index with list_indices, then call again.",
      details: { failed: answer._shards.failed },
    });
  }
  if (answer.pit_id !== undefined) point.pit_id = answer.pit_id;
  return answer.hits.total.value;
}

/** Keeps the points that are not being read alive, and extends their life from the first short one. */
export async function touchPoints(
  elasticsearch: Elasticsearch,
  points: readonly Point[],
  signal: AbortSignal,
): Promise<void> {
  for (const point of points) {
    if (point.pit_id === "") continue;
    await elasticsearch.bytes(
      {
        method: "POST",
        path: ["_search"],
        query: { allow_partial_search_results: "false" },
        body: {
          // Not match_none: a shard that cannot match is skipped, and then nothing is kept alive.
          size: 0,
          track_total_hits: false,
          terminate_after: 1,
          query: { match_all: {} },
          pit: { id: point.pit_id, keep_alive: KEEP_ALIVE },
        },
      },
      { signal },
    );
  }
}

/** As many slices as Elasticsearch takes: it may cap them below what the size of the index wants. */
async function usableSlices(
  elasticsearch: Elasticsearch,
  point: Point,
  wanted: number,
  { keepAlive, signal }: AskOptions,
): Promise<number> {
  let slices = wanted;
  while (slices > SLICES_UNTRIED_MAX) {
    try {
      await elasticsearch.bytes(
        {
          method: "POST",
          path: ["_search"],
          body: {
            size: 0,
            track_total_hits: false,
            terminate_after: 1,
            query: { match_all: {} },
            slice: { id: 0, max: slices },
            pit: { id: point.pit_id, keep_alive: keepAlive },
          },
        },
        { signal },
      );
      return slices;
    } catch (error) {
      if (!(error instanceof ToolError) || error.code !== "query_invalid") throw error;
      slices = Math.max(SLICES_UNTRIED_MAX, slices >> 1);
    }
  }
  return slices;
}

/** The shards' sizes and checkpoints, by index uuid and shard. Empty where the credentials may not see them. */
async function readShards(
  elasticsearch: Elasticsearch,
  indices: readonly ResolvedIndex[],
  signal: AbortSignal,
  warnings: string[],
): Promise<Map<string, ShardState>> {
  const shards = new Map<string, ShardState>();
  const terms = await readPrimaryTerms(elasticsearch, indices, signal);
  for (const index of indices) {
    try {
      const stats = statsSchema.parse(
        await elasticsearch.json(
          {
            method: "GET",
            path: [index.name, "_stats", "docs"],
            query: { level: "shards", filter_path: "indices.*.uuid,indices.*.shards" },
          },
          { signal },
        ),
      );
      for (const [shard, copies] of Object.entries(stats.indices[index.name]?.shards ?? {})) {
        const primary = copies.find(({ routing }) => routing.primary);
        if (primary === undefined) continue;
        shards.set(shardKey(index.uuid, Number(shard)), {
          documents: (primary.docs?.count ?? 0) + (primary.docs?.deleted ?? 0),
          // The global checkpoint: what every copy has processed, whichever of them the point in time is of.
          watermark:
            primary.seq_no === undefined
              ? undefined
              : {
                  index_uuid: index.uuid,
                  shard: Number(shard),
                  primary_term: terms.get(index.name)?.[shard] ?? 0,
                  checkpoint: primary.seq_no.global_checkpoint,
                  history_uuid: primary.commit?.user_data?.history_uuid ?? null,
                },
        });
      }
    } catch (error) {
      if (!isRefusal(error)) throw error;
      warnings.push(
        "The credentials may not read index statistics, so this export has no watermark and slices are a guess.",
      );
      return new Map();
    }
  }
  return shards;
}

async function readPrimaryTerms(
  elasticsearch: Elasticsearch,
  indices: readonly ResolvedIndex[],
  signal: AbortSignal,
): Promise<Map<string, Record<string, number>>> {
  const wanted = new Set(indices.map(({ name }) => name));
  try {
    const state = termsSchema.parse(
      await elasticsearch.json(
        {
          method: "GET",
          path: ["_cluster", "state", "metadata"],
          query: { filter_path: "metadata.indices.*.primary_terms" },
        },
        { signal },
      ),
    );
    return new Map(
      Object.entries(state.metadata?.indices ?? {})
        .filter(([name]) => wanted.has(name))
        .map(([name, { primary_terms }]) => [name, primary_terms]),
    );
  } catch (error) {
    if (!isRefusal(error)) throw error;
    return new Map();
  }
}

/** Makes every operation so far visible. False where the credentials do not permit it or a shard does not follow. */
async function refresh(
  elasticsearch: Elasticsearch,
  indices: readonly ResolvedIndex[],
  signal: AbortSignal,
): Promise<boolean> {
  try {
    for (const { name } of indices) {
      const answer = refreshSchema.parse(
        await elasticsearch.json({ method: "POST", path: [name, "_refresh"] }, { signal }),
      );
      if (answer._shards.failed > 0) return false;
    }
    return true;
  } catch (error) {
    if (!isRefusal(error)) throw error;
    return false;
  }
}

/** Sequence numbers say what is new only within one history of the same shards. */
function refuseBrokenHistory(
  indices: readonly ResolvedIndex[],
  since: Watermark,
  shards: ReadonlyMap<string, ShardState>,
): void {
  const known = new Map(since.map((mark) => [shardKey(mark.index_uuid, mark.shard), mark]));
  if (!indices.some(({ uuid }) => since.some(({ index_uuid }) => index_uuid === uuid))) {
    throw new ToolError("since_history_changed", "None of the indices is in the earlier export.", {
      next: "Export without since: a full export.",
      details: { indices: indices.slice(0, 20).map(({ name }) => name) },
    });
  }
  for (const index of indices) {
    const before = since.filter(({ index_uuid }) => index_uuid === index.uuid);
    // An index that is new since then, as after a rollover, is exported whole.
    if (before.length === 0) continue;
    for (let shard = 0; shard < index.shards; shard++) {
      const mark = known.get(shardKey(index.uuid, shard));
      const now = shards.get(shardKey(index.uuid, shard))?.watermark;
      const broken =
        mark === undefined ||
        now === undefined ||
        now.checkpoint < mark.checkpoint ||
        now.primary_term < mark.primary_term ||
        (mark.history_uuid === null ? now.primary_term !== mark.primary_term : now.history_uuid !== mark.history_uuid);
      if (broken) {
        throw new ToolError("since_history_changed", "The index has another history than when that export was made.", {
          next: "Export without since: a full export.",
          details: { index: index.name, shard },
        });
      }
    }
  }
}

function largestShard(
  index: ResolvedIndex,
  shard: number | null,
  shards: ReadonlyMap<string, ShardState>,
): number | undefined {
  const wanted = shard === null ? Array.from({ length: index.shards }, (_, at) => at) : [shard];
  const sizes = wanted.map((at) => shards.get(shardKey(index.uuid, at))?.documents);
  return sizes.includes(undefined) ? undefined : Math.max(...sizes.map((size) => size ?? 0));
}

function shardKey(uuid: string, shard: number): string {
  return `${uuid}/${shard}`;
}

/** Whether Elasticsearch refused the request itself, so that doing without may be right. */
function isRefusal(error: unknown): boolean {
  return error instanceof ToolError && (error.code === "forbidden" || error.code === "not_allowed");
}
