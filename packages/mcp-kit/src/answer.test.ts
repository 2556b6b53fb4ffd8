import { expect, test } from "vitest";
import { clip, fitItems, visibleJson } from "./answer.ts";

test("fits whole items and says that bytes cut them", () => {
  const items = [{ a: "é".repeat(20) }, { a: "b" }, { a: "c" }];
  const { items: fitting, cutBy } = fitItems(items, { bytesMax: 62 });
  expect(fitting).toEqual(items.slice(0, 2));
  expect(cutBy).toBe("bytes");
  expect(Buffer.byteLength(JSON.stringify(fitting))).toBeLessThanOrEqual(62);
});

test("fits all items where they fit", () => {
  expect(fitItems([1, 2, 3])).toEqual({ items: [1, 2, 3], cutBy: null });
  expect(fitItems([])).toEqual({ items: [], cutBy: null });
});

test("keeps the first item however large it is", () => {
  expect(fitItems(["x".repeat(9000), "y"])).toEqual({ items: ["x".repeat(9000)], cutBy: "bytes" });
});

test("clips text and says how long it was", () => {
  expect(clip("a".repeat(12_345), 3)).toBe("aaa… (12345 characters)");
  expect(clip("abc", 3)).toBe("abc");
});

test("counts characters, not halves of them", () => {
  expect(clip("🔁🔁🔁", 2)).toBe("🔁🔁… (3 characters)");
});

test("makes foreign text one visible line", () => {
  expect(clip("a\r\nb\tc\u0000\u202Ed\u2028\u200B\uD800é", 100)).toBe(
    "a\\r\\nb\\tc\\u0000\\u202ed\\u2028\\u200b\\ud800é",
  );
});

test("writes invisible characters of an answer as escapes that read back the same", () => {
  const value = { "a\u202eb": "\u2028\u0085\u200b\u{e0041}", family: "👩\u200d👧 é日" };
  const text = visibleJson(value);
  expect(text).toBe('{"a\\u202eb":"\\u2028\\u0085\\u200b\\udb40\\udc41","family":"👩\u200d👧 é日"}');
  expect(JSON.parse(text)).toEqual(value);
});
