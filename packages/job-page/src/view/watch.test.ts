import { expect, test } from "vitest";
import { pauseAfter } from "./watch.ts";

test("looks every second while something changes, and ever more rarely while nothing does", () => {
  expect(pauseAfter("changed", 8_000)).toBe(1_000);
  const pauses = [1_000];
  for (let look = 0; look < 8; look++) pauses.push(pauseAfter("same", pauses.at(-1) ?? 0));
  expect(pauses).toEqual([1_000, 1_500, 2_250, 3_375, 5_062.5, 7_593.75, 8_000, 8_000, 8_000]);
});

test("leaves a server alone that does not answer", () => {
  const pauses = [1_000];
  for (let look = 0; look < 6; look++) pauses.push(pauseAfter("failed", pauses.at(-1) ?? 0));
  expect(pauses).toEqual([1_000, 2_000, 4_000, 8_000, 16_000, 30_000, 30_000]);
});
