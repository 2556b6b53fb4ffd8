import { expect, test } from "vitest";
import { mayBeStructured } from "./literals.ts";

test.each([
  ["a range", "SELECT '[1,2)'::r", true],
  ["a row behind blanks", "SELECT ' (1)'::t", true],
  ["an array in dollars", "SELECT $$ {1}$$::d[]", true],
  ["an escape", "SELECT E'\\x28'::t", true],
  ["an escape by its code", "SELECT U&'a'::t", true],
  ["a bracket behind a quote that closes", "SELECT 'a' (", true],
  ["words", "SELECT 'a' FROM t WHERE b = $1 AND c(1)", false],
  ["dollars without end", "$".repeat(100_000), false],
  ["dollars and blanks without end", "$ ".repeat(50_000), false],
])("tells whether literals may be structured: %s", (_what, sql, expected) => {
  expect(mayBeStructured.test(sql)).toBe(expected);
});
