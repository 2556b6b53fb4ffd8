import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Cursors, createLogger, Jobs, readSettings, type ToolCall } from "@es-to-pg/mcp-kit";
import { type Manifest, openStore, type StagingStore } from "@es-to-pg/staging";
import { esSettings } from "../src/config.ts";
import type { Elasticsearch, EsRequest } from "../src/elasticsearch/elasticsearch.ts";
import { createElasticsearch } from "../src/elasticsearch/gateway.ts";
import type { EsContext } from "../src/tools/tool.ts";

/** A random name, so that tests share an engine. */
export function randomName(prefix: string): string {
  return `${prefix}-${Math.random().toString(36).slice(2, 10)}`;
}

/** Direct requests of a test, which may write. */
export class TestIndices {
  readonly #url: string;
  readonly #names = new Set<string>();

  constructor(url: string) {
    this.#url = url;
  }

  async create(name: string, body: unknown = {}): Promise<void> {
    this.#names.add(name);
    await this.request("PUT", `/${name}`, JSON.stringify(body));
  }

  async put(index: string, id: string, document: string | Uint8Array, routing?: string): Promise<void> {
    const query = routing === undefined ? "" : `?routing=${encodeURIComponent(routing)}`;
    await this.request("PUT", `/${index}/_doc/${encodeURIComponent(id)}${query}`, document);
  }

  async bulk(index: string, documents: readonly string[], firstId = 0): Promise<void> {
    const size = 5000;
    for (let at = 0; at < documents.length; at += size) {
      const lines = documents
        .slice(at, at + size)
        .map((document, position) => `{"index":{"_id":"${firstId + at + position}"}}\n${document}\n`);
      const answer = await this.request("POST", `/${index}/_bulk`, lines.join(""), "application/x-ndjson");
      if (answer.includes('"errors":true')) throw new Error(answer.slice(0, 500));
    }
    await this.refresh(index);
  }

  async refresh(index: string): Promise<void> {
    await this.request("POST", `/${index}/_refresh`);
  }

  /** Contexts that Elasticsearch holds open for one index. */
  async openContexts(index: string): Promise<number> {
    const stats: unknown = JSON.parse(
      await this.request("GET", `/${index}/_stats/search?filter_path=_all.total.search.open_contexts`),
    );
    return Number(JSON.stringify(stats).match(/"open_contexts":(\d+)/)?.[1] ?? Number.NaN);
  }

  async request(
    method: string,
    path: string,
    body?: string | Uint8Array,
    contentType = "application/json",
  ): Promise<string> {
    const answer = await fetch(`${this.#url.replace(/\/$/, "")}${path}`, {
      method,
      ...(body === undefined ? {} : { body: Buffer.from(body), headers: { "content-type": contentType } }),
    });
    const text = await answer.text();
    if (!answer.ok) throw new Error(`${method} ${path}: ${answer.status} ${text.slice(0, 500)}`);
    return text;
  }

  async dispose(): Promise<void> {
    for (const name of this.#names) await this.request("DELETE", `/${name}?ignore_unavailable=true`);
  }
}

export interface Harness extends EsContext {
  staging: StagingStore;
  root: string;
  /** Another server process, as far as the store can tell. */
  another(): Promise<EsContext>;
  dispose(): Promise<void>;
}

export const call: ToolCall = { signal: new AbortController().signal, progress() {}, cursors: new Cursors() };

/** A server's context on the real engine with a staging root of its own. */
export async function openHarness(
  elasticsearchUrl: string,
  options: { wrap?: (elasticsearch: Elasticsearch) => Elasticsearch; leaseMs?: number } = {},
): Promise<Harness> {
  const root = await mkdtemp(join(tmpdir(), "es-export-"));
  const settings = readSettings(esSettings, { ELASTICSEARCH_URL: elasticsearchUrl });
  const logger = createLogger({ level: "error" });
  const opened: EsContext[] = [];
  const open = async (): Promise<EsContext> => {
    const elasticsearch = createElasticsearch(settings);
    const store = await openStore({ url: `file://${root}`, leaseMs: options.leaseMs ?? 30_000 });
    const context: EsContext = {
      elasticsearch: options.wrap?.(elasticsearch) ?? elasticsearch,
      store: async () => store,
      jobs: new Jobs((handle, error) => console.error("job failed", handle, error)),
      settings,
      logger,
    };
    opened.push(context);
    return context;
  };
  const context = await open();
  return {
    ...context,
    staging: await context.store(),
    root,
    another: open,
    async dispose() {
      for (const { jobs, elasticsearch } of opened) {
        await jobs.shutdown();
        await elasticsearch.close();
      }
      await rm(root, { recursive: true, force: true });
    },
  };
}

/** An Elasticsearch whose requests a test sees, delays or fails before they leave. */
export function intercept(
  elasticsearch: Elasticsearch,
  before: (request: EsRequest, signal: AbortSignal) => Promise<void> | void,
): Elasticsearch {
  return {
    restricted: elasticsearch.restricted,
    json: async (request, options) => {
      await before(request, options.signal);
      return await elasticsearch.json(request, options);
    },
    bytes: async (request, options) => {
      await before(request, options.signal);
      return await elasticsearch.bytes(request, options);
    },
    recentIndex: (name) => elasticsearch.recentIndex(name),
    names: (expression, options) => elasticsearch.names(expression, options),
    resolve: (expression, options) => elasticsearch.resolve(expression, options),
    mappings: (indices, options) => elasticsearch.mappings(indices, options),
    mapping: (index, options) => elasticsearch.mapping(index, options),
    clusterUuid: (options) => elasticsearch.clusterUuid(options),
    close: () => elasticsearch.close(),
  };
}

export interface StagedLine {
  index: string;
  id: string;
  routing: string | undefined;
  seqNo: number;
  /** Exactly as staged. */
  source: Buffer;
}

/** Every line of an export, read from its files without the store's help. */
export async function stagedLines(root: string, manifest: Manifest): Promise<StagedLine[]> {
  const lines: StagedLine[] = [];
  const key = Buffer.from(',"_source":');
  for (const { index } of manifest.parts) {
    const bytes = await readFile(join(root, manifest.export_id, `part-${String(index).padStart(5, "0")}.ndjson`));
    for (let start = 0; start < bytes.length; ) {
      const end = bytes.indexOf(0x0a, start);
      const line = bytes.subarray(start, end);
      const at = line.indexOf(key);
      const meta = JSON.parse(`${line.toString("utf8", 0, at)}}`);
      lines.push({
        index: meta._index,
        id: meta._id,
        routing: meta._routing,
        seqNo: meta._seq_no,
        source: line.subarray(at + key.length, line.length - 1),
      });
      start = end + 1;
    }
  }
  return lines;
}
