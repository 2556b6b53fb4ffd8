import { expect, test } from "vitest";
import { fitValue, jsonBytes } from "./fit.ts";

test("leaves alone what fits", () => {
  const value = { a: "x".repeat(1_000), b: [1, 2, { c: null }] };
  expect(fitValue(value, 2_000)).toEqual({ value, clipped: [] });
});

test("clips long strings with their length and names the path", () => {
  const { value, clipped } = fitValue({ a: { body: "x".repeat(2_000_000) }, n: 1 }, 6_000);
  expect(value).toEqual({ a: { body: `${"x".repeat(4_000)}… (2000000 characters)` }, n: 1 });
  expect(clipped).toEqual(["a.body"]);
});

test("clips long arrays with their length", () => {
  const { value, clipped } = fitValue({ list: Array.from({ length: 10_000 }, () => 12_345) }, 1_000);
  expect(value).toEqual({ list: [...Array.from({ length: 100 }, () => 12_345), "… (10000 elements)"] });
  expect(clipped).toEqual(["list"]);
});

test("never ends in half of a character and counts whole ones", () => {
  const { value } = fitValue({ a: `x${"😀".repeat(5_000)}` }, 4_000);
  expect(value).toEqual({ a: `x${"😀".repeat(749)}… (5001 characters)` });
});

test("drops later fields when there are too many and says how many", () => {
  const wide = Object.fromEntries(Array.from({ length: 2_000 }, (_, at) => [`field_${at}`, at]));
  const { value, clipped } = fitValue(wide, 1_000);
  expect(jsonBytes(value)).toBeLessThanOrEqual(1_000);
  expect(value).toHaveProperty("field_0", 0);
  expect(clipped).toEqual([expect.stringMatching(/^19\d\d later fields$/)]);
});
