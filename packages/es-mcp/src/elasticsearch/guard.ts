import { ToolError } from "@es-to-pg/mcp-kit";
import { isRecord } from "./record.ts";

/** Nesting that a request body may have; ours are shallow, and Elasticsearch's own limit for queries is 30. */
const DEPTH_MAX = 100;

/** Keys that carry code wherever they stand. */
const SCRIPT_KEYS = new Set([
  "_script",
  "script_fields",
  "script_score",
  "scripted_metric",
  "bucket_script",
  "bucket_selector",
  "init_script",
  "map_script",
  "combine_script",
  "reduce_script",
  "minimum_should_match_script",
  "weight_script",
]);

/** Clauses whose keys are names of fields, so that `script` in them is a field of that name. */
const FIELD_CLAUSES = new Set([
  "match",
  "match_phrase",
  "match_phrase_prefix",
  "match_bool_prefix",
  "term",
  "prefix",
  "wildcard",
  "regexp",
  "fuzzy",
  "sort",
  "properties",
]);

/** A clause whose query is base64 text, in which neither scripts nor look-ups could be seen. */
const OPAQUE_CLAUSE = "wrapper";

/** Clauses whose `query` is text in Lucene's syntax. */
const TEXT_CLAUSES = new Set(["query_string", "simple_query_string"]);

/**
 * Parentheses that such a text may open. Elasticsearch reads nested ones by recursion without a limit: some thousands
 * overflow its stack, which ends the whole node.
 */
const PARENTHESES_MAX = 200;

/** Characters of such a text. A phrase of 100,000 words took all memory of a small node. */
const TEXT_CHARACTERS_MAX = 10_000;

/** Characters of a pattern that chooses buckets: read by recursion too. Elasticsearch limits those of queries to 1,000. */
const PATTERN_CHARACTERS_MAX = 1_000;
const PATTERN_KEYS = new Set(["include", "exclude"]);

/**
 * Patterns and misspellings in one request. Elasticsearch makes an automaton of each before it looks at any time-out or
 * cancellation: hundreds took seconds, and 8,000 all memory of a small node.
 */
const AUTOMATA_MAX = 100;
const AUTOMATON_CLAUSES = new Set(["wildcard", "regexp", "fuzzy"]);
/** In a text each may be looked for in several fields. */
const AUTOMATA_OF_TEXT = 3;

/** What asks for many buckets, or hits in them: Elasticsearch builds them in memory before its own limit counts them. */
const BUCKET_KEYS = new Set([
  "size",
  "shard_size",
  "num_partitions",
  "buckets",
  "initial_buffer",
  "max_docs_per_value",
  "precision_threshold",
  "compression",
]);
const BUCKETS_MAX = 50_000;

/** Aggregations that make several buckets of one, or keep documents in it. */
const DIVIDING = new Set([
  "terms",
  "multi_terms",
  "rare_terms",
  "significant_terms",
  "significant_text",
  "categorize_text",
  "composite",
  "histogram",
  "date_histogram",
  "auto_date_histogram",
  "variable_width_histogram",
  "geohash_grid",
  "geotile_grid",
  "geohex_grid",
  "ip_prefix",
  "top_hits",
]);

/** Buckets of those of them whose number is theirs to say, where they say none. */
const BUCKETS_DEFAULT = 10;
const SIZED = new Set(["terms", "multi_terms", "significant_terms", "significant_text", "composite"]);

/**
 * Buckets that are each divided again. Elasticsearch walks over all inner buckets once for every outer one, and looks
 * neither at time-outs nor at cancellations meanwhile: 50,000 in 50,000 in 50,000 kept a node of 200,000 documents busy
 * for minutes after its caller had gone, and without memory for anybody else.
 */
const DIVIDED_MAX = 20_000;

/** Ranges of one aggregation: those that overlap count each document once for every one of them. */
const RANGES_MAX = 1_000;

/** Percentiles that take some megabytes for each bucket, which no circuit breaker counts: a small node ended by them. */
const UNCOUNTED_KEY = "hdr";

