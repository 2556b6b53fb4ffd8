import { execFileSync } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, readdir, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { type OwnElasticsearch, startElasticsearchPackage } from "@es-to-pg/engines";
import type { Manifest } from "@es-to-pg/staging";
import { afterAll, afterEach, beforeAll, describe, expect, it } from "vitest";
import { startExport } from "../src/export/start-export.ts";
import { describeExport } from "../src/export/state.ts";
import { cancelExport } from "../src/export/stop-export.ts";
import { randomName, TestIndices } from "./export-harness.ts";
import {
  type Child,
  type Corpus,
  expectExact,
  expectTidy,
  exportToTheEnd,
  exportToTheEndElsewhere,
  indexCorpus,
  inParallel,
  type KillCase,
  killSteps,
  LEASE_MS,
  openCase,
  requestFor,
  SMALL,
  spawnChild,
} from "./export-kill.ts";
import { openProxy, type Proxy, type Rule } from "./proxy.ts";

/** More than an export reads without slices, so that two of them are read at once. */
const LARGE = { documents: 12_000, partDocumentsMax: 1000 };
/** Cases at a time: a case waits for leases most of its time. */
const CONCURRENCY = 3;
const RANDOM_MOMENTS = 50;
/** The first keep-alive of a point in time, and the pause between two looks of this Elasticsearch for those that ran out. */
const CONTEXT_MS_MAX = 60_000 + 1_000;

let engine: OwnElasticsearch;
let indices: TestIndices;
let small: Corpus;
let large: Corpus;
const figures: Record<string, unknown> = {};

beforeAll(async () => {
  engine = await startElasticsearchPackage({ "search.keep_alive_interval": "1s" });
  indices = new TestIndices(engine.url);
  small = await indexCorpus(indices, randomName("small"), SMALL.documents);
  large = await indexCorpus(indices, randomName("large"), LARGE.documents);
});
afterAll(async () => {
  process.stdout.write(`chaos: ${JSON.stringify(figures)}\n`);
  await engine?.stop();
});

const cases: KillCase[] = [];
const proxies: Proxy[] = [];
const children: Child[] = [];
afterEach(async () => {
  for (const child of children.splice(0)) child.process.kill("SIGKILL");
  for (const kill of cases.splice(0)) await kill.dispose();
  for (const proxy of proxies.splice(0)) await proxy[Symbol.asyncDispose]();
});

async function newCase(
  corpus: Corpus,
  options: { url?: string; root?: string; leaseMs?: number; partDocumentsMax?: number } = {},
): Promise<KillCase> {
  const { url = engine.url, ...rest } = options;
  const { partDocumentsMax } = corpus === small ? SMALL : LARGE;
  const kill = await openCase({ elasticsearchUrl: url, index: corpus.index, partDocumentsMax, ...rest });
  cases.push(kill);
  return kill;
}

async function newProxy(rule: Rule): Promise<Proxy> {
  const proxy = await openProxy(engine.url, rule);
  proxies.push(proxy);
  return proxy;
}

function newChild(task: Parameters<typeof spawnChild>[0]): Child {
  const child = spawnChild(task);
  children.push(child);
  return child;
}

async function gone({ process: { exitCode, signalCode }, process: child }: Child): Promise<NodeJS.Signals | null> {
  if (exitCode === null && signalCode === null) await once(child, "exit");
  return child.signalCode;
}

/** Ends well, by the same call of this process or of others in turn. */
async function resume(kill: KillCase, elsewhere: boolean): Promise<Manifest> {
  return elsewhere ? await exportToTheEndElsewhere(kill) : await exportToTheEnd(kill.context, kill.task.index);
}

async function contextsGone(index: string, withinMs: number): Promise<number> {
  const begin = performance.now();
  while ((await indices.openContexts(index)) > 0) {
    if (performance.now() - begin > withinMs) throw new Error("contexts stay open");
    await delay(500);
  }
  return Math.round(performance.now() - begin);
}

