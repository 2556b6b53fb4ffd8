import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { afterAll, beforeAll, describe, expect, inject, test } from "vitest";
import { type Elasticsearch9, openElasticsearch9 } from "./elasticsearch-9.ts";
import { randomName, TestIndices } from "./export-harness.ts";
import { openSession, type Session } from "./session.ts";

const vectors = ["[0.5,1.0]", "[0.25,-1.0]"];

let staging: string;
beforeAll(async () => {
  staging = await mkdtemp(join(tmpdir(), "es-versions-"));
});
afterAll(() => rm(staging, { recursive: true, force: true }));

async function open(url: string): Promise<Session> {
  return await openSession({ ELASTICSEARCH_URL: url, STAGING_URL: pathToFileURL(staging).href });
}

/** The text of an export's only part. */
async function staged(exportId: string): Promise<string> {
  return await readFile(join(staging, exportId, "part-00000.ndjson"), "utf8");
}

describe("Elasticsearch 9.2", () => {
  let nine: Elasticsearch9;
  beforeAll(async () => {
    nine = await openElasticsearch9();
  });
  afterAll(() => nine[Symbol.asyncDispose]());

  test("is listed, described, searched and counted in a media type and with parameters that it takes", async () => {
    await using session = await open(nine.url);
    expect((await session.call("list_indices")).data.indices).toEqual([
      { name: "products", documents: 3, bytes: 5120, health: "green" },
    ]);
    const { data: mapping } = await session.call("get_mapping", { index: "products" });
    expect(mapping.fields.map(({ path, type }: { path: string; type: string }) => [path, type])).toEqual([
      ["name", "keyword"],
      ["big", "long"],
      ["embedding", "dense_vector"],
    ]);
    const { data: found } = await session.call("search_documents", { index: "products", size: 1 });
    expect(found).toMatchObject({ total: 3, returned: 1, next_cursor: expect.any(String) });
    expect(found.hits[0]._source.big).toBe("9007199254740993");
    expect((await session.call("count_documents", { index: "products" })).data.count).toBe(3);
    expect((await session.call("get_document", { index: "products", id: "2" })).data._source).toMatchObject({
      name: "lamp",
    });
    expect(nine.seen).not.toContain("GET /");
  });

  test("shows its vectors in a profile and in documents that are given out inline", async () => {
    await using session = await open(nine.url);
    const { data: profile } = await session.call("profile_index", { index: "products" });
    const embedding = profile.fields.find(({ path }: { path: string }) => path === "embedding");
    expect(embedding).toMatchObject({ arrays: 2, missing_percent: 33.3 });
    const { data } = await session.call("bulk_export", { index: "products", delivery: "inline" });
    expect(data).toMatchObject({ returned: 3, total: 3 });
    expect(JSON.stringify(data.documents)).toContain('"embedding":[0.25');
  });

  test("gives its vectors to an export although it leaves them out of _source", async () => {
    await using session = await open(nine.url);
    const { data } = await session.call("bulk_export", { index: "products", wait_seconds: 30 });
    expect(data).toMatchObject({ status: "completed", documents: 3, expected: 3 });
    const text = await staged(data.export_id);
    for (const vector of vectors) expect(text).toContain(`"embedding":${vector}}`);
    expect(text).toContain('"big":9007199254740993');
    const manifest = JSON.parse(await readFile(join(staging, data.export_id, "manifest.json"), "utf8"));
    expect(manifest.source).toMatchObject({ cluster_uuid: "nine-two-cluster-uuid", method: "pit" });
    expect(manifest.watermark).toMatchObject([{ checkpoint: 2 }]);
  });
});

describe("the Elasticsearch of the tests", () => {
  const indices = new TestIndices(inject("elasticsearchUrl"));
  afterAll(() => indices.dispose());

  test("exports its vectors, also where it does not know how to leave them out", async () => {
    const index = randomName("vectors");
    await indices.create(index, {
      settings: { number_of_replicas: 0 },
      mappings: { properties: { embedding: { type: "dense_vector", dims: 2 } } },
    });
    await indices.bulk(
      index,
      vectors.map((vector) => `{"embedding":${vector}}`),
    );
    await using session = await open(inject("elasticsearchUrl"));
    expect((await session.call("profile_index", { index })).data).toMatchObject({ documents: 2 });
    const inline = await session.call("bulk_export", { index, delivery: "inline" });
    expect(JSON.stringify(inline.data.documents)).toContain('"embedding":[0.25');
    const { data } = await session.call("bulk_export", { index, wait_seconds: 30 });
    expect(data).toMatchObject({ status: "completed", documents: 2 });
    const text = await staged(data.export_id);
    for (const vector of vectors) expect(text).toContain(`"_source":{"embedding":${vector}}`);
  });
});
