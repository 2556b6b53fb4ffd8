import { describe, expect, test } from "vitest";
import { queryOf, sortClauses, unwrappedAggs } from "./search.ts";

test.each<[string, unknown, unknown[]]>([
  ["nothing", undefined, []],
  ["a field", "price", ["price"]],
  ["a field and its order", "price:desc", [{ price: "desc" }]],
  ["several fields", "brand:asc, price:DESC,_score", [{ brand: "asc" }, { price: "desc" }, "_score"]],
  ["the order of SQL", "price desc", [{ price: "desc" }]],
  ["a minus for the order", "-price", [{ price: "desc" }]],
  ["a list of texts", ["brand", "price:desc"], ["brand", { price: "desc" }]],
  [
    "one clause of DSL",
    { price: { order: "desc", missing: "_last" } },
    [{ price: { order: "desc", missing: "_last" } }],
  ],
])("reads a sort by %s", (_what, sort, clauses) => {
  expect(sortClauses(sort)).toEqual(clauses);
});

test.each([
  ["a field called like an order", "desc", ["desc"]],
  ["a field that ends like an order", "price_desc", ["price_desc"]],
  ["a colon with blanks around it", "price : DESC", [{ price: "desc" }]],
  ["a name that has blanks", "net price desc", [{ "net price": "desc" }]],
  ["blanks without end", `${" ".repeat(1_000_000)}b`, ["b"]],
  ["blanks without end inside", `a${" ".repeat(1_000_000)}b`, [`a${" ".repeat(1_000_000)}b`]],
])("reads a sort by %s", (_what, sort, clauses) => {
  expect(JSON.stringify(sortClauses(sort)) === JSON.stringify(clauses)).toBe(true);
});

describe("queryOf", () => {
  test("refuses SQL, of which Lucene would look for the words", () => {
    expect(() => queryOf(undefined, "SELECT * FROM products WHERE price > 10")).toThrow(
      expect.objectContaining({ code: "query_invalid", next: expect.stringContaining("brand:acme") }),
    );
  });

  test("lets pass a text that speaks of selecting", () => {
    expect(queryOf(undefined, "name:select AND from:paris")).toEqual({
      query_string: { query: "name:select AND from:paris" },
    });
  });
});

test("takes aggregations out of aggs", () => {
  const aggs = { brands: { terms: { field: "brand" } } };
  expect(unwrappedAggs({ aggs })).toBe(aggs);
  expect(unwrappedAggs({ aggregations: aggs })).toBe(aggs);
  expect(unwrappedAggs(aggs)).toBe(aggs);
});
