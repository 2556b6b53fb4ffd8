import { array, assert, constantFrom, dictionary, letrec, oneof, property, string } from "fast-check";
import { describe, expect, it } from "vitest";
import { Scanner } from "./scan.ts";

const paths = ["a", "b", "a.b", "a.c", "b.c.a"];

/** Documents of few names, so that paths are met, missed, met several times and met inside of arrays. */
const { value } = letrec((tie) => ({
  value: oneof(
    { maxDepth: 4, withCrossShrink: true },
    constantFrom(1, -2.5, true, false, null, "", "a", '"b":', "}\\{", "é😀\n"),
    array(tie("value"), { maxLength: 3 }),
    dictionary(constantFrom("a", "b", "c", "é\n"), tie("value"), { maxKeys: 4 }),
  ),
}));
const document = dictionary(constantFrom("a", "b", "c", "d"), value, { maxKeys: 4 });
const spacing = constantFrom(undefined, 1);

/** What Elasticsearch finds at a path: arrays on the way are looked through, in document order. */
function valuesAt(node: unknown, names: readonly string[]): unknown[] {
  const [name, ...rest] = names;
  if (name === undefined) return [node];
  if (typeof node !== "object" || node === null) return [];
  return Object.entries(node).flatMap(([key, child]: [string, unknown]) =>
    key !== name ? [] : rest.length === 0 ? [child] : through(child).flatMap((item) => valuesAt(item, rest)),
  );
}

function through(node: unknown): unknown[] {
  return Array.isArray(node) ? node.flatMap(through) : [node];
}

function found(scanner: Scanner, bytes: Buffer, slot: number): unknown[] {
  const start = scanner.starts[slot] ?? -1;
  if (start === -1) return [];
  const places = scanner.several.get(slot) ?? [{ start, end: scanner.ends[slot] ?? 0 }];
  return places.map((place): unknown => JSON.parse(bytes.toString("utf8", place.start, place.end)));
}

describe("Scanner", () => {
  it("finds in the bytes of any document what a parser finds, whatever came before", () => {
    const scanner = new Scanner(paths);
    assert(
      property(document, spacing, (source, spaces) => {
        const bytes = Buffer.from(JSON.stringify(source, null, spaces));
        expect(scanner.scan(bytes, 0, bytes.length)).toBe(bytes.length);
        for (const [slot, path] of paths.entries()) {
          expect(found(scanner, bytes, slot)).toEqual(valuesAt(source, path.split(".")));
        }
      }),
      { numRuns: 2_000 },
    );
  });

  it("ends on any bytes, within them", () => {
    const scanner = new Scanner(paths);
    assert(
      property(string({ unit: constantFrom(...Array.from('{}[]",:\\ abtrue1.e-')) }), (text) => {
        const bytes = Buffer.from(`{"a":${text}`);
        const end = scanner.scan(bytes, 0, bytes.length);
        expect(end === -1 || (end > 0 && end <= bytes.length)).toBe(true);
      }),
      { numRuns: 2_000 },
    );
  });

  it("refuses what nests too deep instead of running out of stack", () => {
    const scanner = new Scanner(["a.b"]);
    const deep = Buffer.from(`{"a":${"[".repeat(100_000)}${"]".repeat(100_000)}}`);
    expect(scanner.scan(deep, 0, deep.length)).toBe(-1);
  });
});
