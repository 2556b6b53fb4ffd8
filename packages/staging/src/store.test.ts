import { Buffer } from "node:buffer";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { newId } from "./ids.ts";
import { type ManifestDraft, openStore, type StagingStore } from "./store.ts";

const draft: ManifestDraft = {
  request_digest: "d",
  mapping: [],
  source: {
    cluster_uuid: "c",
    indices: [{ name: "products", uuid: "u", shards: 1, source_mode: "stored", documents: 2 }],
    query: { match_all: {} },
    fields: null,
    max_documents: null,
    since: null,
    method: "pit",
    pit_time: "2026-11-23T00:00:00Z",
    expected: 2,
  },
};

describe("store", () => {
  let directory: string;
  let store: StagingStore;
  beforeEach(async () => {
    directory = await mkdtemp(join(tmpdir(), "staging-"));
    store = await openStore({ url: pathToFileURL(join(directory, "root")).href });
  });
  afterEach(async () => {
    await rm(directory, { recursive: true, force: true });
  });

  it("gives back the lines that were written", async () => {
    const writer = await store.create(draft);
    const part = await writer.openPart();
    await part.write(Buffer.from('{"a":1}\n{"a":2}\n'), 2);
    const info = await part.close();
    expect(info).toEqual({ index: 0, documents: 2, bytes: 16, crc32: "195ac066" });
    await writer.commit({ parts: [info], totals: { documents: 2, bytes: 16, compacted: 0, invalid_utf8: 0 } });
    await writer.finish("completed");

    const reader = await store.openReader(writer.manifest.export_id, newId("load"));
    const lines: string[] = [];
    for await (const batch of reader.lines(info)) lines.push(...batch.map(String));
    await reader.close();
    expect(lines).toEqual(['{"a":1}', '{"a":2}']);
    expect((await store.list()).exports.map((manifest) => manifest.status)).toEqual(["completed"]);
  });
});
