import { ToolError } from "@es-to-pg/mcp-kit";
import { expect, test } from "vitest";
import { correctedQuery, explainingQuery, isSql, unwrapped } from "./query-mistakes.ts";

test("takes the query out of a body that holds nothing else, and names what else it holds", () => {
  const query = { match_all: {} };
  expect(unwrapped({ query })).toBe(query);
  expect(() => unwrapped({ query, size: 3, _source: ["id"] })).toThrow(
    expect.objectContaining({
      code: "query_invalid",
      details: { beside_query: ["size", "_source"] },
      instead: { arguments: { query } },
    }),
  );
});

test("moves the rest of a body to the arguments that the tool has for it", () => {
  const aggs = { brands: { terms: { field: "brand" } } };
  const body = { query: { match_all: {} }, aggregations: aggs, _source: ["id"], from: 10 };
  expect(() => unwrapped(body, ["aggs", "fields"])).toThrow(
    expect.objectContaining({ instead: { arguments: { query: { match_all: {} }, aggs, fields: ["id"] } } }),
  );
  // A body may have no query at all.
  expect(() => unwrapped({ aggs }, ["aggs"])).toThrow(
    expect.objectContaining({ instead: { arguments: { query: undefined, aggs } } }),
  );
});

test("takes a query for a query, whatever its fields are called", () => {
  const query = { match: { size: 3 } };
  expect(unwrapped(query)).toBe(query);
  expect(unwrapped({})).toBeUndefined();
});

test.each([
  ["a field where the kind stands", { brand: "acme" }, { match: { brand: "acme" } }],
  ["a field with several values", { brand: ["a", "b"] }, { terms: { brand: ["a", "b"] } }],
  ["a field with bounds", { price: { gte: 10, lt: 20 } }, { range: { price: { gte: 10, lt: 20 } } }],
  ["a misspelt kind", { mach: { name: "chair" } }, { match: { name: "chair" } }],
  ["a range without bounds", { range: { price: 100 } }, { range: { price: { gte: 100 } } }],
  [
    "several conditions side by side",
    { brand: "acme", range: { price: { gte: 10 } } },
    { bool: { filter: [{ match: { brand: "acme" } }, { range: { price: { gte: 10 } } }] } },
  ],
])("corrects %s", (_what, query, corrected) => {
  expect(correctedQuery(query)).toEqual(corrected);
});

test.each([{}, { match: { name: 5 } }, { range: { price: { gte: 1 } } }, { zzz: { qqq: 1 } }])(
  "does not guess at %j",
  (query) => {
    expect(correctedQuery(query)).toBeUndefined();
  },
);

function failing(code: string) {
  return async () => {
    throw new ToolError(code, "No.", { details: { status: 400 } });
  };
}

test("adds the corrected query to a refusal of the query, and to no other failure", async () => {
  await expect(explainingQuery({ brand: "acme" }, failing("query_invalid"))).rejects.toMatchObject({
    code: "query_invalid",
    details: { status: 400 },
    instead: { arguments: { query: { match: { brand: "acme" } } } },
  });
  await expect(explainingQuery({ brand: "acme" }, failing("busy"))).rejects.toMatchObject({ instead: undefined });
  await expect(explainingQuery({ match_all: {} }, failing("query_invalid"))).rejects.toMatchObject({
    instead: undefined,
  });
});

test("knows SQL from Lucene", () => {
  expect(isSql("SELECT * FROM t WHERE a = 1")).toBe(true);
  expect(isSql("name:select AND from:paris")).toBe(false);
});
