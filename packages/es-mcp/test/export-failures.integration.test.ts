import { readdir, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { ToolError } from "@es-to-pg/mcp-kit";
import type { Manifest } from "@es-to-pg/staging";
import { afterAll, afterEach, beforeAll, describe, expect, inject, it } from "vitest";
import { countedWhile } from "../../mcp-kit/test/counted.ts";
import type { EsRequest } from "../src/elasticsearch/elasticsearch.ts";
import type { ExportRequest } from "../src/export/request.ts";
import { type ExportContext, resumeStalled, type StartedExport, startExport } from "../src/export/start-export.ts";
import { describeExport } from "../src/export/state.ts";
import { cancelExport } from "../src/export/stop-export.ts";
import { call, type Harness, intercept, openHarness, randomName, stagedLines, TestIndices } from "./export-harness.ts";

const DOCUMENTS = 12_000;
const PART_DOCUMENTS = 2000;

const contextOf = (harness: Pick<Harness, "elasticsearch" | "jobs" | "logger">, store: Harness["staging"]) => ({
  elasticsearch: harness.elasticsearch,
  jobs: harness.jobs,
  slicesAtOnce: 2,
  logger: harness.logger,
  store,
  partDocumentsMax: PART_DOCUMENTS,
  retryDelaysMs: [10, 10],
});

async function settled({ context }: { context: ExportContext }, { exportId }: StartedExport): Promise<Manifest> {
  while (context.jobs.isRunning(exportId)) await delay(10);
  return await context.store.read(exportId);
}

async function nothing(): Promise<void> {}

describe("an export that does not run through", () => {
  const index = randomName("failing");
  let indices: TestIndices;
  const harnesses: Harness[] = [];
  /** Called before each request of the export. */
  let before: (request: EsRequest, signal: AbortSignal) => Promise<void> | void = nothing;

  beforeAll(async () => {
    indices = new TestIndices(inject("elasticsearchUrl"));
    await indices.create(index, { settings: { number_of_shards: 2, number_of_replicas: 0 } });
    await indices.bulk(
      index,
      Array.from({ length: DOCUMENTS }, (_, n) => `{"n":${n},"text":"${"x".repeat(100)}"}`),
    );
  });
  afterEach(async () => {
    before = nothing;
    for (const harness of harnesses.splice(0)) await harness.dispose();
  });
  afterAll(async () => {
    await indices.dispose();
  });

  async function open(options: { leaseMs?: number } = {}): Promise<Harness & { context: ExportContext }> {
    const harness = await openHarness(inject("elasticsearchUrl"), {
      ...options,
      wrap: (elasticsearch) => intercept(elasticsearch, (sent, signal) => before(sent, signal)),
    });
    harnesses.push(harness);
    return { ...harness, context: contextOf(harness, harness.staging) };
  }
  const request = (change: Partial<ExportRequest> = {}): ExportRequest => ({
    index: [index],
    query: undefined,
    fields: undefined,
    maxDocuments: undefined,
    includeHidden: false,
    since: undefined,
    ...change,
  });
  const start = (context: ExportContext, change: Partial<ExportRequest> = {}, fresh = false) =>
    startExport(context, request(change), { fresh, signal: call.signal });
  /** Fails or delays the pages of an export from the n-th on. */
  function onPage(from: number, act: (page: number, signal: AbortSignal) => Promise<void> | void): void {
    let page = 0;
    before = async ({ path, body }, signal) => {
      if (path[0] === "_search" && JSON.stringify(body).includes("_shard_doc") && ++page >= from)
        await act(page, signal);
    };
  }
  async function expectComplete(harness: Harness, manifest: Manifest): Promise<void> {
    expect(manifest).toMatchObject({ status: "completed", totals: { documents: DOCUMENTS }, checkpoint: null });
    const lines = await stagedLines(harness.root, manifest);
    expect(new Set(lines.map(({ id }) => id)).size).toBe(DOCUMENTS);
    expect(lines.length).toBe(DOCUMENTS);
    expect(manifest.profile.find(({ path }) => path === "n")).toMatchObject({
      present: DOCUMENTS,
      kinds: { integer: DOCUMENTS },
      min: "0",
      max: `${DOCUMENTS - 1}`,
    });
    const files = await readdir(join(harness.root, manifest.export_id));
    expect(files.filter((name) => name.startsWith("part-")).length).toBe(manifest.parts.length);
    expect(await indices.openContexts(index)).toBe(0);
  }

  it("goes on after a shutdown from its last page, in another process", async () => {
    const harness = await open();
    onPage(6, (_, signal) => delay(60_000, undefined, { signal }));
    const started = await start(harness.context);
    while ((await harness.staging.read(started.exportId)).parts.length === 0) await delay(10);
    await harness.jobs.shutdown();
    const stopped = await harness.staging.read(started.exportId);
    expect(stopped.status).toBe("working");
    expect(harness.staging.isStalled(stopped)).toBe(true);
    expect(describeExport(harness.staging, stopped)).toMatchObject({ stalled: true });

    before = nothing;
    const other = await harness.another();
    const context = contextOf(other, await other.store());
    const resumed = await start(context);
    expect(resumed).toEqual({ exportId: started.exportId, reused: false, resumed: true });
    await expectComplete(harness, await settled({ context }, resumed));
  });

  it("is failed for good when a part that it goes on from is damaged", async () => {
    const harness = await open();
    onPage(6, (_, signal) => delay(60_000, undefined, { signal }));
    const started = await start(harness.context);
    while ((await harness.staging.read(started.exportId)).parts.length === 0) await delay(10);
    await harness.jobs.shutdown();
    before = nothing;
    const path = join(harness.root, started.exportId, "part-00000.ndjson");
    await writeFile(path, (await readFile(path, "utf8")).replace('"n":', '"m":'));

    const other = await harness.another();
    const context = contextOf(other, await other.store());
    const resumed = await start(context);
    expect(resumed).toEqual({ exportId: started.exportId, reused: false, resumed: true });
    const failed = await settled({ context }, resumed);
    expect(failed).toMatchObject({
      status: "failed",
      checkpoint: null,
      error: { code: "staging_corrupt", retryable: false },
    });
    expect(await indices.openContexts(index)).toBe(0);
    const anew = await start(context);
    expect(anew.exportId).not.toBe(started.exportId);
    await expectComplete(harness, await settled({ context }, anew));
  });

  it("is cancelled with its snapshot closed, and what was staged stays", async () => {
    const harness = await open();
    onPage(6, (_, signal) => delay(60_000, undefined, { signal }));
    const started = await start(harness.context);
    while ((await harness.staging.read(started.exportId)).parts.length === 0) await delay(10);
    await cancelExport(harness.context, started.exportId);
    const manifest = await harness.staging.read(started.exportId);
    expect(manifest).toMatchObject({ status: "cancelled", checkpoint: null });
    expect((await stagedLines(harness.root, manifest)).length).toBe(manifest.totals.documents);
    expect(await indices.openContexts(index)).toBe(0);
  });

  it("asks again for less where Elasticsearch is busy", async () => {
    const harness = await open();
    const sizes: number[] = [];
    let failures = 2;
    onPage(3, () => {
      if (failures-- > 0) throw new ToolError("busy", "busy", { retryable: true });
    });
    const inner = before;
    before = async (sent, signal) => {
      const size: unknown = Reflect.get(Object(sent.body), "size");
      if (sent.path[0] === "_search" && typeof size === "number" && size > 0) sizes.push(size);
      await inner(sent, signal);
    };
    const started = await start(harness.context);
    await expectComplete(harness, await settled(harness, started));
    expect(sizes.some((size, at) => at > 0 && size < (sizes[at - 1] ?? 0))).toBe(true);
  });

  it("fails for the moment when Elasticsearch stays away, and goes on with the same call", async () => {
    const harness = await open();
    onPage(8, () => {
      throw new ToolError("unreachable", "Elasticsearch cannot be reached.", { retryable: true });
    });
    const started = await start(harness.context);
    const failed = await settled(harness, started);
    expect(failed).toMatchObject({ status: "failed", error: { code: "unreachable", retryable: true } });
    expect(failed.error?.message).toMatch(/\d+ of 12000 documents are staged/);
    expect(failed.totals.documents).toBeGreaterThan(0);

    before = nothing;
    const resumed = await start(harness.context);
    expect(resumed).toEqual({ exportId: started.exportId, reused: false, resumed: true });
    await expectComplete(harness, await settled(harness, resumed));
  });

  it("is failed for good when its snapshot is lost, and the same call makes a new export", async () => {
    const harness = await open();
    let pit = "";
    before = ({ body }) => {
      pit = String(Reflect.get(Object(Reflect.get(Object(body), "pit")), "id") ?? pit);
    };
    const inner = before;
    let page = 0;
    before = async (sent, signal) => {
      await inner(sent, signal);
      if (JSON.stringify(sent.body ?? null).includes("_shard_doc") && ++page === 5) {
        await indices.request("DELETE", "/_pit", JSON.stringify({ id: pit }));
      }
    };
    const started = await start(harness.context);
    const failed = await settled(harness, started);
    expect(failed).toMatchObject({ status: "failed", error: { code: "snapshot_lost", retryable: false } });
    before = nothing;
    const anew = await start(harness.context);
    expect(anew.exportId).not.toBe(started.exportId);
    await expectComplete(harness, await settled(harness, anew));
  });

  it("counts as failed where whoever takes it over finds its snapshot gone", async () => {
    const harness = await open();
    onPage(6, (_, signal) => delay(60_000, undefined, { signal }));
    const { exportId: lost } = await start(harness.context);
    while ((await harness.staging.read(lost)).parts.length === 0) await delay(10);
    await harness.jobs.shutdown();
    before = nothing;
    const { checkpoint } = await harness.staging.read(lost);
    for (const { pit_id: id } of checkpoint?.points ?? []) {
      await indices.request("DELETE", "/_pit", JSON.stringify({ id }));
    }
    const other = await harness.another();
    const context = contextOf(other, await other.store());
    const counts = await countedWhile("etl.jobs.ended", () => resumeStalled(context, call.signal));
    expect(await context.store.read(lost)).toMatchObject({ status: "failed", error: { code: "snapshot_lost" } });
    expect(counts).toEqual({ "export failed": 1 });
  });

  it("counts as cancelled where its process is gone", async () => {
    const harness = await open();
    onPage(6, (_, signal) => delay(60_000, undefined, { signal }));
    const { exportId } = await start(harness.context);
    while ((await harness.staging.read(exportId)).parts.length === 0) await delay(10);
    await harness.jobs.shutdown();
    before = nothing;
    const other = await harness.another();
    const context = contextOf(other, await other.store());
    const counts = await countedWhile("etl.jobs.ended", () => cancelExport(context, exportId));
    expect(counts).toEqual({ "export cancelled": 1 });
    expect(await indices.openContexts(index)).toBe(0);
  });

  it("is failed for good when an index is deleted in the middle", async () => {
    const harness = await open();
    const name = randomName("vanishing");
    await indices.create(name);
    await indices.bulk(
      name,
      Array.from({ length: 3000 }, (_, n) => `{"n":${n}}`),
    );
    onPage(3, async (page) => {
      if (page === 3) await indices.request("DELETE", `/${name}`);
    });
    const manifest = await settled(harness, await start(harness.context, { index: [name] }));
    expect(manifest).toMatchObject({ status: "failed", error: { code: "snapshot_lost" } });
    expect(manifest.totals.documents).toBeLessThan(3000);
  });

  it("never calls a short export complete", async () => {
    const harness = await open();
    // A total that the pages cannot reach: what a lost document would look like.
    const { elasticsearch } = harness.context;
    const lying: typeof elasticsearch = {
      ...intercept(elasticsearch, () => {}),
      json: async (sent, options) => {
        const answer = await elasticsearch.json(sent, options);
        const total: unknown = Reflect.get(Object(Reflect.get(Object(answer), "hits")), "total");
        if (sent.path[0] === "_search") Reflect.set(Object(total), "value", DOCUMENTS + 1);
        return answer;
      },
    };
    const started = await start({ ...harness.context, elasticsearch: lying });
    const manifest = await settled(harness, started);
    expect(manifest).toMatchObject({ status: "failed", error: { code: "documents_missing", retryable: false } });
    expect(manifest.error?.message).toContain(`gave ${DOCUMENTS} documents of the ${DOCUMENTS + 1}`);
    expect(await indices.openContexts(index)).toBe(0);
  });

  it("lets two processes that start at once share one export", async () => {
    const harness = await open();
    const other = await harness.another();
    const contexts = [harness.context, contextOf(other, await other.store())];
    const started = await Promise.all([...contexts, ...contexts].map((context) => start(context)));
    expect(new Set(started.map(({ exportId }) => exportId)).size).toBe(1);
    const [first] = started;
    if (first === undefined) throw new Error("nothing started");
    for (const context of contexts) await settled({ context }, first);
    await expectComplete(harness, await harness.staging.read(first.exportId));
    expect((await harness.staging.list()).exports.length).toBe(1);
  });

  it("reads by scroll where points in time are refused", async () => {
    const harness = await open();
    before = ({ path }) => {
      if (path.includes("_pit")) throw new ToolError("forbidden", "no", { details: { status: 403 } });
    };
    const started = await start(harness.context);
    const manifest = await settled(harness, started);
    expect(manifest.source.method).toBe("scroll");
    await expectComplete(harness, manifest);
    const few = await settled(harness, await start(harness.context, { maxDocuments: 777 }));
    expect(few).toMatchObject({ status: "completed", totals: { documents: 777 }, source: { expected: 777 } });
    expect(few.profile.find(({ path }) => path === "n")?.present).toBe(777);
    expect(await indices.openContexts(index)).toBe(0);
  });
});
