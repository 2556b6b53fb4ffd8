import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { type FieldProfile, type MappingField, openStore, type StagingStore } from "@es-to-pg/staging";

/** One line of a part, with `_source` byte by byte as given. */
export function stagedLine(source: string, options: { id: string; index?: string; seqNo?: number }): Buffer {
  const { id, index = "test", seqNo = 0 } = options;
  return Buffer.from(
    `{"_index":${JSON.stringify(index)},"_id":${JSON.stringify(id)},"_seq_no":${seqNo},"_primary_term":1,"_source":${source}}`,
  );
}

/** A staging root of its own for one test file. */
export async function createStaging(): Promise<{ store: StagingStore; remove(): Promise<void> }> {
  const root = await mkdtemp(join(tmpdir(), "pg-mapping-"));
  const store = await openStore({ url: pathToFileURL(root).href });
  return { store, remove: () => rm(root, { recursive: true, force: true }) };
}

/** A completed export of these documents, one part, as es-mcp would have left it. */
export async function stageExport(
  store: StagingStore,
  options: {
    documents: readonly { id: string; source: string }[];
    mapping: readonly MappingField[];
    profile?: readonly FieldProfile[];
    indices?: readonly string[];
  },
): Promise<string> {
  const { documents, mapping, profile = [], indices = ["test"] } = options;
  const writer = await store.create({
    request_digest: "test",
    source: {
      cluster_uuid: "test",
      indices: indices.map((name) => ({
        name,
        uuid: name,
        shards: 1,
        source_mode: "stored",
        documents: documents.length,
      })),
      query: null,
      fields: null,
      max_documents: null,
      since: null,
      method: "pit",
      pit_time: new Date().toISOString(),
      expected: documents.length,
    },
    mapping: [...mapping],
    profile: [...profile],
  });
  const part = await writer.openPart();
  const lines = documents.map(({ id, source }, index) => stagedLine(source, { id, seqNo: index }));
  await part.write(Buffer.concat(lines.flatMap((line) => [line, Buffer.from("\n")])), documents.length);
  const info = await part.close();
  await writer.commit({
    parts: [info],
    totals: { documents: documents.length, bytes: info.bytes, compacted: 0, invalid_utf8: 0 },
    profile: [...profile],
  });
  await writer.finish("completed");
  return writer.manifest.export_id;
}
