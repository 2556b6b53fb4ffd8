import { createHash } from "node:crypto";
import { ToolError } from "@es-to-pg/mcp-kit";
import { z } from "zod";
import type { Elasticsearch, IndexName, Names } from "./elasticsearch.ts";
import { isSql, unwrapped } from "./query-mistakes.ts";
import { isRecord } from "./record.ts";
import { readDocuments } from "./rewritten.ts";
import { refuseLookingPast, targetsOf } from "./targets.ts";

/** How long a snapshot waits for the next page. */
const KEEP_ALIVE = "1m";

/** How long letting go of a snapshot may keep an answer. */
const CLOSE_TIMEOUT_MS = 2_000;

/** Largest answer to one search, in bytes: documents are parsed here, so it bounds memory. */
const SEARCH_BYTES_MAX = 64 * 1024 * 1024;

/** A partial answer looks like a whole one; with this it is an error instead. */
const WHOLE_ANSWERS = { allow_partial_search_results: "false" };

/**
 * Where the next page goes on: in the same snapshot, after the last hit that was given out. Behind the first page of a
 * search by relevance, that is told by which hits were given, because the page was not sorted.
 */
export const positionSchema = z.strictObject({
  pit: z.string(),
  after: z.array(z.unknown()).optional(),
  first: z.string().optional(),
  total: z.int().nonnegative(),
  given: z.int().nonnegative(),
});

export type SearchPosition = z.output<typeof positionSchema>;

const snapshotSchema = z.object({ id: z.string() });

const totalSchema = z.object({ value: z.int().nonnegative() });

const hitSchema = z.object({
  _index: z.string(),
  _id: z.string(),
  _routing: z.string().optional(),
  _score: z.union([z.number(), z.string()]).nullish(),
  _seq_no: z.union([z.number(), z.string()]).optional(),
  _primary_term: z.union([z.number(), z.string()]).optional(),
  _version: z.union([z.number(), z.string()]).optional(),
  _source: z.unknown().optional(),
  highlight: z.record(z.string(), z.array(z.string())).optional(),
  sort: z.array(z.unknown()).optional(),
});

const answerSchema = z.object({
  pit_id: z.string().optional(),
  _shards: z.object({ failed: z.int() }),
  hits: z.object({ total: totalSchema.optional(), hits: z.array(hitSchema) }),
  aggregations: z.record(z.string(), z.unknown()).optional(),
});

export type SearchHit = z.output<typeof hitSchema>;

/** Tells one list of hits from every other. */
export function hitsDigest(hits: readonly SearchHit[]): string {
  const ids = hits.map(({ _index, _id }) => [_index, _id]);
  return createHash("sha256").update(JSON.stringify(ids)).digest("base64url");
}

export interface SearchRequest {
  indices: readonly IndexName[];
  query: Record<string, unknown> | undefined;
  sort: readonly unknown[];
  size: number;
  aggs: Record<string, unknown> | undefined;
  highlight: readonly string[];
  position: SearchPosition | undefined;
}

export interface SearchPage {
  total: number;
  hits: SearchHit[];
  aggregations: Record<string, unknown> | undefined;
  /** The snapshot, to be passed on or closed; none where only aggregations were asked or the credentials permit none. */
  pit: string | undefined;
  /** Whether the documents are not as they were stored, because a comment in one cannot be read otherwise. */
  rewritten: boolean;
}

/**
 * One page of a search by expression. Where every index may be read, a plain name is searched while it is being
 * expanded: in nearly every case it stands for open indices only, and where it does not, what was found is thrown away
 * and the rest searched anew. A name that has just been seen to be an index is expanded only if no hit proves it.
 */
export async function searchExpression(
  elasticsearch: Elasticsearch,
  expression: string,
  request: Omit<SearchRequest, "indices">,
  signal: AbortSignal,
): Promise<{ page: SearchPage; names: Names }> {
  const expand = (): Promise<Names> => elasticsearch.names(expression, { includeHidden: false, signal });
  // Aggregations tell no index, so that nothing would show an alias that has just been moved.
  const isForeseeable = isPlainName(expression) && request.position === undefined && request.aggs === undefined;
  if (elasticsearch.restricted || !isForeseeable) {
    const names = await expand();
    return { names, page: await searchPage(elasticsearch, { ...request, indices: names.indices }, signal) };
  }
  const asItIs = [{ name: expression, hidden: false, aliases: [], dataStream: null }];
  const recent = elasticsearch.recentIndex(expression);
  const [first, searched] = await Promise.allSettled([
    recent ?? expand(),
    searchPage(elasticsearch, { ...request, indices: asItIs }, signal),
  ]);
  const page = searched.status === "fulfilled" ? searched.value : undefined;
  if (recent !== undefined && page !== undefined && page.hits.length > 0 && areOnlyOf(recent, page.hits)) {
    return { names: recent, page };
  }
  const [expanded] = recent === undefined ? [first] : await Promise.allSettled([expand()]);
  if (expanded.status === "fulfilled" && expanded.value.isExact) {
    if (searched.status === "rejected") throw searched.reason;
    if (areOnlyOf(expanded.value, searched.value.hits)) return { names: expanded.value, page: searched.value };
  }
  if (page?.pit !== undefined) await closeSnapshot(elasticsearch, page.pit);
  if (expanded.status === "rejected") throw expanded.reason;
  const names = expanded.value;
  return { names, page: await searchPage(elasticsearch, { ...request, indices: names.indices }, signal) };
}

