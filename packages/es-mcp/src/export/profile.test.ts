import { Buffer } from "node:buffer";
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import * as fc from "fast-check";
import { describe, expect, it } from "vitest";
import { PROFILE_PATHS_MAX, Profile } from "./profile.ts";
import { DocumentScanner } from "./scan.ts";

/** Long enough that keys which are kept show in the heap. */
const KEY_BYTES = 2000;

function profileOf(documents: readonly string[], profile = new Profile()): Profile {
  const scanner = new DocumentScanner();
  for (const document of documents) {
    const bytes = Buffer.from(document);
    scanner.reset(bytes);
    scanner.scan(bytes, 0, bytes.length, profile);
  }
  return profile;
}

describe("Profile", () => {
  it("counts what documents really hold", () => {
    const fields = profileOf([
      '{"price":1.10,"tags":["a","bé"],"name":"x\\"y","at":"2024-01-02T03:04:05Z"}',
      '{"price":"12","tags":"solo","name":null,"at":"2024-01-02"}',
      '{"price":-123456789012345678,"tags":[],"name":"","at":"noon"}',
      '{"price":1e3,"reviews":[{"stars":5},{"stars":4}],"at":"7"}',
    ]).fields();
    expect(fields).toMatchInlineSnapshot(`
      [
        {
          "array_length_max": 0,
          "arrays": 0,
          "bytes_max": 20,
          "date_formats": [
            "yyyy-MM-dd'T'HH:mm:ssX",
            "yyyy-MM-dd",
          ],
          "integer_digits_max": 0,
          "kinds": {
            "boolean": 0,
            "decimal": 0,
            "integer": 0,
            "null": 0,
            "object": 0,
            "string": 4,
          },
          "length_max": 20,
          "max": "noon",
          "min": "2024-01-02",
          "path": "at",
          "present": 4,
          "samples": [
            "2024-01-02T03:04:05Z",
            "2024-01-02",
            "noon",
          ],
          "scale_max": 0,
          "shapes": {
            "boolean": 0,
            "date": 2,
            "empty": 0,
            "nul": 0,
            "number": 1,
            "uuid": 0,
          },
        },
        {
          "array_length_max": 0,
          "arrays": 0,
          "bytes_max": 3,
          "date_formats": [],
          "integer_digits_max": 0,
          "kinds": {
            "boolean": 0,
            "decimal": 0,
            "integer": 0,
            "null": 1,
            "object": 0,
            "string": 2,
          },
          "length_max": 3,
          "max": "x"y",
          "min": "x"y",
          "path": "name",
          "present": 3,
          "samples": [
            "x"y",
          ],
          "scale_max": 0,
          "shapes": {
            "boolean": 0,
            "date": 0,
            "empty": 1,
            "nul": 0,
            "number": 0,
            "uuid": 0,
          },
        },
        {
          "array_length_max": 0,
          "arrays": 0,
          "bytes_max": 2,
          "date_formats": [],
          "integer_digits_max": 18,
          "kinds": {
            "boolean": 0,
            "decimal": 2,
            "integer": 1,
            "null": 0,
            "object": 0,
            "string": 1,
          },
          "length_max": 2,
          "max": "1e3",
          "min": "-123456789012345678",
          "path": "price",
          "present": 4,
          "samples": [
            "1.10",
            "12",
            "-123456789012345678",
          ],
          "scale_max": 2,
          "shapes": {
            "boolean": 0,
            "date": 0,
            "empty": 0,
            "nul": 0,
            "number": 1,
            "uuid": 0,
          },
        },
        {
          "array_length_max": 2,
          "arrays": 1,
          "bytes_max": 0,
          "date_formats": [],
          "integer_digits_max": 0,
          "kinds": {
            "boolean": 0,
            "decimal": 0,
            "integer": 0,
            "null": 0,
            "object": 2,
            "string": 0,
          },
          "length_max": 0,
          "max": null,
          "min": null,
          "path": "reviews",
          "present": 1,
          "samples": [],
          "scale_max": 0,
          "shapes": {
            "boolean": 0,
            "date": 0,
            "empty": 0,
            "nul": 0,
            "number": 0,
            "uuid": 0,
          },
        },
        {
          "array_length_max": 2,
          "arrays": 1,
          "bytes_max": 0,
          "date_formats": [],
          "integer_digits_max": 1,
          "kinds": {
            "boolean": 0,
            "decimal": 0,
            "integer": 2,
            "null": 0,
            "object": 0,
            "string": 0,
          },
          "length_max": 0,
          "max": "5",
          "min": "4",
          "path": "reviews.stars",
          "present": 1,
          "samples": [
            "5",
            "4",
          ],
          "scale_max": 0,
          "shapes": {
            "boolean": 0,
            "date": 0,
            "empty": 0,
            "nul": 0,
            "number": 0,
            "uuid": 0,
          },
        },
        {
          "array_length_max": 2,
          "arrays": 2,
          "bytes_max": 4,
          "date_formats": [],
          "integer_digits_max": 0,
          "kinds": {
            "boolean": 0,
            "decimal": 0,
            "integer": 0,
            "null": 0,
            "object": 0,
            "string": 3,
          },
          "length_max": 4,
          "max": "solo",
          "min": "a",
          "path": "tags",
          "present": 3,
          "samples": [
            "a",
            "bé",
            "solo",
          ],
          "scale_max": 0,
          "shapes": {
            "boolean": 0,
            "date": 0,
            "empty": 0,
            "nul": 0,
            "number": 0,
            "uuid": 0,
          },
        },
      ]
    `);
  });

  it("tells strings with U+0000 from those that only look like it", () => {
    const fields = profileOf(['{"a":"\\u0000"}', '{"a":"\\\\u0000"}', '{"a":"x\\\\\\u0000"}']).fields();
    expect(fields[0]?.shapes.nul).toBe(2);
  });

  it("gives one path to dotted and nested spellings", () => {
    const fields = profileOf(['{"off.x":1,"off":{"x":2}}']).fields();
    expect(fields.map(({ path, present, kinds }) => [path, present, kinds.integer])).toEqual([
      ["off", 1, 0],
      ["off.x", 1, 2],
    ]);
  });

  it("goes on from a profile that was stored", () => {
    const first = ['{"a":5,"s":"abc"}', '{"a":[7,null],"s":"b"}'];
    const second = ['{"a":-1,"s":"zz"}', '{"b":true}'];
    const resumed = new Profile(profileOf(first).fields(), first.length);
    expect(profileOf(second, resumed).fields()).toEqual(profileOf([...first, ...second]).fields());
  });

  it("agrees with a count by JSON.parse", () => {
    const key = fc.constantFrom("a", "b", "c", "d\\u0065", "e.f");
    const scalar = fc.oneof(
      fc.string({ unit: "grapheme", maxLength: 90 }),
      fc.integer(),
      fc.boolean(),
      fc.constant(null),
    );
    const { value } = fc.letrec<{ value: unknown }>((tie) => ({
      value: fc.oneof(
        { maxDepth: 3 },
        scalar,
        fc.array(tie("value"), { maxLength: 3 }),
        fc.dictionary(key, tie("value"), { maxKeys: 3 }),
      ),
    }));
    fc.assert(
      fc.property(fc.array(fc.dictionary(key, value, { maxKeys: 4 }), { maxLength: 6 }), (documents) => {
        const fields = profileOf(documents.map((document) => JSON.stringify(document))).fields();
        const expected = count(documents);
        expect(fields.map(({ path }) => path).sort()).toEqual([...expected.keys()].sort());
        for (const field of fields) {
          const { kinds, present, arrays, length_max, bytes_max } = field;
          expect({ ...kinds, present, arrays, length_max, bytes_max }).toEqual(expected.get(field.path));
        }
      }),
      { numRuns: 300 },
    );
  });

  it("stays bounded where keys are data", () => {
    const documents = Array.from({ length: PROFILE_PATHS_MAX + 50 }, (_, n) => `{"m":{"k${n}":{"x":${n}}},"last":1}`);
    const profile = profileOf(documents);
    expect(profile.fields().length).toBe(PROFILE_PATHS_MAX);
    expect(profile.truncated).toBe(true);
    expect(profile.fields().find(({ path }) => path === "last")?.present).toBe(documents.length);
  });

  it("keeps nothing of keys that it does not profile", () => {
    setFlagsFromString("--expose-gc");
    const collectGarbage: unknown = runInNewContext("gc");
    const heapBytes = (): number => {
      if (typeof collectGarbage === "function") collectGarbage();
      return process.memoryUsage().heapUsed;
    };
    const scanner = new DocumentScanner();
    const profile = new Profile();
    const scanKeys = (from: number, to: number): void => {
      for (let n = from; n < to; n++) {
        const bytes = Buffer.from(`{"m":{"${String(n).padStart(KEY_BYTES, "k")}":1}}`);
        scanner.reset(bytes);
        scanner.scan(bytes, 0, bytes.length, profile);
      }
    };
    scanKeys(0, PROFILE_PATHS_MAX);
    const before = heapBytes();
    scanKeys(PROFILE_PATHS_MAX, PROFILE_PATHS_MAX + 20_000);
    expect(heapBytes() - before).toBeLessThan((20_000 * KEY_BYTES) / 2);
    expect(profile.truncated).toBe(true);
  });
});

