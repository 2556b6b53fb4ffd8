import { expect, test } from "vitest";
import { nearestNames, nearestValue, takesValueOf } from "./synonyms.ts";

const search = ["index", "query", "query_string", "fields", "sort", "size", "aggs", "cursor"];

test.each([
  ["feilds", "fields"],
  ["limit", "size"],
  ["_source", "fields"],
  ["indexName", "index"],
  ["order_by", "sort"],
  ["aggregations", "aggs"],
  ["from", "cursor"],
])("takes %s for %s", (name, known) => {
  expect(nearestNames(name, search)[0]).toBe(known);
});

test("names nothing that is not known, and nothing for a word of no meaning", () => {
  expect(nearestNames("limit", ["table", "schema"])).toEqual([]);
  expect(nearestNames("colour", search)).toEqual([]);
});

test("tells where what was given can be tried under the other name", () => {
  expect(takesValueOf("limit", "size")).toBe(true);
  expect(takesValueOf("feilds", "fields")).toBe(true);
  // A number of documents to skip is no cursor, and several rows are not one.
  expect(takesValueOf("from", "cursor")).toBe(false);
});

test.each([
  ["insert", "append"],
  ["update", "upsert"],
  ["upsrt", "upsert"],
  ["overwrite", "replace"],
  ["qqq", undefined],
])("takes the value %s for %s", (given, value) => {
  expect(nearestValue(given, ["upsert", "append", "ignore", "replace"])).toBe(value);
});