describe("kill -9", () => {
  it.each(killSteps)("at step %s", async (_step, event, nth) => {
    const kill = await newCase(small);
    const child = newChild({ ...kill.task, killBefore: { event, nth } });
    expect(await gone(child)).toBe("SIGKILL");
    const manifest = await resume(kill, nth % 2 === 0);
    await expectExact(kill.root, manifest, small);
    await expectTidy(kill, manifest);
  });

  it("before each system call and request of an export", async () => {
    const whole = await newCase(small);
    const events = (await newChild(whole.task).end)?.events ?? [];
    expect(events.length).toBeGreaterThan(60);
    const numbers = Array.from({ length: events.length }, (_, at) => at + 1);
    await inParallel(numbers, CONCURRENCY, async (killBeforeEvent) => {
      const kill = await newCase(small);
      await gone(newChild({ ...kill.task, killBeforeEvent }));
      const manifest = await resume(kill, killBeforeEvent % 3 === 0);
      await expectExact(kill.root, manifest, small);
      await expectTidy(kill, manifest);
    });
    figures["eachEvent"] = events.length;
    expect(cases.length).toBe(events.length + 1);
  });

  it("before each system call and request of one that takes over, up to its first page", async () => {
    const first = { killBefore: { event: "rename exp/manifest.json", nth: 2 } };
    const whole = await newCase(small);
    await gone(newChild({ ...whole.task, ...first }));
    await delay(LEASE_MS);
    const events = (await newChild(whole.task).end)?.events ?? [];
    expect(events).toContain("mkdir exp/writer-00002");
    const numbers = Array.from({ length: events.indexOf("send page") + 1 }, (_, at) => at + 1);
    expect(numbers.length).toBeGreaterThan(20);
    await inParallel(numbers, CONCURRENCY, async (killBeforeEvent) => {
      const kill = await newCase(small);
      await gone(newChild({ ...kill.task, ...first }));
      await delay(LEASE_MS);
      await gone(newChild({ ...kill.task, killBeforeEvent }));
      const manifest = await resume(kill, killBeforeEvent % 3 === 0);
      await expectExact(kill.root, manifest, small);
      await expectTidy(kill, manifest);
    });
    figures["eachEventOfTakeOver"] = numbers.length;
  });

  it(`at ${RANDOM_MOMENTS} random moments`, async () => {
    const whole = await newCase(large);
    const unhurt = newChild(whole.task);
    await unhurt.ready;
    const begin = performance.now();
    await unhurt.end;
    // Cases run beside each other, so each takes longer than one alone.
    const tookMs = (performance.now() - begin) * 2;
    const outcomes = { beforeStored: 0, working: 0, completed: 0 };
    const moments = Array.from({ length: RANDOM_MOMENTS }, (_, at) => ((at + Math.random()) / RANDOM_MOMENTS) * tookMs);
    await inParallel(moments, CONCURRENCY, async (moment) => {
      const kill = await newCase(large);
      const child = newChild(kill.task);
      await child.ready;
      await delay(moment);
      child.process.kill("SIGKILL");
      await gone(child);
      const [left] = (await kill.store.list()).exports;
      outcomes[left === undefined ? "beforeStored" : left.status === "working" ? "working" : "completed"] += 1;
      const manifest = await resume(kill, moment % 2 < 1);
      await expectExact(kill.root, manifest, large);
      await expectTidy(kill, manifest);
    });
    figures["randomMoments"] = outcomes;
    expect(outcomes.working).toBeGreaterThan(RANDOM_MOMENTS / 10);
  });

  it("again and again at random moments of the same export", async () => {
    const kill = await newCase(large);
    let kills = 0;
    for (let moment = 60; ; moment += 15) {
      const child = newChild(kill.task);
      await child.ready;
      await delay(moment);
      child.process.kill("SIGKILL");
      if ((await gone(child)) === "SIGKILL") kills++;
      const [left] = (await kill.store.list()).exports;
      if (left?.status === "completed") break;
      await delay(LEASE_MS);
    }
    const [manifest] = (await kill.store.list()).exports;
    if (manifest === undefined) throw new Error("no export is there");
    await expectExact(kill.root, manifest, large);
    await expectTidy(kill, manifest);
    figures["killsOfOneExport"] = kills;
    expect(kills).toBeGreaterThan(0);
  });

  it("leaves no context open: those that nobody knew of end with their first minute", async () => {
    figures["contextsAfterKills"] = [await indices.openContexts(small.index), await indices.openContexts(large.index)];
    const goneAfterMs = [
      await contextsGone(small.index, CONTEXT_MS_MAX * 1.5),
      await contextsGone(large.index, CONTEXT_MS_MAX * 1.5),
    ];
    figures["contextsGoneAfterMs"] = goneAfterMs;
    expect(Math.max(...goneAfterMs)).toBeLessThan(CONTEXT_MS_MAX * 1.5);
  });
});

