import { ToolError } from "@es-to-pg/mcp-kit";
import { array, assert, constantFrom, dictionary, letrec, nat, oneof, property, tuple } from "fast-check";
import { expect, it } from "vitest";
import { guardBody } from "../src/elasticsearch/guard.ts";

/** Inputs of one property; a failure prints the seed that finds it again. */
const numRuns = Number(process.env["FUZZ_RUNS"] ?? 1_000_000);

/** Words that mean something somewhere in a request body, and names that people give to fields and aggregations. */
const words = [
  ..."query,bool,must,filter,should,must_not,match,term,terms,range,sort,aggs,aggregations,nested,path,field,size".split(
    ",",
  ),
  ..."function_score,functions,filters,properties,wildcard,regexp,value,id,index,_index,_id,script,source,lang".split(
    ",",
  ),
  ..."runtime_mappings,type,query_string,include,constant_score,boost,has_child,top_hits,composite,sources,__proto__".split(
    ",",
  ),
];
const scalars = constantFrom<unknown>(1, true, null, "", "a", "1 + 1", "doc['a'].value", "painless", "users", "1");

const { body } = letrec((tie) => ({
  body: oneof(
    { maxDepth: 6, withCrossShrink: true },
    scalars,
    array(tie("body"), { maxLength: 3 }),
    dictionary(constantFrom(...words), tie("body"), { maxKeys: 4 }),
  ),
}));
const bodies = dictionary(constantFrom(...words), body, { minKeys: 1, maxKeys: 4 });

/** Code, in every form in which Elasticsearch takes it, and documents of other indices. */
const forbidden = constantFrom<Record<string, unknown>>(
  { script: { script: { source: "1 + 1" } } },
  { script: { script: "1 + 1" } },
  { bool: { filter: { script: { script: { id: "stored" } } } } },
  { script_score: { query: { match_all: {} }, script: { source: "1" } } },
  { function_score: { script_score: { script: "1" } } },
  { function_score: { functions: [{ script_score: { script: { source: "1" } } }] } },
  { terms_set: { a: { terms: ["x"], minimum_should_match_script: { source: "1" } } } },
  { intervals: { a: { match: { query: "x", filter: { script: { source: "1" } } } } } },
  { avg: { script: { source: "1" } } },
  { terms: { script: { source: "1" } } },
  { terms: { script: "1" } },
  { range: { script: { source: "1" } } },
  { scripted_metric: { map_script: "1" } },
  { bucket_script: { buckets_path: {}, script: "1" } },
  { bucket_selector: { buckets_path: {}, script: "1" } },
  { weighted_avg: { value: { script: "1" } } },
  { composite: { sources: [{ a: { terms: { script: "1" } } }] } },
  { _script: { type: "number", script: "1" } },
  { runtime_mappings: { a: { type: "long", script: "emit(1)" } } },
  { runtime_mappings: { a: { type: "lookup", target_index: "users" } } },
  { script_fields: { a: { script: "1" } } },
  { wrapper: { query: "e30=" } },
  { terms: { user: { index: "users", id: "1", path: "friends" } } },
  { geo_shape: { area: { indexed_shape: { index: "users", id: "1" } } } },
  { more_like_this: { like: [{ _index: "users", _id: "1" }] } },
  { percolate: { field: "q", index: "users", id: "1" } },
  { terms: { sort: { index: "users", id: "1", path: "friends" } } },
  { more_like_this: { unlike: { _index: "users", doc: {} } } },
  { filters: { filters: { match: { script: { script: { source: "1" } } } } } },
  { filters: { filters: { sort: { terms: { properties: { index: "users", id: "1", path: "friends" } } } } } },
  { terms: { field: "a", size: 1e6 } },
  { percentiles: { field: "a", hdr: {} } },
);

function isRefused(value: unknown): boolean {
  try {
    guardBody(value);
    return false;
  } catch (error) {
    if (error instanceof ToolError) return true;
    throw error;
  }
}

/** Where a clause can be put: objects and lists, and not the value of a field's name. */
function placesIn(value: unknown, parent: string): { put(clause: Record<string, unknown>): void }[] {
  if (typeof value !== "object" || value === null) return [];
  const isClause = ["bool", "must", "filter", "should", "must_not", "query", "aggs", "functions", ""].includes(parent);
  const own = Array.isArray(value)
    ? [{ put: (clause: Record<string, unknown>) => void value.push(clause) }]
    : [{ put: (clause: Record<string, unknown>) => void Object.assign(value, clause) }];
  return [
    ...(isClause ? own : []),
    ...Object.entries(value).flatMap(([key, member]) => placesIn(member, Array.isArray(value) ? parent : key)),
  ];
}

it("lets no code and no foreign document pass, wherever they stand", () => {
  assert(
    property(tuple(bodies, forbidden, nat()), ([around, clause, place]) => {
      const whole: unknown = JSON.parse(JSON.stringify(around));
      const places = placesIn(whole, "");
      places[place % places.length]?.put(clause);
      expect(isRefused(whole)).toBe(true);
    }),
    { numRuns },
  );
});

it("ends on any body with a verdict, the same for the same body", () => {
  assert(
    property(bodies, (given) => {
      expect(isRefused(given)).toBe(isRefused(JSON.parse(JSON.stringify(given))));
    }),
    { numRuns },
  );
});
