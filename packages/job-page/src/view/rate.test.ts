import { expect, test } from "vitest";
import { Rate } from "./rate.ts";

test("knows no rate before something was seen twice", () => {
  const rate = new Rate();
  expect(rate.perSecond).toBeUndefined();
  rate.see(0, 0);
  rate.see(100, 100);
  expect(rate.perSecond).toBeUndefined();
  expect(rate.secondsLeft(1_000)).toBeUndefined();
});

test("measures what was done lately and what is left at that rate", () => {
  const rate = new Rate();
  for (let second = 0; second <= 60; second++)
    rate.see(second < 30 ? second * 10 : 300 + (second - 30) * 100, second * 1_000);
  expect(rate.perSecond).toBe(100);
  expect(rate.secondsLeft(4_300)).toBe(10);
});

test("keeps a rate between looks that are farther apart than its window", () => {
  const rate = new Rate();
  rate.see(0, 0);
  rate.see(600, 60_000);
  rate.see(1_200, 120_000);
  expect(rate.perSecond).toBe(10);
});

test("starts anew where less is done than before, and tells no time where nothing moves", () => {
  const rate = new Rate();
  rate.see(0, 0);
  rate.see(500, 1_000);
  rate.see(100, 2_000);
  expect(rate.perSecond).toBeUndefined();
  rate.see(100, 4_000);
  expect(rate.perSecond).toBe(0);
  expect(rate.secondsLeft(500)).toBeUndefined();
});
