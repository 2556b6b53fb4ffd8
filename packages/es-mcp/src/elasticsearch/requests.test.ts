import { expect, test } from "vitest";
import type { EsRequest } from "./elasticsearch.ts";
import { inPaths, PATH_BYTES_MAX, pathOf } from "./requests.ts";

test("encodes segments, keeping commas and stars", () => {
  expect(pathOf({ method: "POST", path: ["a,b*", "_search"] })).toBe("/a,b*/_search");
  expect(pathOf({ method: "GET", path: ["products", "_doc", "a/b ?#%"] })).toBe("/products/_doc/a%2Fb%20%3F%23%25");
});

test.each<[string, EsRequest["method"], string[]]>([
  ["a write", "POST", ["products", "_doc", "1"]],
  ["a deletion", "DELETE", ["products"]],
  ["an update by query", "POST", ["products", "_update_by_query"]],
  ["a bulk request", "POST", ["_bulk"]],
  ["another API in place of the index", "POST", ["_all", "_search"]],
  ["another API among the indices", "POST", ["products,_cluster", "_search"]],
  ["an empty index", "POST", ["", "_search"]],
  ["a step up", "GET", ["..", "_mapping"]],
  ["a step up as an id", "GET", ["products", "_doc", ".."]],
  ["a setting of the cluster", "GET", ["_cluster", "settings"]],
  ["a metric that is a path", "GET", ["products", "_stats", "../_search"]],
])("%s never leaves", (_what, method, path) => {
  expect(() => pathOf({ method, path })).toThrow("is not a request of this server");
});

test("long lists of names are split into paths that Elasticsearch takes", () => {
  const names = Array.from({ length: 300 }, (_, at) => `.ds-logs-application-default-2026.11.23-${at}`);
  const paths = inPaths(names);
  expect(paths.length).toBeGreaterThan(1);
  expect(paths.join(",").split(",")).toEqual(names);
  for (const path of paths) expect(path.length).toBeLessThanOrEqual(PATH_BYTES_MAX);
});

test.each(["suggest", "runtime_mappings", "script_fields", "retriever", "rescore", "collapse", "knn", "fields", "ext"])(
  "lets no search out that has %s in it",
  (member) => {
    const body = { size: 0, [member]: { text: "a", b: { phrase: { field: "a", collate: { query: {} } } } } };
    expect(() => pathOf({ method: "POST", path: ["a", "_search"], body })).toThrow("is not part of a search");
  },
);
