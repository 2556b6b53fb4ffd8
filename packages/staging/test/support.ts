import { Buffer } from "node:buffer";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import type { ManifestDraft, StagingStore, StoreOptions } from "../src/store.ts";
import { openStore } from "../src/store.ts";
import type { ExportWriter } from "../src/writer.ts";

/** A draft of an export of `expected` documents from one index. */
export function draft(expected = 2): ManifestDraft {
  return {
    request_digest: "0123456789abcdef",
    mapping: [{ path: "id", type: "keyword" }],
    source: {
      cluster_uuid: "c1uster",
      indices: [{ name: "products", uuid: "1ndex", shards: 1, source_mode: "stored", documents: expected }],
      query: { match_all: {} },
      fields: null,
      max_documents: null,
      since: null,
      method: "pit",
      pit_time: "2026-11-23T12:00:00.000Z",
      expected,
    },
  };
}

/** A line of a part. */
export function line(id: number): string {
  return `{"_index":"products","_id":"${id}","_seq_no":${id},"_primary_term":1,"_source":{"id":"${id}"}}\n`;
}

/** Writes one part of the documents `from` … `to` and commits it. */
export async function addPart(writer: ExportWriter, from: number, to: number): Promise<void> {
  const part = await writer.openPart();
  for (let id = from; id <= to; id += 1) await part.write(Buffer.from(line(id)), 1);
  const info = await part.close();
  const { parts, totals } = writer.manifest;
  await writer.commit({
    parts: [...parts, info],
    totals: { ...totals, documents: totals.documents + info.documents, bytes: totals.bytes + info.bytes },
  });
}

/** A completed export of two parts and five documents. */
export async function completedExport(store: StagingStore): Promise<string> {
  const writer = await store.create(draft(5));
  await addPart(writer, 1, 3);
  await addPart(writer, 4, 5);
  await writer.finish("completed");
  return writer.manifest.export_id;
}

/** A staging root of its own, with as many stores on it as a test wants; each stands for a process. */
export async function temporaryRoot(): Promise<{
  root: string;
  url: string;
  open(options?: StoreOptions): Promise<StagingStore>;
  remove(): Promise<void>;
}> {
  const directory = await mkdtemp(join(tmpdir(), "es-to-pg-staging-"));
  const root = join(directory, "staging");
  const url = pathToFileURL(root).href;
  return {
    root,
    url,
    open: (options = {}) => openStore({ url, ...options }),
    remove: () => rm(directory, { recursive: true, force: true }),
  };
}

/** The code of the error that a promise is rejected with. */
export async function codeOf(work: Promise<unknown>): Promise<unknown> {
  try {
    await work;
  } catch (error) {
    return error instanceof Error && "code" in error ? error.code : error;
  }
  return "no error";
}

/** Waits until a condition holds, for at most `milliseconds`. */
export async function until(condition: () => boolean | Promise<boolean>, milliseconds = 10_000): Promise<void> {
  const end = Date.now() + milliseconds;
  while (!(await condition())) {
    if (Date.now() > end) throw new Error("the condition did not come true");
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}
