import { randomBytes } from "node:crypto";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { type ElasticsearchRequest, requestElasticsearch } from "@es-to-pg/seed";
import { Client } from "pg";
import { z } from "zod";
import { elasticsearchEnvironment } from "../elasticsearch-environment.ts";
import { openSession, type ServerName, type Session } from "../servers.ts";

/** Engines that answer. */
export interface EngineAddresses {
  elasticsearchUrl: string;
  databaseUrl: string;
}

/** A document as it goes to Elasticsearch; text goes as the bytes that it is. */
export interface EvalDocument {
  id: string;
  source: Record<string, unknown> | string;
}

/** A document as Elasticsearch has it. */
export interface FoundDocument {
  id: string;
  source: Record<string, unknown>;
}

/** One task's own database, indices, staging directory and servers, and a way past the servers to look at both engines. */
export interface Place extends AsyncDisposable {
  sessions: Record<ServerName, Session>;
  elasticsearchUrl: string;
  /** What `{name}` stands for in the sentences and recordings of the task: indices, and handles from before. */
  names: Map<string, string>;
  /** The real name of one of the task's indices. */
  index(name: string): string;
  createIndex(name: string, properties: object, documents: Iterable<EvalDocument>): Promise<void>;
  write(name: string, documents: Iterable<EvalDocument>): Promise<void>;
  /** All documents of an index, by id. */
  documents(name: string): Promise<FoundDocument[]>;
  /** Runs SQL beside the servers; values come as text. */
  sql(statement: string, params?: unknown[]): Promise<(string | null)[][]>;
  es(method: ElasticsearchRequest["method"], path: string, body?: string): Promise<string>;
}

/** More than any task writes, and what Elasticsearch gives at once. */
const documentsMax = 10_000;

const hitsSchema = z.object({
  hits: z.object({ hits: z.array(z.object({ _id: z.string(), _source: z.record(z.string(), z.unknown()) })) }),
});

/** Makes a place for a task with these indices, none of them created yet. */
export async function makePlace(engines: EngineAddresses, indices: readonly string[]): Promise<Place> {
  const suffix = randomBytes(4).toString("hex");
  const database = `eval_${suffix}`;
  const names = new Map(indices.map((name) => [name, `${name}-${suffix}`]));
  const { elasticsearchUrl } = engines;
  const undo: (() => Promise<unknown>)[] = [];
  const remove = async (): Promise<void> => {
    for (const step of undo.splice(0).toReversed()) await step();
  };
  try {
    await withClient(engines.databaseUrl, (client) =>
      client.query(`CREATE DATABASE ${database} ENCODING 'UTF8' TEMPLATE template0`),
    );
    undo.push(() =>
      withClient(engines.databaseUrl, (client) => client.query(`DROP DATABASE ${database} WITH (FORCE)`)),
    );
    const url = new URL(engines.databaseUrl);
    url.pathname = `/${database}`;
    const client = await connect(url.href);
    undo.push(() => client.end());
    const staging = await mkdtemp(join(tmpdir(), "eval-staging-"));
    undo.push(() => rm(staging, { recursive: true, force: true }));
    const es: Place["es"] = (method, path, body) =>
      requestElasticsearch(elasticsearchUrl, {
        method,
        path,
        ...(body === undefined ? {} : { body, contentType: contentTypeOf(path) }),
      });
    undo.push(() =>
      Promise.all(
        [...names.values()].map((path) => requestElasticsearch(elasticsearchUrl, { method: "DELETE", path }, [404])),
      ),
    );
    const STAGING_URL = pathToFileURL(staging).href;
    const open = async (server: ServerName, env: Record<string, string>): Promise<Session> => {
      const session = await openSession({ server, env: { ...env, STAGING_URL } });
      undo.push(() => session.close());
      return session;
    };
    const index = (name: string): string => {
      const real = names.get(name);
      if (real === undefined) throw new Error(`the task has no index ${name}`);
      return real;
    };
    const write: Place["write"] = async (name, documents) => {
      const lines = [...documents].flatMap(({ id, source }) => [
        JSON.stringify({ index: { _id: id } }),
        typeof source === "string" ? source : JSON.stringify(source),
      ]);
      const answer = await es(
        "POST",
        `${index(name)}/_bulk?refresh=true&filter_path=errors,items.*.error`,
        `${lines.join("\n")}\n`,
      );
      if (!answer.startsWith('{"errors":false'))
        throw new Error(`Elasticsearch refused a document: ${answer.slice(0, 500)}`);
    };
    return {
      elasticsearchUrl,
      names,
      index,
      write,
      es,
      sessions: {
        "es-mcp": await open("es-mcp", {
          ...elasticsearchEnvironment(elasticsearchUrl),
          ES_MCP_INDICES_ALLOW: [...names.values()].join(",") || "none",
        }),
        "pg-mcp": await open("pg-mcp", { DATABASE_URL: url.href }),
      },
      async createIndex(name, properties, documents) {
        const settings = { number_of_shards: 1, number_of_replicas: 0 };
        await es("PUT", index(name), JSON.stringify({ settings, mappings: { properties } }));
        await write(name, documents);
      },
      async documents(name) {
        const found = await es("GET", `${index(name)}/_search?size=${documentsMax}`);
        return hitsSchema
          .parse(JSON.parse(found))
          .hits.hits.map(({ _id, _source }) => ({ id: _id, source: _source }))
          .toSorted((one, other) => (one.id < other.id ? -1 : 1));
      },
      async sql(statement, params = []) {
        const { rows } = await client.query<(string | null)[]>({ text: statement, values: params, rowMode: "array" });
        return rows;
      },
      [Symbol.asyncDispose]: remove,
    };
  } catch (error) {
    await remove();
    throw error;
  }
}

function contentTypeOf(path: string): string {
  return path.includes("/_bulk") ? "application/x-ndjson" : "application/json";
}

async function connect(connectionString: string): Promise<Client> {
  const client = new Client({ connectionString, types: { getTypeParser: () => (text: string) => text } });
  await client.connect();
  return client;
}

async function withClient(connectionString: string, work: (client: Client) => Promise<unknown>): Promise<void> {
  const client = await connect(connectionString);
  try {
    await work(client);
  } finally {
    await client.end();
  }
}
