import { describe, expect, it } from "vitest";
import { overlapping, pointQuery, slicesFor } from "./snapshot.ts";

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
      "a query that matches little needs no more slices than two that are read at once",
      { documents: 30_000, shards: 1, largest: 90_000_000 },
      2,
    ],
    ["an empty index is read at once", { documents: 0, shards: 1, largest: 0 }, 1],
  ])("%s", (_name, options, expected) => {
    expect(slicesFor(options)).toBe(expected);
  });
});

describe("pointQuery", () => {
  const range = { range: { _seq_no: { gt: 7 } } };

  it.each([
    ["everything", null, [], { match_all: {} }],
    ["the caller's query as it is", { term: { a: 1 } }, [], { term: { a: 1 } }],
    ["both where a point has filters", { term: { a: 1 } }, [range], { bool: { filter: [{ term: { a: 1 } }, range] } }],
  ])("asks for %s", (_what, query, filters, expected) => {
    expect(pointQuery(query, { filters })).toEqual(expected);
  });
});

describe("overlapping", () => {
  const now = 10_000_000;
  const mark = { index_uuid: "u", shard: 0, primary_term: 1, checkpoint: 90, history_uuid: "h" };
  const at = (ageMs: number, checkpoint: number, change: object = {}) => ({
    pitTimeMs: now - ageMs,
    watermark: [{ ...mark, checkpoint, ...change }],
  });
  const of = (refreshInterval: string | undefined, earlier: ReturnType<typeof at>[]) =>
    overlapping(
      [{ uuid: "u", settings: refreshInterval === undefined ? {} : { "index.refresh_interval": refreshInterval } }],
      [mark],
      earlier,
      now,
    )[0]?.checkpoint;

  it("takes what was seen a refresh interval and a minute ago", () => {
    const earlier = [at(59_000, 80), at(61_000, 70), at(90_000, 60), at(3_700_000, 50)];
    expect(of(undefined, earlier)).toBe(70);
    expect(of("30s", earlier)).toBe(60);
    expect(of("1h", earlier)).toBe(50);
  });

  it("takes what an earlier export had seen and not what it was sure to hold", () => {
    expect(of(undefined, [at(70_000, 10, { processed: 75 })])).toBe(75);
  });

  it.each([
    ["there is no earlier export", "1s", []],
    ["none is old enough", "1s", [at(1000, 80)]],
    ["the index is never refreshed by itself", "-1", [at(1_000_000, 80)]],
    ["the shard has another history", "1s", [at(1_000_000, 80, { history_uuid: "other" })]],
    ["it is another shard", "1s", [at(1_000_000, 80, { shard: 1 })]],
  ])("lies before the first operation where %s", (_why, refreshInterval, earlier) => {
    expect(of(refreshInterval, earlier)).toBe(-1);
  });

  it("never lies beyond what the shard has", () => {
    expect(of(undefined, [at(1_000_000, 95)])).toBe(90);
  });
});