interface Counted {
  string: number;
  integer: number;
  decimal: number;
  boolean: number;
  object: number;
  null: number;
  present: number;
  arrays: number;
  length_max: number;
  bytes_max: number;
}

/** The same figures the plain way. */
function count(documents: readonly Record<string, unknown>[]): Map<string, Counted> {
  const fields = new Map<string, Counted>();
  const of = (path: string): Counted => {
    const field = fields.get(path) ?? {
      string: 0,
      integer: 0,
      decimal: 0,
      boolean: 0,
      object: 0,
      null: 0,
      present: 0,
      arrays: 0,
      length_max: 0,
      bytes_max: 0,
    };
    fields.set(path, field);
    return field;
  };
  for (const document of documents) {
    const present = new Set<string>();
    const arrays = new Set<string>();
    const walk = (value: unknown, path: string, inArray: boolean): void => {
      const field = of(path);
      if (Array.isArray(value)) {
        arrays.add(path);
        for (const item of value) walk(item, path, true);
      } else if (value === null) field.null++;
      else if (typeof value === "object") {
        field.object++;
        for (const [key, item] of Object.entries(value)) member(`${path}.${key}`, item, inArray);
      } else if (typeof value === "string") {
        field.string++;
        field.length_max = Math.max(field.length_max, Array.from(value).length);
        field.bytes_max = Math.max(field.bytes_max, Buffer.byteLength(value));
      } else if (typeof value === "number") field.integer++;
      else field.boolean++;
    };
    const member = (path: string, value: unknown, inArray: boolean): void => {
      present.add(path);
      if (inArray) arrays.add(path);
      walk(value, path, inArray);
    };
    for (const [key, value] of Object.entries(document)) member(key, value, false);
    for (const path of present) of(path).present++;
    for (const path of arrays) of(path).arrays++;
  }
  return fields;
}