describe("several processes", () => {
  it("that start the same at once make one export, and survive the death of whoever had it", async () => {
    const kill = await newCase(large);
    const racing = [newChild(kill.task), newChild(kill.task), newChild(kill.task)];
    await Promise.all(racing.map(({ ready }) => ready));
    const started = await Promise.all(racing.map((child) => child.started));
    expect(new Set(started.map((one) => one?.exportId)).size).toBe(1);
    const owner = racing[started.findIndex((one) => one?.reused === false)];
    owner?.process.kill("SIGKILL");
    for (const child of racing) await gone(child);
    const manifest = await exportToTheEnd(kill.context, large.index);
    await expectExact(kill.root, manifest, large);
    await expectTidy(kill, manifest);
    expect((await kill.store.list()).exports.length).toBe(1);
    expect(await indices.openContexts(large.index)).toBe(0);
  });

  it("that find the lock of a killed start make one export", async () => {
    const kill = await newCase(large);
    const dead = newChild({ ...kill.task, killBefore: { event: "send GET _cluster/state/metadata", nth: 1 } });
    expect(await gone(dead)).toBe("SIGKILL");
    expect((await readdir(kill.root)).filter((name) => name.startsWith(".starting-")).length).toBe(1);
    const racing = Array.from({ length: 4 }, () => newChild(kill.task));
    const started = await Promise.all(racing.map((child) => child.started));
    expect(new Set(started.map((one) => one?.exportId)).size).toBe(1);
    expect(started.filter((one) => one?.reused === false).length).toBe(1);
    await Promise.all(racing.map((child) => child.end));
    const manifest = await exportToTheEnd(kill.context, large.index);
    await expectExact(kill.root, manifest, large);
    await expectTidy(kill, manifest);
    expect(await indices.openContexts(large.index)).toBe(0);
  });

  it.each([
    ["a page is read", "got page", 3],
    ["a part gets its name", "rename exp/part-00001.ndjson", 1],
    ["a part is listed", "rename exp/manifest.json", 2],
    ["the snapshot is closed", "send DELETE _pit", 1],
    ["the end is written", "rename exp/manifest.json", 4],
  ])("lose nothing to one that sleeps longer than its lease while %s", async (_when, event, nth) => {
    const kill = await newCase(small);
    const sleeper = newChild({ ...kill.task, stopBefore: { event, nth } });
    await asleep(sleeper);
    const manifest = await exportToTheEnd(kill.context, small.index);
    await expectExact(kill.root, manifest, small);
    sleeper.process.kill("SIGCONT");
    await sleeper.end;
    await gone(sleeper);
    const after = await kill.store.read(manifest.export_id);
    expect(after).toEqual(manifest);
    await expectExact(kill.root, after, small);
    await expectTidy(kill, after);
    expect(await indices.openContexts(small.index)).toBe(0);
  });

  it("make one export when one sleeps longer than its lock while it starts", async () => {
    const kill = await newCase(small);
    const sleeper = newChild({ ...kill.task, stopBefore: { event: "got look", nth: 1 } });
    await asleep(sleeper);
    const manifest = await exportToTheEnd(kill.context, small.index);
    sleeper.process.kill("SIGCONT");
    expect((await sleeper.end)?.error).toBe("export_starting");
    await gone(sleeper);
    expect((await kill.store.list()).exports.map(({ export_id }) => export_id)).toEqual([manifest.export_id]);
    await expectExact(kill.root, manifest, small);
    await expectTidy(kill, manifest);
    expect(await indices.openContexts(small.index)).toBe(0);
  });

  it("cancel each other's exports", async () => {
    const proxy = await newProxy(({ method, path }) =>
      method === "POST" && path.startsWith("/_search") ? { delayMs: 200 } : undefined,
    );
    const kill = await newCase(large, { url: proxy.url });
    const child = newChild(kill.task);
    const exportId = (await child.started)?.exportId ?? "";
    while ((await kill.store.read(exportId)).parts.length === 0) await delay(20);
    await cancelExport(kill.context, exportId);
    const manifest = await kill.store.read(exportId);
    expect(manifest).toMatchObject({ status: "cancelled", checkpoint: null, lease: null });
    expect(manifest.totals.documents).toBeGreaterThan(0);
    await child.end;
    await expectTidy(kill, manifest);
    expect(await indices.openContexts(large.index)).toBe(0);
    const anew = await exportToTheEnd(kill.context, large.index);
    expect(anew.export_id).not.toBe(exportId);
    await expectExact(kill.root, anew, large);
  });

  it("cancel an export whose process sleeps or was killed after it was asked", async () => {
    const kill = await newCase(small);
    const sleeper = newChild({ ...kill.task, stopBefore: { event: "rename exp/manifest.json", nth: 2 } });
    await asleep(sleeper);
    const [{ export_id: exportId } = { export_id: "" }] = (await kill.store.list()).exports;
    await kill.store.requestCancel(exportId);
    sleeper.process.kill("SIGKILL");
    await gone(sleeper);
    await delay(LEASE_MS);
    // Nobody resumes what was to be cancelled: the same call makes a new one.
    const anew = await exportToTheEnd(kill.context, small.index);
    expect(anew.export_id).not.toBe(exportId);
    expect(await kill.store.read(exportId)).toMatchObject({ status: "cancelled", checkpoint: null });
    await expectExact(kill.root, anew, small);
    expect(await indices.openContexts(small.index)).toBe(0);
  });
});