function areOnlyOf({ indices }: Names, hits: readonly SearchHit[]): boolean {
  const known = new Set(indices.map(({ name }) => name));
  return hits.every(({ _index }) => known.has(_index));
}

function isPlainName(expression: string): boolean {
  return /^[a-z0-9][^*,:\s]*$/.test(expression);
}

/** One page of a search in a snapshot of its own, or in the one that `position` names. */
async function searchPage(
  elasticsearch: Elasticsearch,
  request: SearchRequest,
  signal: AbortSignal,
): Promise<SearchPage> {
  const { indices, size, aggs, highlight, position } = request;
  const { path, query, narrowed } = targetsOf(indices, request.query);
  if (narrowed) refuseLookingPast(aggs);
  let pit = position?.pit ?? (size === 0 ? undefined : await openSnapshot(elasticsearch, path, signal));
  try {
    const place = position === undefined ? undefined : await placeOf(elasticsearch, query, position, signal);
    pit = place?.pit ?? pit;
    const sort = sortOf(request, pit !== undefined);
    const body = {
      query,
      size,
      // The total is exact, and of the same snapshot; later pages carry it along.
      track_total_hits: position === undefined,
      ...(size === 0 || sort === undefined ? {} : { sort }),
      ...(place === undefined ? {} : { search_after: place.after }),
      ...(aggs === undefined || position !== undefined ? {} : { aggs }),
      ...(highlight.length === 0
        ? {}
        : { highlight: { fields: Object.fromEntries(highlight.map((field) => [field, {}])) } }),
      ...(pit === undefined ? {} : { pit: { id: pit, keep_alive: KEEP_ALIVE } }),
    };
    const read = await readDocuments(
      elasticsearch,
      { method: "POST", path: pit === undefined ? [path, "_search"] : ["_search"], query: WHOLE_ANSWERS, body },
      { signal, bytesMax: SEARCH_BYTES_MAX },
    );
    const answer = answerSchema.parse(read.answer);
    if (answer._shards.failed > 0) throw incomplete(answer._shards.failed);
    return {
      total: position?.total ?? answer.hits.total?.value ?? 0,
      hits: answer.hits.hits,
      aggregations: answer.aggregations,
      pit: answer.pit_id ?? pit,
      rewritten: read.rewritten,
    };
  } catch (error) {
    if (pit !== undefined) await closeSnapshot(elasticsearch, pit);
    if (position !== undefined && error instanceof ToolError && error.code === "search_context_missing") {
      throw cursorExpired();
    }
    throw error;
  }
}

/** The sort values of the last hit that was given out, and the snapshot as it is called by now. */
async function placeOf(
  elasticsearch: Elasticsearch,
  query: Record<string, unknown>,
  { pit, after, first, given }: SearchPosition,
  signal: AbortSignal,
): Promise<{ pit: string; after: readonly unknown[] }> {
  if (after !== undefined) return { pit, after };
  const body = {
    query,
    size: given,
    track_total_hits: false,
    sort: [...BY_RELEVANCE, LAST_RESORT],
    _source: false,
    pit: { id: pit, keep_alive: KEEP_ALIVE },
  };
  const answer = answerSchema.parse(
    await elasticsearch.json({ method: "POST", path: ["_search"], query: WHOLE_ANSWERS, body }, { signal }),
  );
  if (answer._shards.failed > 0) throw incomplete(answer._shards.failed);
  const { hits } = answer.hits;
  const last = hits.at(-1)?.sort;
  // In a snapshot the same hits come first again; were it otherwise, some would be lost and others come twice.
  if (last === undefined || hitsDigest(hits) !== first) throw cursorExpired();
  return { pit: answer.pit_id ?? pit, after: last };
}

function cursorExpired(): ToolError {
  return new ToolError("cursor_expired", "The snapshot that the cursor belongs to is gone.", {
    next: "Call without cursor to start over; use bulk_export to read everything.",
  });
}

/** Lets go of a snapshot. It would end by itself within a minute, so a failure changes nothing. */
export async function closeSnapshot(elasticsearch: Elasticsearch, pit: string): Promise<void> {
  // Not the call's signal: a call that was cancelled lets go of its snapshot, too.
  const signal = AbortSignal.timeout(CLOSE_TIMEOUT_MS);
  await elasticsearch.json({ method: "DELETE", path: ["_pit"], body: { id: pit } }, { signal }).catch(() => {});
}

