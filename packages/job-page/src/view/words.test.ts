import { expect, test } from "vitest";
import { bytes, counted, duration, figure, percent } from "./words.ts";

test("parts thousands, and counts with a noun", () => {
  expect(figure(1_234_567)).toBe("1,234,567");
  expect([0, 1, 15].map((count) => counted(count, "document"))).toEqual(["0 documents", "1 document", "15 documents"]);
});

test.each([
  [0, "0 bytes"],
  [999, "999 bytes"],
  [1_000, "1 kB"],
  [999_600, "1 MB"],
  [12_345_678, "12.3 MB"],
  [5e15, "5,000 TB"],
])("%d bytes are %s", (count, shown) => {
  expect(bytes(count)).toBe(shown);
});

test.each([
  [-1, "0.0 s"],
  [0.04, "0.0 s"],
  [9.94, "9.9 s"],
  [9.96, "10 s"],
  [59.6, "1 min 0 s"],
  [3599, "59 min 59 s"],
  [3600, "1 h 0 min"],
  [90_000, "25 h 0 min"],
])("%d seconds are %s", (seconds, shown) => {
  expect(duration(seconds)).toBe(shown);
});

test.each([
  [0, 10, "0 %"],
  [1, 1_000_000, "1 %"],
  [999_999, 1_000_000, "99 %"],
  [10, 10, "100 %"],
  [3, 0, ""],
])("%d of %d is %s: neither all nor nothing by rounding", (done, total, shown) => {
  expect(percent(done, total)).toBe(shown);
});