async function asleep({ process: { pid } }: Child): Promise<void> {
  for (const deadline = performance.now() + 30_000; performance.now() < deadline; await delay(20)) {
    if (execFileSync("ps", ["-o", "state=", "-p", String(pid)], { encoding: "utf8" }).startsWith("T")) return;
  }
  throw new Error("the child does not stop");
}

const BUSY = {
  status: 429,
  body: { error: { type: "es_rejected_execution_exception", reason: "rejected execution" }, status: 429 },
};
const BREAKER = {
  status: 503,
  body: { error: { type: "circuit_breaking_exception", reason: "[parent] Data too large" }, status: 503 },
};
const PARTIAL = {
  status: 200,
  body: {
    took: 1,
    timed_out: false,
    _shards: { total: 2, successful: 1, skipped: 0, failed: 1 },
    hits: { max_score: null, hits: [] },
  },
};
const EMPTY = {
  status: 200,
  body: { ...PARTIAL.body, _shards: { total: 2, successful: 2, skipped: 0, failed: 0 } },
};

/** The n-th search request of a slice, for slices are read at the same time; the first one of all counts the snapshot. */
const onSearch = (act: (nth: number) => ReturnType<Rule>): Rule => {
  const searches = new Map<string, number>();
  return ({ method, path, body }) => {
    if (method !== "POST" || !path.startsWith("/_search")) return undefined;
    const slice = /"slice":\{[^}]*\}/.exec(body)?.[0] ?? "";
    const nth = (searches.get(slice) ?? 0) + 1;
    searches.set(slice, nth);
    return act(nth);
  };
};

/** Starts slowly and answers once some parts are staged. */
async function underway(kill: KillCase): Promise<string> {
  const { exportId } = await startExport(kill.context, requestFor(kill.task.index), {
    fresh: false,
    signal: AbortSignal.timeout(30_000),
  });
  while ((await kill.store.read(exportId)).parts.length < 2) await delay(10);
  return exportId;
}
const slowly: Rule = ({ method, path }) =>
  method === "POST" && path.startsWith("/_search") ? { delayMs: 500 } : undefined;

