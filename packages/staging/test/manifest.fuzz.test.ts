// oxlint-disable vitest/no-conditional-expect -- what holds of an input depends on what it is
import { array, assert, constantFrom, nat, property, record } from "fast-check";
import { beforeAll, expect, it } from "vitest";
import { parseManifest, serialiseManifest } from "../src/manifest-file.ts";
import { StagingError } from "../src/staging-error.ts";
import { completedExport, temporaryRoot } from "./support.ts";

/** Inputs of one property; a failure prints the seed that finds it again. */
const numRuns = Number(process.env["FUZZ_RUNS"] ?? 1_000_000);

const pieces = [
  ...Array.from('{}[]",:\\ 019-.eE/'),
  "",
  "null",
  "true",
  "1e999",
  "-0",
  "9007199254740993",
  "../",
  "\\u0000",
  "\u0000",
  "é",
  '"__proto__":{}',
  "[[[[",
  '{"a":',
  '"status":"working"',
  '"status":"completed"',
  '"lease":null',
  '"parts":[]',
  '"export_id":"exp_',
  '"index":-1',
  "2026-13-45T99:99:99Z",
];

let seed = "";
let exportId = "";

beforeAll(async () => {
  const place = await temporaryRoot();
  try {
    const store = await place.open();
    exportId = await completedExport(store);
    seed = serialiseManifest(await store.read(exportId)).toString("utf8");
  } finally {
    await place.remove();
  }
});

it("ends in a manifest that could be written again, or in staging_corrupt", () => {
  let whole = 0;
  assert(
    property(
      array(record({ at: nat(4_000), drop: nat(12), put: constantFrom(...pieces) }), { maxLength: 6 }),
      (edits) => {
        const text = edits.reduce((before, { at, drop, put }) => {
          const position = at % (before.length + 1);
          return before.slice(0, position) + put + before.slice(position + drop);
        }, seed);
        try {
          const manifest = parseManifest(text, exportId);
          whole++;
          expect(manifest.export_id).toBe(exportId);
          const written = serialiseManifest(manifest);
          expect(serialiseManifest(parseManifest(written.toString("utf8"), exportId))).toEqual(written);
        } catch (error) {
          if (!(error instanceof StagingError)) throw error;
          expect(error.code).toBe("staging_corrupt");
          expect(error.message.length).toBeLessThan(1_000);
        }
      },
    ),
    { numRuns },
  );
  // A test that only ever met broken ones would prove little.
  expect(whole).toBeGreaterThan(0);
});
