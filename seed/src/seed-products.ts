import { readData } from "./data.ts";
import { needsOwnRequest } from "./dirt.ts";
import { request } from "./elasticsearch.ts";
import { type GenerateOptions, generateDocuments, type SeedDocument } from "./generate.ts";

/** What is written where. */
export interface SeedOptions {
  elasticsearchUrl: string;
  /** Created anew: an index of this name is deleted first if an earlier run wrote it, else this fails. */
  index?: string;
  /** Generated documents; without it, the fifteen products. */
  generate?: GenerateOptions;
  shards?: number;
  onProgress?: (documents: number) => void;
}

/** What was written. */
export interface Seeded {
  index: string;
  documents: number;
  bytes: number;
}

/** Marks an index as one that may be replaced. */
const author = "es-to-pg seed";
/** One request of _bulk: large enough to be quick, small enough for any engine. */
const bulkBytesMax = 4 * 1024 * 1024;

/** Creates the index and writes the documents, as raw bytes and in order, so that a later one has the greater `_seq_no`. */
export async function seedProducts(options: SeedOptions): Promise<Seeded> {
  const { elasticsearchUrl, index = "products", generate, shards = 1, onProgress } = options;
  const path = encodeURIComponent(index);
  await removeOwnIndex(elasticsearchUrl, path);
  const mappings: object = { _meta: { created_by: author }, ...JSON.parse(await readData("mapping.json")) };
  const settings = {
    number_of_shards: shards,
    number_of_replicas: 0,
    refresh_interval: "-1",
    // Dirty values must get into the index as they do in the field: by being ignored there and kept in _source.
    ...(generate?.dirty === true ? { "mapping.ignore_malformed": true } : {}),
  };
  await request(elasticsearchUrl, { method: "PUT", path, body: JSON.stringify({ settings, mappings }) });
  const seeded = { index, documents: 0, bytes: 0 };
  let lines: Buffer[] = [];
  let bytes = 0;
  const flush = async (): Promise<void> => {
    if (lines.length > 0) await bulk(elasticsearchUrl, path, Buffer.concat(lines));
    lines = [];
    bytes = 0;
    onProgress?.(seeded.documents);
  };
  for (const document of generate === undefined ? await fifteenProducts() : generateDocuments(generate)) {
    if (needsOwnRequest(document.dirt)) {
      // Order counts: what comes before is written before.
      await flush();
      const own = {
        method: "PUT",
        path: `${path}/_doc/${encodeURIComponent(document.id)}`,
        body: document.source,
      } as const;
      await request(elasticsearchUrl, own);
    } else {
      const line = Buffer.concat([
        Buffer.from(`{"index":{"_id":${JSON.stringify(document.id)}}}\n`),
        document.source,
        newline,
      ]);
      lines.push(line);
      bytes += line.length;
    }
    seeded.documents++;
    seeded.bytes += document.source.length;
    if (bytes >= bulkBytesMax) await flush();
  }
  await flush();
  await request(elasticsearchUrl, {
    method: "PUT",
    path: `${path}/_settings`,
    body: '{"index":{"refresh_interval":null}}',
  });
  await request(elasticsearchUrl, { method: "POST", path: `${path}/_refresh` });
  return seeded;
}

/** Whether an index of this name is there, whoever wrote it. */
export async function hasIndex(elasticsearchUrl: string, index: string): Promise<boolean> {
  const path = `${encodeURIComponent(index)}/_mapping`;
  return !isAbsent(await request(elasticsearchUrl, { method: "GET", path }, [404]));
}

function isAbsent(mapping: string): boolean {
  return mapping.includes('"index_not_found_exception"');
}

/** Removes an index that an earlier run wrote, and no other: `products` is a name that somebody else may use. */
async function removeOwnIndex(elasticsearchUrl: string, path: string): Promise<void> {
  const mapping = await request(elasticsearchUrl, { method: "GET", path: `${path}/_mapping` }, [404]);
  if (isAbsent(mapping)) return;
  if (!mapping.includes(`"created_by":"${author}"`)) {
    throw new Error(
      `The index ${decodeURIComponent(path)} is there and was not written by this program; it is left alone.`,
    );
  }
  await request(elasticsearchUrl, { method: "DELETE", path });
}

/** The fifteen products of `data/products.ndjson`. */
export async function fifteenProducts(): Promise<SeedDocument[]> {
  const lines = (await readData("products.ndjson")).trimEnd().split("\n");
  return lines.map((line) => {
    const id = /^{"id":"([^"]+)"/.exec(line)?.[1];
    if (id === undefined) throw new Error(`a product without an id: ${line.slice(0, 80)}`);
    return { id, source: Buffer.from(line), dirt: null };
  });
}

const newline = Buffer.from("\n");

async function bulk(elasticsearchUrl: string, path: string, body: Buffer): Promise<void> {
  // filter_path: the answer is as long as the request otherwise, and only failures matter.
  const query = "filter_path=errors,items.*.error,items.*._id";
  const answer = await request(elasticsearchUrl, {
    method: "POST",
    path: `${path}/_bulk?${query}`,
    body,
    contentType: "application/x-ndjson",
  });
  if (!answer.startsWith('{"errors":false')) {
    const failure = /"_id":"[^"]*","error":\{.{0,400}/s.exec(answer)?.[0] ?? answer.slice(0, 400);
    throw new Error(`Elasticsearch refused a document: ${failure}`);
  }
}