describe("an Elasticsearch that answers badly", () => {
  it.each<[string, (nth: number) => ReturnType<Rule>]>([
    ["refuses two of three pages", (nth) => (nth > 1 && nth % 3 !== 0 ? BUSY : undefined)],
    ["breaks its circuit at two of three pages", (nth) => (nth > 1 && nth % 3 !== 0 ? BREAKER : undefined)],
    ["breaks off two of three pages", (nth) => (nth > 1 && nth % 3 !== 0 ? { cutAfterBytes: 1000 } : undefined)],
    ["resets the connection of each second page", (nth) => (nth % 2 === 0 ? { cutAfterBytes: 0 } : undefined)],
    ["is slow", () => ({ delayMs: 150 })],
  ])("and %s loses nothing", async (_how, act) => {
    const proxy = await newProxy(onSearch(act));
    const kill = await newCase(large, { url: proxy.url });
    kill.context.retryDelaysMs = Array.from({ length: 8 }, () => 20);
    const manifest = await exportToTheEnd(kill.context, large.index);
    await expectExact(kill.root, manifest, large);
    await expectTidy(kill, manifest);
    expect(await indices.openContexts(large.index)).toBe(0);
  });

  it.each<[string, ReturnType<Rule>, { code: string; retryable: boolean }]>([
    ["stays busy", BUSY, { code: "busy", retryable: true }],
    ["keeps its circuit broken", BREAKER, { code: "busy", retryable: true }],
    ["is gone", { cutAfterBytes: 10 }, { code: "unreachable", retryable: true }],
    ["gives part of its shards", PARTIAL, { code: "shards_failed", retryable: true }],
    ["no longer knows the credentials", { status: 401, body: {} }, { code: "unauthorized", retryable: false }],
    [
      "is hidden by a proxy's own page",
      { status: 404, body: "<html></html>" },
      { code: "not_elasticsearch", retryable: false },
    ],
  ])("and %s fails with that reason, and goes on when it is over", async (_how, answer, error) => {
    let isBad = true;
    const proxy = await newProxy(onSearch((nth) => (isBad && nth > 4 ? answer : undefined)));
    const kill = await newCase(large, { url: proxy.url });
    kill.context.retryDelaysMs = [20, 20];
    const failed = await exportToTheEnd(kill.context, large.index);
    expect(failed).toMatchObject({ status: "failed", error });
    expect(failed.checkpoint).not.toBeNull();
    expect(failed.totals.documents).toBeGreaterThan(0);
    expect(describeExport(kill.store, failed).next).toContain("same arguments to go on");
    isBad = false;
    const manifest = await exportToTheEnd(kill.context, large.index);
    expect(manifest.export_id).toBe(failed.export_id);
    await expectExact(kill.root, manifest, large);
    await expectTidy(kill, manifest);
    expect(await indices.openContexts(large.index)).toBe(0);
  });

  it("and gives an empty page as if it were the end is not believed", async () => {
    const proxy = await newProxy(onSearch((nth) => (nth > 4 ? EMPTY : undefined)));
    const kill = await newCase(large, { url: proxy.url });
    const failed = await exportToTheEnd(kill.context, large.index);
    expect(failed).toMatchObject({
      status: "failed",
      checkpoint: null,
      error: { code: "documents_missing", retryable: false },
    });
    expect(await indices.openContexts(large.index)).toBe(0);
  });

  it("and breaks off a scroll's page fails with that reason, for a scroll moves on", async () => {
    let pages = 0;
    const proxy = await newProxy(({ method, path }) => {
      if (path.includes("/_pit")) return { status: 403, body: { error: { type: "security_exception", reason: "no" } } };
      return method === "POST" && path.startsWith("/_search/scroll") && ++pages === 5
        ? { cutAfterBytes: 10 }
        : undefined;
    });
    const kill = await newCase(large, { url: proxy.url });
    const failed = await exportToTheEnd(kill.context, large.index);
    expect(failed).toMatchObject({ status: "failed", checkpoint: null, error: { code: "unreachable" } });
    expect(await indices.openContexts(large.index)).toBe(0);
    const anew = await exportToTheEnd(kill.context, large.index);
    expect(anew.export_id).not.toBe(failed.export_id);
    await expectExact(kill.root, anew, large);
  });
});

