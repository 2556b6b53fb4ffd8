import { ToolError } from "@es-to-pg/mcp-kit";
import { expect, test } from "vitest";
import { refuseGlobal, targetsOf } from "./targets.ts";

function index(name: string, more: { dataStream?: string; aliasFilter?: unknown } = {}) {
  return { name, hidden: false, aliases: [], dataStream: null, ...more };
}

const query = { term: { a: 1 } };

test("names concrete indices and leaves the query alone", () => {
  expect(targetsOf([index("a"), index("b")], query)).toEqual({ path: "a,b", query });
  expect(targetsOf([index("a")], undefined)).toEqual({ path: "a", query: { match_all: {} } });
});

test("puts alias filters into the query, each for its own index", () => {
  const target = targetsOf([index("a"), index("b", { aliasFilter: { term: { public: true } } })], query);
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
  expect(target.path).toBe("logs-application");
  expect(target.query).toEqual({ bool: { must: [query], filter: [{ terms: { _index: names } }] } });
});

test("more indices than a request can name are an error", () => {
  const indices = Array.from({ length: 400 }, (_, at) => index(`an-index-with-a-long-name-${at}`));
  expect(() => targetsOf(indices, query)).toThrow(ToolError);
});

test("a global aggregation, which ignores the query, is refused behind an alias filter only", () => {
  const aggs = { all: { global: {}, aggs: {} } };
  expect(() => refuseGlobal(aggs, [index("a", { aliasFilter: {} })])).toThrow("global aggregation");
  expect(() => refuseGlobal(aggs, [index("a")])).not.toThrow();
});
