import { Buffer } from "node:buffer";
import { randomBytes } from "node:crypto";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { Cursors, createLogger, Jobs, type ToolCall } from "@es-to-pg/mcp-kit";
import { type ExportWriter, type MappingField, openStore, type StagingStore } from "@es-to-pg/staging";
import { connectionFromUrl } from "../src/config.ts";
import type { LoadAnswer } from "../src/load/answer.ts";
import type { LoadContext } from "../src/load/context.ts";
import { FIGURE_NAMES } from "../src/load/figures.ts";
import { showLoad } from "../src/load/show.ts";
import { type LoadRequest, startLoad } from "../src/load/start.ts";
import { openPostgres, type Postgres } from "../src/postgres/index.ts";

/** One document of an export that a test stages; `source` may be raw text. */
export interface StagedDocument {
  id: string;
  source: Record<string, unknown> | string;
  index?: string;
  seqNo?: number;
  routing?: string;
}

export interface Harness {
  context: LoadContext & ToolCall;
  postgres: Postgres;
  store: StagingStore;
  /** The test's own schema, and that of the state. */
  schema: string;
  stagingUrl: string;
  sql(text: string, params?: unknown[]): Promise<unknown[][]>;
  /** Makes a fresh table, with what follows its columns in the DDL, and answers its name. */
  table(columns: string, after?: string): Promise<string>;
  /** Stages documents as a completed export of the given parts, from one index of so many shards. */
  stage(parts: StagedDocument[][], mapping?: MappingField[], shards?: number): Promise<string>;
  /** A working export that the test completes itself. */
  openExport(expected: number, mapping?: MappingField[], change?: Record<string, unknown>): Promise<ExportWriter>;
  load(
    request: Partial<LoadRequest> & { table: string; waitSeconds?: number },
    context?: LoadContext & ToolCall,
  ): Promise<LoadAnswer>;
  close(): Promise<void>;
}

/** Everything that `startLoad` may be told, at its defaults. */
export const requestDefaults: Omit<LoadRequest, "table"> = {
  mode: "upsert",
  limits: { onError: "reject", rejectsMax: null, rejectRatioMax: null },
  deleteRatioMax: 0.5,
  confirmPartial: false,
  allowPartial: false,
  overrideIdentity: false,
  dryRun: false,
  repeat: false,
  fresh: true,
  storedRowsMax: 0,
};

/** What makes a load gather all parts before it writes, where it might write part by part. */
export const gathers = { limits: { onError: "reject", rejectsMax: 1_000_000, rejectRatioMax: null } } as const;

/** A context over real PostgreSQL, with a schema, a state schema and a staging root of its own. */
export async function openHarness(databaseUrl: string): Promise<Harness> {
  const schema = `load_${randomBytes(5).toString("hex")}`;
  const root = await mkdtemp(join(tmpdir(), "load-test-"));
  const stagingUrl = pathToFileURL(root).href;
  const store = await openStore({ url: stagingUrl });
  const context = openContext({ databaseUrl, store, stateSchema: `${schema}_state` });
  const { postgres } = context;
  const signal = new AbortController().signal;
  const sql: Harness["sql"] = async (text, params = []) =>
    postgres.write(async (tx) => (await tx.query(text, params)).rows, { signal });
  await sql(`CREATE SCHEMA ${schema}`);
  let tables = 0;

  const openExport: Harness["openExport"] = (expected, mapping = [], change = {}) =>
    store.create({
      request_digest: randomBytes(8).toString("hex"),
      source: {
        cluster_uuid: "test",
        indices: [{ name: "docs", uuid: "u1", shards: 1, source_mode: "stored", documents: expected }],
        query: null,
        fields: null,
        max_documents: null,
        since: null,
        method: "pit",
        pit_time: new Date().toISOString(),
        expected,
        ...change,
      },
      mapping,
    });

  return {
    context,
    postgres,
    store,
    schema,
    stagingUrl,
    sql,
    async table(columns, after = "") {
      const name = `t${++tables}`;
      await sql(`CREATE TABLE ${schema}.${name} (${columns}) ${after}`);
      return name;
    },
    openExport,
    async stage(parts, mapping, shards = 1) {
      const documents = parts.reduce((sum, part) => sum + part.length, 0);
      const indices = [{ name: "docs", uuid: "u1", shards, source_mode: "stored", documents }];
      const writer = await openExport(documents, mapping, { indices });
      for (const part of parts) await addPart(writer, part);
      await writer.finish("completed");
      return writer.manifest.export_id;
    },
    async load(request, by = context) {
      const started = await startLoad(by, { ...requestDefaults, schema, ...request }, by.signal);
      await started.ended;
      return showLoad(by, started.loadId, { ...started, waitSeconds: request.waitSeconds ?? 40 });
    },
    async close() {
      await context.jobs.shutdown();
      await sql(`DROP SCHEMA IF EXISTS ${schema} CASCADE`);
      await sql(`DROP SCHEMA IF EXISTS ${schema}_state CASCADE`);
      await postgres.close();
      await rm(root, { recursive: true, force: true });
    },
  };
}

export function openContext(options: {
  databaseUrl: string;
  store: StagingStore;
  stateSchema: string;
}): LoadContext & ToolCall {
  return {
    postgres: openPostgres({ writer: connectionFromUrl(options.databaseUrl) }),
    store: async () => options.store,
    jobs: new Jobs(),
    logger: createLogger({ level: "warn" }),
    policy: { schemasAllow: [], schemasDeny: [], tablesAllow: [], tablesDeny: [] },
    settings: {
      PG_MCP_STATE_SCHEMA: options.stateSchema,
      PG_MCP_RETENTION_DAYS: 14,
      PG_MCP_PARTS_AT_ONCE: 2,
      PG_MCP_ALLOW_FUNCTIONS: [],
      MCP_WAIT_SECONDS_DEFAULT: 20,
    },
    signal: new AbortController().signal,
    progress: () => {},
    cursors: new Cursors(),
  };
}

/** Writes a part, lists it, and keeps the export working. */
export async function addPart(writer: ExportWriter, documents: StagedDocument[]): Promise<void> {
  const part = await writer.openPart();
  const lines = documents.map(({ id, source, index = "docs", seqNo, routing }, position) => {
    const head = JSON.stringify({
      _index: index,
      _id: id,
      ...(routing === undefined ? {} : { _routing: routing }),
      _seq_no: seqNo ?? position,
      _primary_term: 1,
    });
    const raw = typeof source === "string" ? source : JSON.stringify(source);
    return `${head.slice(0, -1)},"_source":${raw}}\n`;
  });
  await part.write(Buffer.from(lines.join("")), documents.length);
  const info = await part.close();
  const { totals } = writer.manifest;
  await writer.commit({
    parts: [...writer.manifest.parts, info],
    totals: { ...totals, documents: totals.documents + info.documents, bytes: totals.bytes + info.bytes },
  });
}

/** The figures that are not zero, which is what a test spells out. */
export function told(answer: LoadAnswer): Record<string, number> {
  return Object.fromEntries(
    FIGURE_NAMES.flatMap((name) => (answer.figures[name] > 0 ? [[name, answer.figures[name]]] : [])),
  );
}
