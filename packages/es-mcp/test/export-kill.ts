import { type ChildProcess, spawn } from "node:child_process";
import { mkdtemp, readdir, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { setTimeout as delay } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { createLogger, Jobs, readSettings, ToolError } from "@es-to-pg/mcp-kit";
import { type Manifest, openStore, type StagingStore } from "@es-to-pg/staging";
import { expect } from "vitest";
import { esSettings } from "../src/config.ts";
import { createElasticsearch } from "../src/elasticsearch/gateway.ts";
import type { ExportRequest } from "../src/export/request.ts";
import { type ExportContext, type StartedExport, startExport } from "../src/export/start-export.ts";
import type { ChildEnd, ChildTask } from "./export-child.ts";
import { stagedLines, type TestIndices } from "./export-harness.ts";

/** How long a killed process's lease and start lock hold here: short, because tests wait for them. */
export const LEASE_MS = 1_500;
export const START_LOCK_STALE_MS = 600;

/** Three parts, the last of them not full. */
export const SMALL = { documents: 600, partDocumentsMax: 250 };

/** Where each numbered step of `startExport` is, in what an export of `SMALL` does. */
export const killSteps: [step: string, event: string, nth: number][] = [
  ["1, before the lock", "open .starting", 1],
  ["1, with the lock", "send GET _cluster/state/metadata", 1],
  ["2, before the snapshot", "send POST index/_pit", 1],
  ["2, with a snapshot that nobody else knows", "got POST index/_pit", 1],
  ["2, with its documents counted", "got look", 1],
  ["3, half made", "rename .new-exp/manifest.json", 1],
  ["3, made but not in its place", "rename exp", 1],
  ["3, stored and the start still locked", "rm .starting", 1],
  ["4, before any page", "send page", 1],
  ["4, a page read", "got page", 2],
  ["4, a part open", "write exp/writer-00001/part-00001.ndjson", 1],
  ["5, the part not durable", "sync exp/writer-00001/part-00001.ndjson", 1],
  ["5, the part without its name", "rename exp/part-00001.ndjson", 1],
  ["5, the part with its name and in no list", "open exp/writer-00001/tmp", 2],
  ["6, the list beside", "rename exp/manifest.json", 2],
  ["6, the list in its place", "sync exp/writer-00001/part-00002.ndjson", 1],
  ["7, the last part in no list", "rename exp/manifest.json", 3],
  ["8, all listed and the snapshot open", "send DELETE _pit", 1],
  ["8, the snapshot closed", "got DELETE _pit", 1],
  ["9, the end beside", "rename exp/manifest.json", 4],
  ["10, ended with its own directory there", "rm exp/writer-00001", 1],
];

/** Documents whose bytes do not survive a parser, by `_id`; every seventh has a routing of its own. */
export interface Corpus {
  index: string;
  documents: Map<string, { source: string; routing: string | undefined }>;
}

/** Fills an index of two shards with documents that are all different. */
export async function indexCorpus(indices: TestIndices, index: string, count: number): Promise<Corpus> {
  await indices.create(index, {
    settings: { number_of_shards: 2, number_of_replicas: 0, refresh_interval: -1 },
    mappings: { dynamic: false },
  });
  const documents: Corpus["documents"] = new Map();
  for (let n = 0; n < count; n++) {
    const text = `é\\u00e9 \\"}],\\"sort\\":[${n}]} ${"x".repeat(n % 97)}`;
    const source = `{"n":${n},"price":${n}.10,"big":9007199254740993${n},"e":1e${n % 30},"text":"${text}","o":{"_source":{"a":[${n}]}}}`;
    documents.set(`d${n}`, { source, routing: n % 7 === 0 ? `r${n}` : undefined });
  }
  let lines: string[] = [];
  const send = async (): Promise<void> => {
    const answer = await indices.request("POST", `/${index}/_bulk`, lines.join(""), "application/x-ndjson");
    if (answer.includes('"errors":true')) throw new Error(answer.slice(0, 500));
    lines = [];
  };
  for (const [id, { source, routing }] of documents) {
    lines.push(`${JSON.stringify({ index: { _id: id, routing } })}\n${source}\n`);
    if (lines.length === 5000) await send();
  }
  if (lines.length > 0) await send();
  await indices.refresh(index);
  return { index, documents };
}

/** A child process that exports. */
export interface Child {
  process: ChildProcess;
  /** Everything of it is loaded; what it does from here on is the export. */
  ready: Promise<unknown>;
  started: Promise<StartedExport | undefined>;
  /** How it ended by itself; undefined where it was killed. */
  end: Promise<ChildEnd | undefined>;
}

const CHILD = fileURLToPath(new URL("export-child.ts", import.meta.url));

export function spawnChild(task: ChildTask): Child {
  const process_ = spawn(process.execPath, [CHILD, JSON.stringify(task)], { stdio: ["ignore", "pipe", "inherit"] });
  const lines = createInterface({ input: process_.stdout })[Symbol.asyncIterator]();
  const read = async <T>(): Promise<T | undefined> => {
    const { value, done } = await lines.next();
    return done === true ? undefined : JSON.parse(value);
  };
  const ready = read<string>();
  const answer = (async () => {
    await ready;
    return await read<StartedExport | ChildEnd>();
  })();
  const startedAs = async (): Promise<StartedExport | undefined> => {
    const line = await answer;
    return line !== undefined && "exportId" in line ? line : undefined;
  };
  const endedAs = async (): Promise<ChildEnd | undefined> => {
    const line = await answer;
    return line !== undefined && "events" in line ? line : await read<ChildEnd>();
  };
  return { process: process_, ready, started: startedAs(), end: endedAs() };
}

/** A staging root of one case, and what its exports are asked of. */
export interface KillCase {
  root: string;
  store: StagingStore;
  task: ChildTask;
  /** A server in the process of the test. */
  context: ExportContext;
  dispose(): Promise<void>;
}

export async function openCase(options: {
  elasticsearchUrl: string;
  index: string;
  partDocumentsMax: number;
  root?: string;
  leaseMs?: number;
}): Promise<KillCase> {
  const { elasticsearchUrl, index, partDocumentsMax, leaseMs = LEASE_MS } = options;
  const root = options.root ?? (await mkdtemp(join(tmpdir(), "es-chaos-")));
  const store = await openStore({ url: `file://${root}`, leaseMs });
  const elasticsearch = createElasticsearch(readSettings(esSettings, { ELASTICSEARCH_URL: elasticsearchUrl }));
  const jobs = new Jobs((handle, error) => console.error("job failed", handle, error));
  return {
    root,
    store,
    task: { elasticsearchUrl, root, index, leaseMs, startLockStaleMs: START_LOCK_STALE_MS, partDocumentsMax },
    context: {
      elasticsearch,
      store,
      jobs,
      slicesAtOnce: 2,
      logger: createLogger({ level: "error" }),
      partDocumentsMax,
      startLockStaleMs: START_LOCK_STALE_MS,
    },
    async dispose() {
      await jobs.shutdown();
      await elasticsearch.close();
      await rm(root, { recursive: true, force: true });
    },
  };
}

export function requestFor(index: string, change: Partial<ExportRequest> = {}): ExportRequest {
  return {
    index: [index],
    query: undefined,
    fields: undefined,
    maxDocuments: undefined,
    includeHidden: false,
    since: undefined,
    ...change,
  };
}

/** Makes the same call until the export is no longer somebody else's, and answers how it ended. */
export async function exportToTheEnd(context: ExportContext, index: string): Promise<Manifest> {
  const { store, jobs } = context;
  for (const deadline = performance.now() + 60_000; performance.now() < deadline; ) {
    const started = await startExport(context, requestFor(index), {
      fresh: false,
      signal: AbortSignal.timeout(60_000),
    }).catch((error: unknown) => {
      // A machine that is busy with other cases: a caller would call again, too.
      if (error instanceof ToolError && error.code === "timeout") return undefined;
      throw error;
    });
    if (started === undefined) continue;
    const { exportId } = started;
    while (jobs.isRunning(exportId)) await delay(10);
    const manifest = await store.read(exportId);
    if (manifest.status !== "working") return manifest;
    await delay(50);
  }
  throw new Error("the export did not end within a minute");
}

/** The same, each call made by a process of its own. */
export async function exportToTheEndElsewhere(kill: KillCase): Promise<Manifest> {
  for (const deadline = performance.now() + 60_000; performance.now() < deadline; ) {
    const child = spawnChild(kill.task);
    const started = await child.started;
    const end = await child.end;
    if (started === undefined) throw new Error(`the child started nothing: ${end?.error}`);
    const manifest = await kill.store.read(started.exportId);
    if (manifest.status !== "working") return manifest;
    await delay(LEASE_MS / 2);
  }
  throw new Error("the export did not end within a minute");
}

/** Every document is staged once with the bytes that were indexed, and the profile has seen each of them once. */
export async function expectExact(root: string, manifest: Manifest, { index, documents }: Corpus): Promise<void> {
  expect(manifest).toMatchObject({ status: "completed", error: null, checkpoint: null, lease: null });
  expect(manifest.totals.documents).toBe(documents.size);
  const lines = await stagedLines(root, manifest);
  expect(lines.length).toBe(documents.size);
  const seen = new Set<string>();
  for (const line of lines) {
    const document = documents.get(line.id);
    if (
      line.index !== index ||
      document === undefined ||
      line.routing !== document.routing ||
      !line.source.equals(Buffer.from(document.source))
    ) {
      throw new Error(`${line.id} is staged as ${line.source.toString().slice(0, 500)}`);
    }
    seen.add(line.id);
  }
  expect(seen.size).toBe(documents.size);
  const counts = ["n", "price", "big", "text", "o._source.a"].map((path) => {
    const field = manifest.profile.find((candidate) => candidate.path === path);
    return [path, field?.present];
  });
  expect(counts).toEqual(counts.map(([path]) => [path, documents.size]));
}

/** One export is there and nothing else: no lock, no half-made directory, no part that is not listed. */
export async function expectTidy(kill: KillCase, manifest: Manifest): Promise<void> {
  const wanted = [
    "manifest.json",
    ...manifest.parts.map(({ index }) => `part-${String(index).padStart(5, "0")}.ndjson`),
    "readers",
  ];
  const found = async (): Promise<string[]> => [
    ...(await readdir(kill.root)),
    ...(await readdir(join(kill.root, manifest.export_id))),
  ];
  // What a killed process left goes with the first sweep after its lease.
  for (const deadline = performance.now() + 3 * LEASE_MS; performance.now() < deadline; await delay(100)) {
    await kill.store.sweep();
    if ((await found()).length === wanted.length + 1) break;
  }
  expect((await found()).sort()).toEqual([manifest.export_id, ...wanted].sort());
  expect((await kill.store.list()).corrupt).toEqual([]);
}

/** Runs the cases, several at a time: most of a case is waiting for a lease. */
export async function inParallel<T>(
  cases: readonly T[],
  concurrency: number,
  run: (one: T) => Promise<void>,
): Promise<void> {
  const next = cases.values();
  await Promise.all(
    Array.from({ length: concurrency }, async () => {
      for (const one of next) await run(one);
    }),
  );
}