async function openSnapshot(
  elasticsearch: Elasticsearch,
  path: string,
  signal: AbortSignal,
): Promise<string | undefined> {
  try {
    const opened = await elasticsearch.json(
      { method: "POST", path: [path, "_pit"], query: { keep_alive: KEEP_ALIVE } },
      { signal },
    );
    return snapshotSchema.parse(opened).id;
  } catch (error) {
    // Without the right to open one, the first page is still an answer.
    if (error instanceof ToolError && error.code === "forbidden") return undefined;
    throw error;
  }
}

const BY_RELEVANCE = [{ _score: "desc" }];

/** Makes every order total; only a snapshot knows it. */
const LAST_RESORT = { _shard_doc: "asc" };

/** Undefined for the first page by relevance: Elasticsearch finds it sooner unsorted, in the same order. */
function sortOf({ sort, query, position }: SearchRequest, snapshot: boolean): unknown[] | undefined {
  const isRanked = sort.length === 0 && query !== undefined;
  if (isRanked && position === undefined) return undefined;
  const wanted = isRanked ? BY_RELEVANCE : sort;
  return snapshot ? [...wanted, LAST_RESORT] : wanted.length > 0 ? [...wanted] : ["_doc"];
}

/** Clauses of a sort. Models write `price:desc,name` as for Elasticsearch's query string, and `price desc` or `-price`, too. */
export function sortClauses(sort: unknown): unknown[] {
  const items = sort === undefined ? [] : [sort].flat();
  return items.flatMap((item) => (typeof item === "string" ? item.split(",").map(sortClause) : [item]));
}

/** By pieces and not by one expression, which would try every way to share out long blanks among its parts. */
function sortClause(text: string): unknown {
  const name = text.trim();
  const order = /(?:asc|desc)$/i.exec(name)?.[0];
  if (order !== undefined) {
    const before = name.slice(0, -order.length);
    const field = before.trimEnd().replace(/:$/, "").trimEnd();
    // Blanks or a colon part the two: `desc` alone is a field.
    if (field !== "" && field !== before) return { [field]: order.toLowerCase() };
  }
  return /^-./.test(name) ? { [name.slice(1)]: "desc" } : name;
}

/** Parts of a request's body that search_documents takes as arguments. */
const SEARCH_TAKES = ["aggs", "sort", "size", "fields"];

/** The query as the caller gave it: DSL, query string or both. */
export function queryOf(
  query: Record<string, unknown> | undefined,
  queryString: string | undefined,
): Record<string, unknown> | undefined {
  const dsl = unwrapped(query, SEARCH_TAKES);
  if (queryString !== undefined && isSql(queryString)) {
    // To Lucene these are words to look for, and it would find nearly everything.
    throw new ToolError("query_invalid", "query_string is Lucene syntax and not SQL.", {
      next: "Write conditions such as brand:acme AND price:>10, or Query DSL in query; choose fields, sort and size by the arguments of these names.",
    });
  }
  const text = queryString === undefined ? undefined : { query_string: { query: queryString } };
  if (dsl !== undefined && text !== undefined) return { bool: { must: [dsl, text] } };
  return dsl ?? text;
}

/** Models often send `{"aggs": {…}}` where what is in it is asked for. No type of aggregation has such a name. */
export function unwrappedAggs(aggs: Record<string, unknown> | undefined): Record<string, unknown> | undefined {
  const [only, ...others] = Object.entries(aggs ?? {});
  if (only === undefined || others.length > 0) return aggs;
  const [name, inner] = only;
  return (name === "aggs" || name === "aggregations") && isRecord(inner) ? inner : aggs;
}

/** The exact number of documents that match. */
export async function countDocuments(
  elasticsearch: Elasticsearch,
  indices: readonly IndexName[],
  query: Record<string, unknown> | undefined,
  signal: AbortSignal,
): Promise<number> {
  const { path, query: wanted } = targetsOf(indices, query);
  // Not `_count`, which takes no time limit.
  const answer = answerSchema.parse(
    await elasticsearch.json(
      {
        method: "POST",
        path: [path, "_search"],
        query: WHOLE_ANSWERS,
        body: { query: wanted, size: 0, track_total_hits: true },
      },
      { signal },
    ),
  );
  if (answer._shards.failed > 0 || answer.hits.total === undefined) throw incomplete(answer._shards.failed);
  return answer.hits.total.value;
}

function incomplete(failed: number): ToolError {
  return new ToolError(
    "incomplete_answer",
    "Elasticsearch could not search everything, so its figures are not whole.",
    {
      retryable: true,
      next: "Call again; if it stays, look at the health of the index with list_indices.",
      details: { shards_failed: failed },
    },
  );
}
