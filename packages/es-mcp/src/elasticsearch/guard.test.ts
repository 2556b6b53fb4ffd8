import { ToolError } from "@es-to-pg/mcp-kit";
import { expect, test } from "vitest";
import { guardBody } from "./guard.ts";

function codeOf(body: unknown): string | undefined {
  try {
    guardBody(body);
    return undefined;
  } catch (error) {
    return error instanceof ToolError ? error.code : String(error);
  }
}

const script = { source: "doc['x'].value" };

test.each([
  ["a script query", { query: { script: { script } } }],
  ["a script score", { query: { function_score: { functions: [{ script_score: { script } }] } } }],
  ["a script field", { script_fields: { a: { script } } }],
  ["a runtime field", { runtime_mappings: { a: { type: "long", script } } }],
  ["a script sort", { sort: [{ _script: { type: "number", script } }] }],
  ["a scripted metric", { aggs: { a: { scripted_metric: { map_script: "1" } } } }],
  ["a value script in an aggregation", { aggs: { a: { terms: { field: "x", script } } } }],
  ["a short script in an aggregation", { aggs: { a: { terms: { script: "doc['x'].value" } } } }],
  ["a script in a range aggregation", { aggs: { a: { range: { script, ranges: [] } } } }],
  ["a bucket script", { aggs: { a: { bucket_script: { buckets_path: {}, script: "1" } } } }],
  ["a terms set script", { query: { terms_set: { a: { terms: ["x"], minimum_should_match_script: script } } } }],
  ["a script deep inside", { query: { bool: { must: [{ nested: { path: "a", query: { script: { script } } } }] } } }],
  ["a script in one line of many", [{ index: "a" }, { query: { script: { script } } }]],
])("refuses %s", (_what, body) => {
  expect(codeOf(body)).toBe("script_refused");
});

test.each([
  ["a terms lookup", { query: { terms: { user: { index: "users", id: "1", path: "friends" } } } }],
  ["an indexed shape", { query: { geo_shape: { area: { indexed_shape: { id: "1" } } } } }],
  ["a liked document", { query: { more_like_this: { fields: ["a"], like: [{ _index: "users", _id: "1" }] } } }],
  ["a percolated document", { query: { percolate: { field: "q", index: "users", id: "1" } } }],
  [
    "a terms lookup on a field called sort",
    { query: { terms: { sort: { index: "users", id: "1", path: "friends" } } } },
  ],
  ["a terms lookup by names of other kinds", { query: { terms: { user: { index: 7, id: true, path: "friends" } } } }],
  [
    "a vector that is looked up",
    { query: { knn: { query_vector_builder: { lookup: { index: "a", id: 1, path: "v" } } } } },
  ],
  [
    "a liked document with an id that is no text",
    { query: { more_like_this: { like: [{ _index: "users", _id: true }] } } },
  ],
  [
    "a made-up document among those of another index",
    { query: { more_like_this: { unlike: { _index: "users", doc: {} } } } },
  ],
  ["a liked document that is the only one", { query: { more_like_this: { like: { _index: "users" } } } }],
  [
    "a percolated document with an id that is no text",
    { query: { percolate: { field: "q", index: "users", id: true } } },
  ],
  ["a lookup field", { runtime_mappings: { a: { type: "lookup", target_index: "users" } } }],
])("refuses %s", (_what, body) => {
  expect(codeOf(body)).toBe("lookup_refused");
});

test("refuses a query in base64, in which a script or a lookup could hide", () => {
  const hidden = Buffer.from(JSON.stringify({ script: { script } })).toString("base64");
  expect(codeOf({ query: { bool: { must: [{ wrapper: { query: hidden } }] } } })).toBe("wrapper_refused");
});

test.each([
  ["a field called wrapper", { query: { match: { wrapper: { query: "paper" } } } }],
  ["an aggregation called wrapper", { aggs: { wrapper: { terms: { field: "a" } } } }],
  ["a field called script", { query: { match: { script: "hamlet" } } }],
  [
    "a field called size",
    { query: { bool: { must: [{ term: { size: 60_000 } }, { range: { size: { gte: 60_000 } } }] } } },
  ],
  ["terms of a field called script", { query: { terms: { script: ["hamlet"] } } }],
  ["a range of a field called script", { query: { range: { script: { gte: 1 } } } }],
  ["fields called index and id", { query: { bool: { must: [{ term: { index: "a" } }, { term: { id: "b" } }] } } }],
  ["aggregations called index and id", { aggs: { index: { terms: { field: "a" } }, id: { terms: { field: "b" } } } }],
  ["aggregations called index, id and path", { aggs: { index: {}, id: {}, path: {} } }],
  ["a sort by index and id", { sort: { index: "asc", id: "desc" } }],
  ["a sort by index, id and path", { sort: { index: "asc", id: "desc", path: "asc" } }],
  ["a runtime field without a script", { runtime_mappings: { a: { type: "long" } } }],
  ["a text that speaks of scripts", { query: { query_string: { query: "script:1" } } }],
  ["nothing", undefined],
])("lets pass %s", (_what, body) => {
  expect(codeOf(body)).toBeUndefined();
});