/** Raises the memory that a regular expression may take, up to all there is. */
const MEMORY_KEY = "max_determinized_states";

/** What makes an object under `range.script` code and no range. */
const SCRIPT_PARTS = new Set(["source", "inline", "id", "stored", "file", "lang", "params", "options"]);

/**
 * Refuses what a query may not do here: run scripts, and read documents of other indices than the ones it is sent to,
 * which neither aliases nor the allow and deny lists would see.
 */
export function guardBody(body: unknown): void {
  walk(body, "", 0);
  refuseDivided(body, 1);
  if (automataOf(body, "") > AUTOMATA_MAX) {
    throw tooCostly(
      `The query has too many patterns or fuzzy words; at most ${AUTOMATA_MAX} are taken, in texts fewer.`,
    );
  }
}

function walk(value: unknown, parent: string, depth: number): void {
  if (depth > DEPTH_MAX) {
    throw new ToolError("query_invalid", `The query is nested deeper than ${DEPTH_MAX} levels.`, {
      next: "Flatten the query.",
    });
  }
  if (Array.isArray(value)) {
    for (const item of value) walk(item, parent, depth + 1);
    return;
  }
  if (!isRecord(value)) return;
  refuseLookup(value, parent);
  if (TEXT_CLAUSES.has(parent)) refuseCostlyText(value["query"]);
  for (const [key, member] of Object.entries(value)) {
    if (key === MEMORY_KEY) throw tooCostly(`${MEMORY_KEY} is not taken.`);
    if (BUCKET_KEYS.has(key) && !FIELD_CLAUSES.has(parent) && asksForMore(member)) {
      throw tooCostly(`${key} is more than ${BUCKETS_MAX}.`);
    }
    if (PATTERN_KEYS.has(key) && typeof member === "string" && member.length > PATTERN_CHARACTERS_MAX) {
      throw tooCostly(`The pattern of ${key} has more than ${PATTERN_CHARACTERS_MAX} characters.`);
    }
    if (key === "ranges" && Array.isArray(member) && member.length > RANGES_MAX) {
      throw tooCostly(`The aggregation has more than ${RANGES_MAX} ranges.`);
    }
    if (key === UNCOUNTED_KEY && isRecord(member) && !FIELD_CLAUSES.has(parent)) {
      throw new ToolError("query_invalid", "Percentiles by hdr are not computed: each takes megabytes.", {
        next: "Leave hdr out: percentiles are then computed by t-digest.",
      });
    }
    if (key === OPAQUE_CLAUSE && isOpaque(parent, member)) throw wrapperRefused();
    if (SCRIPT_KEYS.has(key) || (key === "script" && !isField(parent, member))) throw scriptRefused(key);
    walk(member, key, depth + 1);
  }
}

function automataOf(value: unknown, parent: string): number {
  if (Array.isArray(value)) return value.reduce<number>((sum, item) => sum + automataOf(item, parent), 0);
  if (!isRecord(value)) return 0;
  let automata = AUTOMATON_CLAUSES.has(parent) ? 1 : 0;
  const text = value["query"];
  if (TEXT_CLAUSES.has(parent) && typeof text === "string") {
    automata += AUTOMATA_OF_TEXT * text.split(/[\s()]+/).filter((word) => /[*?~/]/.test(word)).length;
  }
  if (Object.hasOwn(value, "fuzziness") && typeof text === "string") automata += text.split(/\s+/).length;
  for (const [key, member] of Object.entries(value)) automata += automataOf(member, key);
  return automata;
}

/** `buckets` is how many there are of what stands here. */
function refuseDivided(value: unknown, buckets: number): void {
  if (Array.isArray(value)) for (const item of value) refuseDivided(item, buckets);
  if (!isRecord(value)) return;
  const [name, body] = Object.entries(value).find(([key]) => DIVIDING.has(key)) ?? [];
  const isDivision = name !== undefined && isRecord(body);
  if (isDivision && buckets > DIVIDED_MAX) {
    throw tooCostly(`More than ${DIVIDED_MAX} buckets would each be divided again.`);
  }
  const made = isDivision ? bucketsOf(name, body) : 1;
  for (const [key, member] of Object.entries(value)) {
    refuseDivided(member, key === "aggs" || key === "aggregations" ? buckets * made : buckets);
  }
}

