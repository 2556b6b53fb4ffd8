import { ToolError } from "@es-to-pg/mcp-kit";
import { expect, test } from "vitest";
import { refuseLookingPast, targetsOf } from "./targets.ts";

function index(name: string, more: { dataStream?: string; aliasFilter?: unknown } = {}) {
  return { name, hidden: false, aliases: [], dataStream: null, ...more };
}

const query = { term: { a: 1 } };

test("names concrete indices and leaves the query alone", () => {
  expect(targetsOf([index("a"), index("b")], query)).toEqual({ path: "a,b", query, narrowed: false });
  expect(targetsOf([index("a")], undefined)).toEqual({
    path: "a",
    query: { match_all: {} },
    narrowed: false,
  });
});

test("puts alias filters into the query, each for its own index", () => {
  const target = targetsOf([index("a"), index("b", { aliasFilter: { term: { public: true } } })], query);
  expect(target.narrowed).toBe(true);
  expect(target.query).toEqual({
    bool: {
      must: [query],
      filter: [
        {
          bool: {
            should: [
              { terms: { _index: ["a"] } },
              { bool: { filter: [{ term: { _index: "b" } }, { term: { public: true } }] } },
            ],
            minimum_should_match: 1,
          },
        },
      ],
    },
  });
});

test("a stream stands for its many backing indices, which the query lists", () => {
  const names = Array.from({ length: 200 }, (_, at) => `.ds-logs-application-2026.11.23-${at}`);
  const target = targetsOf(
    names.map((name) => index(name, { dataStream: "logs-application" })),
    query,
  );
  expect(target).toMatchObject({ path: "logs-application", narrowed: true });
  expect(target.query).toEqual({ bool: { must: [query], filter: [{ terms: { _index: names } }] } });
});

test("more indices than a request can name are an error", () => {
  const indices = Array.from({ length: 400 }, (_, at) => index(`an-index-with-a-long-name-${at}`));
  expect(() => targetsOf(indices, query)).toThrow(ToolError);
});

test.each([
  ["of all documents", { all: { global: {}, aggs: {} } }],
  ["of joined documents", { a: { terms: { field: "k" }, aggs: { b: { children: { type: "reply" } } } } }],
  ["of terms that no document of the query has", { a: { terms: { field: "k", min_doc_count: "0" } } }],
])("refuses aggregations %s, which look past the query", (_what, aggs) => {
  expect(() => refuseLookingPast(aggs)).toThrow(expect.objectContaining({ code: "aggregation_refused" }));
});

test("lets pass aggregations of the query's own documents, empty intervals among them", () => {
  const aggs = {
    a: { terms: { field: "k", min_doc_count: 1 } },
    b: { date_histogram: { field: "d", calendar_interval: "day", min_doc_count: 0 } },
  };
  expect(() => refuseLookingPast(aggs)).not.toThrow();
});