describe("an Elasticsearch that changes underneath", () => {
  it.each<[string, (index: string) => Promise<unknown>, string]>([
    ["deleted", (index) => indices.request("DELETE", `/${index}`), "index_not_found"],
    ["closed", (index) => indices.request("POST", `/${index}/_close`), "index_closed"],
  ])("fails an export whose index is %s, and says so to the same call", async (_how, change, code) => {
    const corpus = await indexCorpus(indices, randomName("changing"), 3000);
    const proxy = await newProxy(slowly);
    const kill = await newCase(corpus, { url: proxy.url, partDocumentsMax: 500 });
    const exportId = await underway(kill);
    await change(corpus.index);
    while (kill.context.jobs.isRunning(exportId)) await delay(20);
    const failed = await kill.store.read(exportId);
    expect(failed).toMatchObject({
      status: "failed",
      checkpoint: null,
      error: { code: "snapshot_lost", retryable: false },
    });
    expect(failed.error?.message).toMatch(/\d+ of 3000 documents are staged/);
    await expect(exportToTheEnd(kill.context, corpus.index)).rejects.toMatchObject({ code });
  });

  it("makes a new export when it was killed and started again in the middle", async () => {
    const proxy = await newProxy(slowly);
    const kill = await newCase(large, { url: proxy.url });
    kill.context.retryDelaysMs = Array.from({ length: 120 }, () => 500);
    const exportId = await underway(kill);
    await engine.restart();
    while (kill.context.jobs.isRunning(exportId)) await delay(100);
    const failed = await kill.store.read(exportId);
    expect(failed).toMatchObject({
      status: "failed",
      checkpoint: null,
      error: { code: "snapshot_lost", retryable: false },
    });
    const anew = await exportToTheEnd(kill.context, large.index);
    expect(anew.export_id).not.toBe(exportId);
    await expectExact(kill.root, anew, large);
    expect(await indices.openContexts(large.index)).toBe(0);
  });

  it("makes a new export when it was started again while nobody exported", async () => {
    const kill = await newCase(large);
    await gone(newChild({ ...kill.task, killBefore: { event: "rename exp/manifest.json", nth: 3 } }));
    const [left] = (await kill.store.list()).exports;
    expect(left?.totals.documents).toBeGreaterThan(0);
    await engine.restart();
    const anew = await exportToTheEnd(kill.context, large.index);
    expect(anew.export_id).not.toBe(left?.export_id);
    expect(await kill.store.read(left?.export_id ?? "")).toMatchObject({
      status: "failed",
      error: { code: "snapshot_lost", retryable: false },
    });
    await expectExact(kill.root, anew, large);
    expect(await indices.openContexts(large.index)).toBe(0);
  });
});

