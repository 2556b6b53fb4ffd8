import { ANSWER_BYTES_MAX, ANSWER_BYTES_TARGET } from "@es-to-pg/mcp-kit";
import { expect, test } from "vitest";
import { hitsDigest, type SearchHit, type SearchPage, type SearchRequest } from "./search.ts";
import { fitPage } from "./search-answer.ts";

const request: SearchRequest = {
  indices: [{ name: "products", hidden: false, aliases: [], dataStream: null }],
  query: { match: { text: "lamp" } },
  sort: [],
  size: 100,
  aggs: undefined,
  highlight: [],
  position: undefined,
};

function hit(at: number, source: object, more: Partial<SearchHit> = {}): SearchHit {
  return { _index: "products", _id: String(at), _score: 1, _source: source, ...more };
}

function page(hits: SearchHit[], total = hits.length): SearchPage {
  return { total, hits, aggregations: undefined, pit: "a snapshot", rewritten: false };
}

const usual = { fields: undefined, large: false };

test("gives out every hit as it is where there is room", () => {
  const hits = [hit(1, { a: 1 }), hit(2, { a: 2 })];
  const { answer, next, hasMore } = fitPage(page(hits), request, usual);
  expect(answer).toEqual({
    total: 2,
    returned: 2,
    hits: [
      { _id: "1", _score: 1, _source: { a: 1 } },
      { _id: "2", _score: 1, _source: { a: 2 } },
    ],
  });
  expect([next, hasMore]).toEqual([null, false]);
});

test.each([
  ["usual", false, ANSWER_BYTES_TARGET],
  ["large", true, ANSWER_BYTES_MAX],
])("gives out as many whole hits as a %s answer has room for, and none fewer", (_what, large, bytesMax) => {
  const hits = Array.from({ length: 100 }, (_, at) => hit(at, { text: "é".repeat(400) }));
  const { answer } = fitPage(page(hits, 500), request, { fields: undefined, large });
  const bytes = Buffer.byteLength(JSON.stringify(answer.hits));
  const bytesOfOne = Buffer.byteLength(JSON.stringify(answer.hits[0]));
  expect(bytes).toBeLessThan(bytesMax);
  expect(bytes).toBeGreaterThan(bytesMax - 1_200 - 2 * bytesOfOne);
  expect(answer).toMatchObject({ total: 500, returned: answer.hits.length, cut_by: "bytes" });
  expect(answer).not.toHaveProperty("clipped");
});

test("clips the long values of a hit among others, and leaves small hits beside it whole", () => {
  const hits = [hit(1, { text: "short" }), hit(2, { text: "x".repeat(50_000) }), hit(3, { text: "short" })];
  const { answer } = fitPage(page(hits), request, usual);
  expect(answer.returned).toBe(3);
  expect(answer.hits.map(({ _source }) => JSON.stringify(_source).length < 100)).toEqual([true, false, true]);
  expect(JSON.stringify(answer.hits[1])).toContain("… (50000 characters)");
  expect(answer.clipped).toEqual(["text"]);
});

test("clips a long highlight even of a hit whose document is small", () => {
  const hits = [hit(1, { a: 1 }, { highlight: { text: ["y".repeat(40_000)] } }), hit(2, { a: 2 })];
  const { answer } = fitPage(page(hits), { ...request, highlight: ["text"] }, usual);
  expect(answer.returned).toBe(2);
  expect(JSON.stringify(answer.hits[0])).toContain("… (40000 characters)");
});

test("gives out one hit however large it is", () => {
  const name = "n".repeat(30_000);
  const { answer, next } = fitPage(page([hit(1, {}, { _id: name }), hit(2, {})]), request, usual);
  expect(answer).toMatchObject({ returned: 1, cut_by: "bytes" });
  expect(next).toMatchObject({ given: 1 });
});

test("goes on after the sort values of the last hit given, or behind the first hits where they were not sorted", () => {
  const hits = Array.from({ length: 20 }, (_, at) => hit(at, { text: "x".repeat(900) }));
  const ranked = fitPage(page(hits), request, usual);
  const { returned } = ranked.answer;
  expect(returned).toBeLessThan(20);
  expect(ranked.next).toEqual({
    pit: "a snapshot",
    total: 20,
    given: returned,
    first: hitsDigest(hits.slice(0, returned)),
  });
  const sorted = hits.map((each, at) => ({ ...each, sort: [at, at] }));
  expect(fitPage(page(sorted), { ...request, sort: ["n"] }, usual).next).toEqual({
    pit: "a snapshot",
    total: 20,
    given: returned,
    after: [returned - 1, returned - 1],
  });
});