/** Buckets that an aggregation is sure to be allowed to make; a histogram's are in its documents. */
function bucketsOf(name: string, { size, buckets }: Record<string, unknown>): number {
  const asked = Math.max(numberOf(size) ?? 0, numberOf(buckets) ?? 0);
  return asked > 0 ? asked : SIZED.has(name) ? BUCKETS_DEFAULT : 1;
}

function asksForMore(member: unknown): boolean {
  return (numberOf(member) ?? 0) > BUCKETS_MAX;
}

/** The number that Elasticsearch reads, which may stand in quotation marks; undefined for anything else. */
export function numberOf(value: unknown): number | undefined {
  const number = typeof value === "number" || typeof value === "string" ? Number(value) : Number.NaN;
  return Number.isNaN(number) ? undefined : number;
}

/** `terms` and `range` are clauses and aggregations at once: only what stands there tells a field from code. */
function isField(parent: string, member: unknown): boolean {
  if (FIELD_CLAUSES.has(parent)) return true;
  if (parent === "terms") return Array.isArray(member);
  return parent === "range" && isRecord(member) && !Object.keys(member).some((key) => SCRIPT_PARTS.has(key));
}

function refuseCostlyText(text: unknown): void {
  if (typeof text !== "string") return;
  if (text.length > TEXT_CHARACTERS_MAX) {
    throw tooCostly(`The query string has more than ${TEXT_CHARACTERS_MAX} characters.`);
  }
  // All that open, whether they close again or not: what stands in quotes could hide how deep they are.
  if (text.split("(").length - 1 > PARENTHESES_MAX) {
    throw tooCostly(`The query string has more than ${PARENTHESES_MAX} parentheses.`);
  }
}

function tooCostly(message: string): ToolError {
  return new ToolError("query_invalid", message, {
    next: "Write a shorter, flatter query; many values go into a terms query.",
  });
}

function isOpaque(parent: string, member: unknown): boolean {
  return !FIELD_CLAUSES.has(parent) && isRecord(member) && typeof member["query"] === "string";
}

/**
 * Terms lookup, indexed shapes, percolated and liked documents, and lookup runtime fields name an index of their own.
 * They are told by the members that each cannot do without: what `parent` is, the caller may have chosen.
 */
function refuseLookup(value: Record<string, unknown>, parent: string): void {
  const has = (key: string): boolean => Object.hasOwn(value, key);
  // Of these names there can be aggregations, which are objects, and fields to sort by.
  const names = (key: string): boolean => has(key) && typeof value[key] !== "object" && !isOrder(parent, value[key]);
  const isLookup =
    (names("index") && has("id") && (has("path") || parent !== "sort")) ||
    (names("_index") && (has("_id") || has("doc") || LIKED.has(parent))) ||
    (parent === "percolate" && has("index")) ||
    isRecord(value["indexed_shape"]) ||
    has("target_index");
  if (!isLookup) return;
  throw new ToolError("lookup_refused", "Queries that look up a document of another index are not run.", {
    next: "Read the document with get_document and put its values into the query.",
  });
}

/** Where documents stand that a query is to find more like. */
const LIKED = new Set(["like", "unlike"]);

function isOrder(parent: string, member: unknown): boolean {
  return parent === "sort" && (member === "asc" || member === "desc");
}

function wrapperRefused(): ToolError {
  return new ToolError("wrapper_refused", "Queries in base64 (wrapper) are not run.", {
    next: "Write the query itself, as JSON.",
  });
}

function scriptRefused(key: string): ToolError {
  return new ToolError("script_refused", "Scripts are not run by this server.", {
    next: "Use plain queries and aggregations; compute on the PostgreSQL side with a mapping's expression.",
    details: { key },
  });
}