describe("a staging disk", () => {
  const unmountable = whyUnmountable();
  /** A file system of its own in memory. */
  async function mounted(kilobytes: number): Promise<{ path: string; remount(options: string): void }> {
    const path = await mkdtemp(join(tmpdir(), "es-chaos-disk-"));
    execFileSync("/bin/mount", ["-t", "tmpfs", "-o", `size=${kilobytes}k`, "tmpfs", path]);
    disks.push(path);
    return {
      path,
      remount: (options) => void execFileSync("/bin/mount", ["-o", `remount,${options}`, path], { stdio: "ignore" }),
    };
  }
  const disks: string[] = [];
  afterEach(async () => {
    for (const kill of cases.splice(0)) await kill.context.jobs.shutdown();
    for (const path of disks.splice(0)) {
      execFileSync("/bin/umount", ["-l", path]);
      await rm(path, { recursive: true, force: true });
    }
  });

  it("that is full fails the export with that reason, which goes on when there is room", async (test) => {
    if (unmountable !== undefined) test.skip(unmountable);
    const disk = await mounted(1500);
    const kill = await newCase(large, { root: disk.path });
    const failed = await exportToTheEnd(kill.context, large.index);
    expect(failed).toMatchObject({ status: "failed", error: { code: "staging_full", retryable: true } });
    expect(failed.totals.documents).toBeGreaterThan(0);
    const contexts = await indices.openContexts(large.index);
    // Its snapshot is kept for the call that goes on.
    expect(contexts).toBeGreaterThan(0);
    disk.remount("size=32m");
    const manifest = await exportToTheEnd(kill.context, large.index);
    expect(manifest.export_id).toBe(failed.export_id);
    await expectExact(kill.root, manifest, large);
    await expectTidy(kill, manifest);
    expect(await indices.openContexts(large.index)).toBe(0);
  });

  it("that somebody else fills to the last byte stalls the export, which goes on when there is room", async (test) => {
    if (unmountable !== undefined) test.skip(unmountable);
    const disk = await mounted(8000);
    const proxy = await newProxy(({ method, path }) =>
      method === "POST" && path.startsWith("/_search") ? { delayMs: 100 } : undefined,
    );
    const kill = await newCase(large, { root: disk.path, url: proxy.url });
    const { exportId } = await startExport(kill.context, requestFor(large.index), {
      fresh: false,
      signal: AbortSignal.timeout(30_000),
    });
    while ((await kill.store.read(exportId)).parts.length === 0) await delay(10);
    const hog = join(disk.path, "hog");
    await writeFile(hog, Buffer.alloc(16_000_000)).catch(() => {});
    while (kill.context.jobs.isRunning(exportId)) await delay(20);
    const left = await kill.store.read(exportId);
    // Where the open part made room for a last word it is that, else it stalls without one.
    const ending = left.status === "failed" ? left.error?.code : left.status;
    expect(["working", "staging_full"]).toContain(ending);
    figures["diskFilledByOthers"] = ending;
    await rm(hog);
    const manifest = await exportToTheEnd(kill.context, large.index);
    expect(manifest.export_id).toBe(exportId);
    await expectExact(kill.root, manifest, large);
    await expectTidy(kill, manifest);
    expect(await indices.openContexts(large.index)).toBe(0);
  });

  it("that becomes read-only stalls the export and refuses new ones with that reason", async (test) => {
    if (unmountable !== undefined) test.skip(unmountable);
    const disk = await mounted(32_000);
    const proxy = await newProxy(({ method, path }) =>
      method === "POST" && path.startsWith("/_search") ? { delayMs: 300 } : undefined,
    );
    const kill = await newCase(large, { root: disk.path, url: proxy.url });
    const { exportId } = await startExport(kill.context, requestFor(large.index), {
      fresh: false,
      signal: AbortSignal.timeout(30_000),
    });
    while ((await kill.store.read(exportId)).parts.length === 0) await delay(5);
    // Refused while a file is open for writing, which is not so between two parts.
    let isReadOnly = false;
    for (const deadline = performance.now() + 20_000; !isReadOnly && performance.now() < deadline; await delay(5)) {
      try {
        disk.remount("ro");
        isReadOnly = true;
      } catch {}
    }
    expect(isReadOnly).toBe(true);
    while (kill.context.jobs.isRunning(exportId)) await delay(20);
    expect((await kill.store.read(exportId)).status).toBe("working");
    await expect(exportToTheEnd(kill.context, large.index)).rejects.toMatchObject({
      code: "staging_unshared",
      message: expect.stringMatching(/read-only|EROFS/),
    });
    disk.remount("rw");
    const manifest = await exportToTheEnd(kill.context, large.index);
    expect(manifest.export_id).toBe(exportId);
    await expectExact(kill.root, manifest, large);
    await expectTidy(kill, manifest);
    expect(await indices.openContexts(large.index)).toBe(0);
  });
});

function whyUnmountable(): string | undefined {
  if (process.platform !== "linux") return "needs Linux: mounts a small file system in memory";
  if (process.getuid?.() !== 0) return "needs root: mounts a small file system in memory";
  const path = execFileSync("mktemp", ["-d"], { encoding: "utf8" }).trim();
  try {
    execFileSync("/bin/mount", ["-t", "tmpfs", "tmpfs", path], { stdio: "ignore" });
    execFileSync("/bin/umount", [path], { stdio: "ignore" });
    return undefined;
  } catch {
    return "needs the right to mount a small file system in memory";
  } finally {
    execFileSync("rmdir", [path]);
  }
}
