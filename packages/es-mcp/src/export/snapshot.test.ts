import { describe, expect, it } from "vitest";
import { slicesFor } from "./snapshot.ts";

describe("slicesFor", () => {
  it.each([
    ["few documents are read at once", { documents: 10_000, shards: 5, largest: 50_000_000 }, 1],
    ["a small index has a slice per shard", { documents: 50_000, shards: 3, largest: 20_000 }, 3],
    [
      "each slice covers about 100 000 documents of the largest shard",
      { documents: 1_000_000, shards: 2, largest: 610_000 },
      14,
    ],
    [
      "a query that matches little needs no more slices than that",
      { documents: 30_000, shards: 1, largest: 90_000_000 },
      1,
    ],
    ["an empty index is read at once", { documents: 0, shards: 1, largest: 0 }, 1],
  ])("%s", (_name, options, expected) => {
    expect(slicesFor(options)).toBe(expected);
  });
});
