import { Buffer } from "node:buffer";
import { cp, readdir } from "node:fs/promises";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { codeOf, temporaryRoot } from "../test/support.ts";
import { newId } from "./ids.ts";
import type { PartInfo } from "./manifest.ts";
import type { StagingStore } from "./store.ts";

// The golden directories are the format: they change only together with `manifest_version`.
const GOLDEN = fileURLToPath(new URL("../fixtures/root", import.meta.url));

let place: Awaited<ReturnType<typeof temporaryRoot>>;
let store: StagingStore;
beforeEach(async () => {
  place = await temporaryRoot();
  await cp(GOLDEN, place.root, { recursive: true });
  // The goldens ended long ago; nothing here may sweep them.
  store = await place.open({ ttlHours: 0 });
});
afterEach(async () => {
  await place.remove();
});

/** The golden export whose name begins with these words. */
async function golden(words: string): Promise<string> {
  const found = (await readdir(GOLDEN)).filter((name) => name.startsWith(`exp_${words}`));
  const [exportId] = found;
  if (exportId === undefined || found.length > 1) throw new Error(`${found.length} golden exports are named ${words}`);
  return exportId;
}

/** Reads all parts of an export and answers their lines. */
async function linesOf(exportId: string): Promise<string[]> {
  const reader = await store.openReader(exportId, newId("load"));
  const lines: string[] = [];
  const read = async (part: PartInfo) => {
    for await (const batch of reader.lines(part)) lines.push(...batch.map((bytes) => bytes.toString()));
  };
  try {
    for (const part of reader.manifest.parts) await read(part);
  } finally {
    await reader.close();
  }
  return lines;
}

describe("golden exports", () => {
  it("of all kinds stand in the list", async () => {
    const { exports, corrupt } = await store.list();
    expect(exports.map(({ export_id, status }) => [export_id, status])).toEqual([
      ["exp_a1tered0part00000000000000", "completed"],
      ["exp_bad0c0vnt00000000000000000", "completed"],
      ["exp_c0mp1ete000000000000000000", "completed"],
      ["exp_fa11ed00000000000000000000", "failed"],
      ["exp_m1ss1ng0part00000000000000", "completed"],
      ["exp_sh0rt0part0000000000000000", "completed"],
      ["exp_w0rk1ng0000000000000000000", "working"],
    ]);
    expect(corrupt).toMatchInlineSnapshot(`
      [
        {
          "export_id": "exp_bad0js0n000000000000000000",
          "message": "The manifest of exp_bad0js0n000000000000000000 cannot be used: it is not JSON.",
        },
        {
          "export_id": "exp_bad0key0000000000000000000",
          "message": "The manifest of exp_bad0key0000000000000000000 cannot be used: manifest: Unrecognized key: "path".",
        },
        {
          "export_id": "exp_bad0n0man1fest000000000000",
          "message": "exp_bad0n0man1fest000000000000 is incomplete: manifest.json is missing.",
        },
        {
          "export_id": "exp_bad0name000000000000000000",
          "message": "The manifest of exp_bad0name000000000000000000 cannot be used: it names another export, exp_c0mp1ete000000000000000000.",
        },
        {
          "export_id": "exp_bad0t0ta1s0000000000000000",
          "message": "The manifest of exp_bad0t0ta1s0000000000000000 cannot be used: the totals say 4 documents in 511 bytes, the parts 3 in 511.",
        },
        {
          "export_id": "exp_bad0vers10n000000000000000",
          "message": "The manifest of exp_bad0vers10n000000000000000 cannot be used: manifest_version: Invalid input: expected 1.",
        },
      ]
    `);
  });

  it("that are complete give their documents byte by byte", async () => {
    expect(await linesOf(await golden("c0mp1ete"))).toEqual([
      '{"_index":"products","_id":"1","_seq_no":0,"_primary_term":1,"_source":{"id":"1","name":"Wireless Mouse","price":29.90,"tags":["mouse","usb"],"created_at":"2024-01-15T10:30:00Z"}}',
      String.raw`{"_index":"products","_id":"2","_routing":"eu","_seq_no":1,"_primary_term":1,"_source":{"id":"2","name":"Caf\u00e9 \"Größe\" 😀","price":1.10,"tags":[],"views":9007199254740993}}`,
      String.raw`{"_index":"products","_id":"3","_seq_no":2,"_primary_term":1,"_source":{"id":"3","name":"line\nbreak\tand \\ backslash","price":null,"tags":"one"}}`,
    ]);
  });

  it("that are working can be taken over and completed", async () => {
    const exportId = await golden("w0rk1ng");
    expect(store.isStalled(await store.read(exportId))).toBe(true);
    const writer = await store.takeOver(exportId);
    expect((await readdir(join(place.root, exportId))).sort()).toEqual([
      "manifest.json",
      "part-00000.ndjson",
      "writer-00002",
    ]);
    const part = await writer.openPart();
    const [, , last = ""] = await linesOf(await golden("c0mp1ete"));
    await part.write(Buffer.from(`${last}\n`), 1);
    const info = await part.close();
    const complete = await store.read(await golden("c0mp1ete"));
    expect(info).toEqual(complete.parts[1]);
    await writer.commit({ parts: complete.parts, totals: complete.totals });
    await writer.finish("completed");
    expect(await linesOf(exportId)).toEqual(await linesOf(await golden("c0mp1ete")));
  });

  it("that failed for good can be read and not gone on with", async () => {
    const exportId = await golden("fa11ed");
    expect((await linesOf(exportId)).length).toBe(2);
    expect(await codeOf(store.takeOver(exportId))).toBe("lease_held");
  });

  it.each([
    ["a1tered0part", "crc32"],
    ["bad0c0vnt", "has 2 lines, the manifest says 1"],
    ["m1ss1ng0part", "its file is missing"],
    ["sh0rt0part", "bytes, the manifest says"],
  ])("with damage like %s are found out when they are read", async (words, message) => {
    await expect(linesOf(await golden(words))).rejects.toMatchObject({
      code: "staging_corrupt",
      message: expect.stringContaining(message),
    });
  });
});