test.each(["query_string", "simple_query_string"])("refuses a %s of parentheses that end Elasticsearch", (clause) => {
  // Nested by real parentheses, and seemingly closed by quoted ones.
  const query = (depth: number) => ({ query: { bool: { must: [{ [clause]: { query: '(")"'.repeat(depth) } }] } } });
  expect(codeOf(query(201))).toBe("query_invalid");
  expect(codeOf(query(200))).toBeUndefined();
});

test.each([
  ["a query string of a hundred thousand words", { query: { query_string: { query: "a ".repeat(100_000) } } }],
  ["a bucket pattern that nests without end", { aggs: { a: { terms: { field: "k", include: "(".repeat(5_000) } } } }],
  ["buckets without end", { aggs: { a: { terms: { field: "k", size: 2_147_483_647 } } } }],
  ["buckets without end, in quotation marks", { aggs: { a: { terms: { field: "k", size: "2147483647" } } } }],
  [
    "percentiles whose memory nobody counts",
    { aggs: { a: { terms: { field: "k" }, aggs: { b: { percentiles: { field: "n", hdr: {} } } } } } },
  ],
  [
    "ranges without end",
    { aggs: { a: { range: { field: "n", ranges: Array.from({ length: 1_001 }, () => ({ from: 1 })) } } } },
  ],
  ["buffers without end", { aggs: { a: { variable_width_histogram: { field: "n", initial_buffer: 1e9 } } } }],
  [
    "a regular expression without a limit of memory",
    { query: { regexp: { term: { value: "a", max_determinized_states: 2e9 } } } },
  ],
])("refuses %s, which would end Elasticsearch", (_what, body) => {
  expect(codeOf(body)).toBe("query_invalid");
});

/** As many clauses of this kind in one query. */
function bool(count: number, clause: unknown) {
  return { query: { bool: { should: Array.from({ length: count }, () => clause) } } };
}

test("refuses more patterns than Elasticsearch can make automata of, wherever they stand", () => {
  const short = { wildcard: { k: "*a*" } };
  expect(codeOf(bool(100, short))).toBeUndefined();
  expect(codeOf(bool(101, short))).toBe("query_invalid");
  expect(codeOf(bool(101, { regexp: { k: { value: "a.*" } } }))).toBe("query_invalid");
  expect(codeOf(bool(1, { query_string: { query: "k:a* AND *b* (c~ OR /d/)".repeat(9) } }))).toBe("query_invalid");
  expect(codeOf(bool(1, { query_string: { query: "k:a* AND *b* AND price:[1 TO *]" } }))).toBeUndefined();
  expect(codeOf(bool(1, { match: { t: { query: "a ".repeat(101), fuzziness: "AUTO" } } }))).toBe("query_invalid");
  expect(codeOf(bool(101, { match: { wildcard: "a" } }))).toBeUndefined();
});

/** Buckets of this number, each with these aggregations in it. */
function outer(size: unknown, aggs: unknown) {
  return { aggs: { a: { terms: { field: "k", size }, aggs } } };
}

test("refuses many buckets that are each divided again, however they are nested", () => {
  const inner = { b: { terms: { field: "k" } } };
  expect(codeOf(outer(20_000, inner))).toBeUndefined();
  expect(codeOf(outer(20_001, inner))).toBe("query_invalid");
  expect(codeOf(outer("20001", { one: { filter: { match_all: {} }, aggregations: inner } }))).toBe("query_invalid");
  expect(codeOf(outer(200, { a: { composite: { size: 200, sources: [] }, aggs: inner } }))).toBe("query_invalid");
  expect(codeOf(outer(200, { a: { terms: { field: "k" }, aggs: inner } }))).toBeUndefined();
  // A figure of each bucket divides nothing.
  expect(codeOf(outer(50_000, { b: { sum: { field: "n" } } }))).toBeUndefined();
});

test("is broken by no value where a number belongs", () => {
  const size = { toString: 1, valueOf: null };
  expect(codeOf({ aggs: { a: { terms: { field: "k", size }, aggs: { b: { terms: { size } } } } } })).toBeUndefined();
});

test("refuses nesting without end", () => {
  let query: unknown = { match_all: {} };
  for (let depth = 0; depth < 200; depth += 1) query = { bool: { must: [query] } };
  expect(codeOf({ query })).toBe("query_invalid");
});
