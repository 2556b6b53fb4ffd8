import { expect, test } from "vitest";
import { canonicalJson, digest } from "./digest.ts";

test("sorts keys at every depth and drops undefined members", () => {
  expect(canonicalJson({ b: 1, a: { d: undefined, c: [2, { f: 1, e: null }] } })).toBe(
    '{"a":{"c":[2,{"e":null,"f":1}]},"b":1}',
  );
});

test("keeps the order of arrays", () => {
  expect(canonicalJson([2, 1])).not.toBe(canonicalJson([1, 2]));
});

test("writes dates as JSON does, and nothing as null", () => {
  expect(canonicalJson(new Date(0))).toBe('"1970-01-01T00:00:00.000Z"');
  expect(canonicalJson(undefined)).toBe("null");
});

test("gives the SHA-256 of the canonical text", () => {
  expect(digest({})).toBe("44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a");
  expect(digest({ a: 1, b: 2 })).toBe(digest({ b: 2, a: 1 }));
});
