import { afterAll, beforeAll, expect, inject, test, vi } from "vitest";
import { z } from "zod";
import { randomName, TestIndices } from "./export-harness.ts";
import { openProxy } from "./proxy.ts";
import { openSession } from "./session.ts";

vi.setConfig({ testTimeout: 120_000 });

const url: string = inject("elasticsearchUrl");
const indices = new TestIndices(url);
const index = randomName("costly");

/** Time in which a search is seen to begin, or to be cancelled: without that it would go on for longer. */
const SEEN_MS = 10_000;

/** Elasticsearch looks for time-outs and cancellations every so many documents, and ever more of them: on a busy machine that takes a while. */
const GONE_MS = 60_000;

const tasksSchema = z.object({
  nodes: z.record(
    z.string(),
    z.object({ tasks: z.record(z.string(), z.object({ description: z.string(), cancelled: z.boolean() })) }),
  ),
});

/** Searches that Elasticsearch itself says are at work on the index, whoever waits for them: whether each is cancelled. */
async function searches(): Promise<boolean[]> {
  const { nodes } = tasksSchema.parse(JSON.parse(await indices.request("GET", "/_tasks?actions=*search*&detailed")));
  return Object.values(nodes)
    .flatMap(({ tasks }) => Object.values(tasks))
    .filter(({ description }) => description.includes(index))
    .map((task) => task.cancelled);
}

async function begun(): Promise<void> {
  await vi.waitFor(async () => expect(await searches()).toContain(false), { timeout: SEEN_MS, interval: 50 });
}

async function told(): Promise<void> {
  await vi.waitFor(async () => expect(await searches()).not.toContain(false), { timeout: SEEN_MS, interval: 50 });
}

async function gone(): Promise<void> {
  await vi.waitFor(async () => expect(await searches()).toEqual([]), { timeout: GONE_MS, interval: 100 });
}

/** Without scripts and within all limits, and yet long work: no document matches, and each is held against every clause. */
function costly(): Record<string, unknown> {
  const beyond = Math.floor(1e9 + Math.random() * 1e9);
  const clauses = Array.from({ length: 3_000 }, (_, at) => ({
    range: { n: { gte: beyond + at, lt: beyond + at + 1 } },
  }));
  return { bool: { should: [clauses.slice(0, 1_500), clauses.slice(1_500)].map((should) => ({ bool: { should } })) } };
}

beforeAll(async () => {
  await indices.create(index, {
    settings: { number_of_shards: 1, number_of_replicas: 0 },
    // Without an index each document's value has to be read.
    mappings: { properties: { n: { type: "long", index: false }, k: { type: "keyword" } } },
  });
  const documents = Array.from({ length: 300_000 }, (_, n) => JSON.stringify({ n, k: `k${n % 10}` }));
  await indices.bulk(index, documents);
});

afterAll(() => indices.dispose());

const calls: [tool: string, given: Record<string, unknown>][] = [
  ["search_documents", { size: 1 }],
  ["search_documents", { aggs: { a: { terms: { field: "k" } } } }],
  ["count_documents", {}],
  ["profile_index", {}],
  ["bulk_export", { delivery: "inline", max_documents: 1 }],
];

test.each(calls)(
  "%s with %j ends at its time-out, and says so, and nothing goes on at Elasticsearch",
  async (tool, given) => {
    const sent: string[] = [];
    // It keeps its own connection when its client goes away, so that Elasticsearch has to end by itself.
    await using proxy = await openProxy(url, ({ body }) => void sent.push(body));
    await using session = await openSession({ ELASTICSEARCH_URL: proxy.url, ES_MCP_REQUEST_TIMEOUT_SECONDS: "1" });
    const { isError, data } = await session.call(tool, { index, query: costly(), ...given });
    expect([isError, data.error.code, data.error.retryable]).toEqual([true, "timeout", true]);
    expect(sent.filter((body) => body.includes('"range"')).map((body) => body.includes('"timeout":"900ms"'))).toEqual([
      true,
    ]);
    await gone();
  },
);

test.each(calls)("%s with %j that is cancelled is cancelled at Elasticsearch too", async (tool, given) => {
  await using session = await openSession({ ELASTICSEARCH_URL: url, ES_MCP_REQUEST_TIMEOUT_SECONDS: "600" });
  const caller = new AbortController();
  const call = session.call(tool, { index, query: costly(), ...given }, { signal: caller.signal });
  call.catch(() => {});
  await begun();
  caller.abort();
  await expect(call).rejects.toThrow(/abort/i);
  await told();
  await gone();
});

test("the end of the server's input ends its searches at Elasticsearch too", async () => {
  const session = await openSession({ ELASTICSEARCH_URL: url, ES_MCP_REQUEST_TIMEOUT_SECONDS: "600" });
  const call = session.call("count_documents", { index, query: costly() });
  call.catch(() => {});
  await begun();
  await session[Symbol.asyncDispose]();
  await told();
  await gone();
  await expect(call).rejects.toThrow(/closed/i);
});
