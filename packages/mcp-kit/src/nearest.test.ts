import { expect, test } from "vitest";
import { nearest } from "./nearest.ts";

const columns = ["id", "name", "created_at", "category", "sub_category", "price", "reviews_count"];

test.each([
  ["naem", ["name"]],
  ["createdAt", ["created_at"]],
  ["CREATED-AT", ["created_at"]],
  ["created", ["created_at"]],
  ["pric", ["price"]],
  ["catgory", ["category"]],
  ["category", ["category", "sub_category"]],
  ["quantity", []],
  ["x", []],
  ["", []],
])("finds for %s: %s", (name, found) => {
  expect(nearest(name, columns)).toEqual(found);
});

test("gives no more than asked for, closest first", () => {
  expect(nearest("item1", ["item33", "item2", "item1", "item22"], 2)).toEqual(["item1", "item2"]);
});

test("does not compare endless names letter by letter", () => {
  const long = "a".repeat(100_000);
  expect(nearest(`${long}b`, [`${long}c`])).toEqual([]);
});
