import { randomBytes } from "node:crypto";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { type ElasticsearchRequest, requestElasticsearch } from "@es-to-pg/seed";
import { Client } from "pg";
import { inject } from "vitest";
import { openSession, type ServerName, type Session, type SessionOptions } from "../src/servers.ts";

/** A test's own index name, schema, state and staging directory on the shared engines. */
export interface Place extends AsyncDisposable {
  index: string;
  schema: string;
  staging: string;
  env: Record<string, string>;
  open(server: ServerName, options?: Partial<Omit<SessionOptions, "server">>): Promise<Session>;
  /** Runs SQL beside the servers; values come as text. */
  sql(statement: string, params?: unknown[]): Promise<(string | null)[][]>;
  /** Talks to Elasticsearch beside the servers; the body goes as it is. */
  es(
    method: ElasticsearchRequest["method"],
    path: string,
    body?: string | Buffer,
    contentType?: string,
  ): Promise<string>;
}

/** Makes a place of its own for one test or one file of tests. */
export async function makePlace(): Promise<Place> {
  const name = `e2e_${randomBytes(5).toString("hex")}`;
  const elasticsearchUrl = inject("elasticsearchUrl");
  const databaseUrl = inject("databaseUrl");
  const staging = await mkdtemp(join(tmpdir(), "staging-"));
  const database = new Client({
    connectionString: databaseUrl,
    types: { getTypeParser: () => (text: string) => text },
  });
  await database.connect();
  await database.query(`CREATE SCHEMA ${name}`);
  const sessions: Session[] = [];
  const place: Place = {
    index: name,
    schema: name,
    staging,
    env: {
      ELASTICSEARCH_URL: elasticsearchUrl,
      DATABASE_URL: databaseUrl,
      STAGING_URL: pathToFileURL(staging).href,
      PG_MCP_STATE_SCHEMA: `${name}_state`,
    },
    async open(server, options = {}) {
      const session = await openSession({ server, ...options, env: { ...place.env, ...options.env } });
      sessions.push(session);
      return session;
    },
    async sql(statement, params = []) {
      const { rows } = await database.query<(string | null)[]>({ text: statement, values: params, rowMode: "array" });
      return rows;
    },
    es: (method, path, body, contentType = "application/json") =>
      requestElasticsearch(elasticsearchUrl, { method, path, contentType, ...(body === undefined ? {} : { body }) }),
    async [Symbol.asyncDispose]() {
      await Promise.all(sessions.map((session) => session.close()));
      await requestElasticsearch(elasticsearchUrl, { method: "DELETE", path: name }, [404]);
      await database.query(`DROP SCHEMA IF EXISTS ${name}, ${name}_state CASCADE`);
      await database.end();
      await rm(staging, { recursive: true, force: true });
    },
  };
  return place;
}
