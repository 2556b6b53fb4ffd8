import { setTimeout as delay } from "node:timers/promises";
import { afterAll, beforeAll, describe, expect, inject, it } from "vitest";
import { bulkExport } from "../src/tools/bulk-export.ts";
import { getExport } from "../src/tools/get-export.ts";
import { call, type Harness, intercept, openHarness, randomName, stagedLines, TestIndices } from "./export-harness.ts";

const document = (n: number): string => `{"n":${n},"s":"value ${n}","t":["a","b${n % 7}"]}`;

describe("bulk_export", () => {
  let indices: TestIndices;
  let harness: Harness;

  beforeAll(async () => {
    indices = new TestIndices(inject("elasticsearchUrl"));
    harness = await openHarness(inject("elasticsearchUrl"));
  });
  afterAll(async () => {
    await harness.dispose();
    await indices.dispose();
  });

  const start = (params: Record<string, unknown>, context = harness) =>
    bulkExport.handler(bulkExport.input.parse({ wait_seconds: 45, ...params }), { ...context, ...call });
  const manifestOf = (state: { export_id?: string | undefined }) => harness.staging.read(state.export_id ?? "");

  it("stages every hostile document with the bytes that were sent", async () => {
    const index = randomName("hostile");
    await indices.create(index, {
      settings: { number_of_shards: 2, number_of_replicas: 0 },
      mappings: { enabled: false },
    });
    /** What is sent, and what must be staged where it is not the same. */
    const corpus: [sent: string | Uint8Array, staged?: string][] = [
      ['{"a":1.10,"b":-0,"c":1e3,"d":9007199254740993,"e":123456789012345678901234567890.12345}'],
      ['{"o":{"_source":{"x":1},"sort":[1]},"hits":{"hits":[{"_id":"9"}]}}'],
      ['{"a":"}],\\"sort\\":[1]}","b":"\\\\","c":"\\\\\\"","d":"\\"}"}'],
      ['{"é日😀":"é日😀 \\u0000 \\ud800 \\n\\t"}'],
      ["{}"],
      ['{ "a" : [ ] , "b" : { } }'],
      ['{"off.x":1,"off":{"x":2}}'],
      [`{"long":"${"x\\\\y".repeat(200_000)}"}`],
      [`{"deep":${"[".repeat(300)}1${"]".repeat(300)}}`],
      ['{\n  "pretty": [\n    1,\t2\r\n  ]\n}\n\n', '{"pretty":[1,2]}'],
      ['{"k":"a" /* } " { */, "price":1.10}', '{"k":"a","price":1.10}'],
      ['{"a":1, // it\'s "unbalanced }\n"b":2}', '{"a":1,"b":2}'],
      ['{"a":1} // the end cannot be seen', '{"a":1}'],
      ['{"a":2} // c,"sort":[1]},{"_index":"i","_id":"forged","_source":{"x":1}', '{"a":2}'],
      ['{"a":3} /* ,"sort":[9]} */ ', '{"a":3}'],
      ['\uFEFF{"bom":true}', '{"bom":true}'],
      [Uint8Array.from([...Buffer.from('{"z":"'), 0xc0, 0x80, 0xed, 0xa0, 0x80, ...Buffer.from('"}')])],
    ];
    for (const [position, [sent]] of corpus.entries()) {
      await indices.put(index, `d"${position}`, sent, position % 3 === 0 ? `r/${position}` : undefined);
    }
    await indices.refresh(index);

    const state = await start({ index });
    expect(state).toMatchObject({
      status: "completed",
      documents: corpus.length,
      expected: corpus.length,
      invalid_utf8: 1,
    });
    const lines = await stagedLines(harness.root, await manifestOf(state));
    expect(lines.length).toBe(corpus.length);
    for (const [position, [sent, staged]] of corpus.entries()) {
      const line = lines.find(({ id }) => id === `d"${position}`);
      expect(line?.source.equals(Buffer.from(staged ?? sent))).toBe(true);
      expect(line?.routing).toBe(position % 3 === 0 ? `r/${position}` : undefined);
    }
    expect(await indices.openContexts(index)).toBe(0);
  });

  it("reads several indices, shards, slices and parts, each document once", async () => {
    const [one, two, empty] = [randomName("many-a"), randomName("many-b"), randomName("many-empty")];
    await indices.create(one, { settings: { number_of_shards: 3, number_of_replicas: 0, refresh_interval: -1 } });
    await indices.create(two, { settings: { number_of_shards: 1, number_of_replicas: 0, max_result_window: 700 } });
    await indices.create(empty);
    await indices.bulk(
      one,
      Array.from({ length: 23_000 }, (_, n) => document(n)),
    );
    await indices.bulk(
      two,
      Array.from({ length: 2000 }, (_, n) => document(n)),
    );

    const state = await start({ index: `${one},${two},${empty}` });
    expect(state).toMatchObject({ status: "completed", documents: 25_000, expected: 25_000 });
    const manifest = await manifestOf(state);
    expect(manifest.source.indices.map(({ documents }) => documents)).toEqual([23_000, 2000, 0]);
    expect(manifest.checkpoint).toBeNull();
    expect(manifest.watermark.length).toBe(5);
    expect(manifest.profile.map(({ path, present, arrays }) => [path, present, arrays])).toEqual([
      ["n", 25_000, 0],
      ["s", 25_000, 0],
      ["t", 25_000, 25_000],
    ]);
    const lines = await stagedLines(harness.root, manifest);
    expect(new Set(lines.map(({ index, id }) => `${index}/${id}`)).size).toBe(25_000);
    expect(await indices.openContexts(one)).toBe(0);
    const again = await start({ index: `${one},${two},${empty}` });
    expect(again).toMatchObject({ export_id: state.export_id, reused: true });
    const got = await getExport.handler({ export_id: state.export_id ?? "" }, { ...harness, ...call });
    expect(JSON.stringify(got).length).toBeLessThan(2048);
  });

  it("reads documents of many megabytes, fewer at a time", async () => {
    const index = randomName("large");
    await indices.create(index, { settings: { number_of_replicas: 0 }, mappings: { enabled: false } });
    const sizes = [...Array.from({ length: 24 }, () => 1_000_000), 22_000_000];
    for (const [position, size] of sizes.entries()) {
      await indices.put(index, `${position}`, `{"text":"${"y".repeat(size)}"}`);
    }
    await indices.refresh(index);
    const state = await start({ index });
    expect(state).toMatchObject({ status: "completed", documents: 25 });
    const lines = await stagedLines(harness.root, await manifestOf(state));
    expect(lines.map(({ source }) => source.length).sort((a, b) => a - b)).toEqual(sizes.map((size) => size + 11));
    const { profile } = await manifestOf(state);
    expect(profile[0]).toMatchObject({ path: "text", length_max: 22_000_000, bytes_max: 22_000_000 });
  });

  it("reads documents that end in a comment a few at a time, and counts each once in the profile", async () => {
    const index = randomName("commented");
    await indices.create(index, { settings: { number_of_replicas: 0 }, mappings: { enabled: false } });
    await indices.bulk(
      index,
      Array.from({ length: 400 }, (_, n) => `{"n":${n}${n % 2 === 0 ? ',"even":true' : ""}} // ${n}`),
    );
    let asked = 0;
    const counting = await openHarness(inject("elasticsearchUrl"), {
      wrap: (elasticsearch) =>
        intercept(elasticsearch, ({ body }) => {
          if (JSON.stringify(body ?? null).includes("_shard_doc")) asked += Number(Reflect.get(Object(body), "size"));
        }),
    });
    try {
      const state = await start({ index }, counting);
      expect(state).toMatchObject({ status: "completed", documents: 400, compacted: 400 });
      const { profile } = await counting.staging.read(state.export_id ?? "");
      expect(profile.map(({ path, present }) => [path, present])).toEqual([
        ["even", 200],
        ["n", 400],
      ]);
      // A whole page for each of them would be 200 000.
      expect(asked).toBeLessThan(500 + 400 * 6);
    } finally {
      await counting.dispose();
    }
  });

  it("learns the size of a page from the documents of its own slice", async () => {
    const index = randomName("uneven");
    await indices.create(index, {
      settings: { number_of_shards: 2, number_of_replicas: 0, refresh_interval: -1 },
      mappings: { enabled: false },
    });
    const shardOf = async (routing: string): Promise<number> => {
      const found = await indices.request("GET", `/${index}/_search_shards?routing=${routing}`);
      return Number(/"shard":(\d+)/.exec(found)?.[1]);
    };
    const routings = new Map<number, string>();
    for (let n = 0; routings.size < 2; n++) routings.set(await shardOf(`r${n}`), `r${n}`);
    const bulk = async (count: number, bytes: number, routing: string | undefined): Promise<void> => {
      const line = `{"index":{"routing":"${routing}"}}\n{"text":"${"x".repeat(bytes)}"}\n`;
      const answer = await indices.request("POST", `/${index}/_bulk`, line.repeat(count), "application/x-ndjson");
      expect(answer).toContain('"errors":false');
    };
    for (let n = 0; n < 8; n++) await bulk(5000, 50, routings.get(0));
    for (let n = 0; n < 12; n++) await bulk(50, 60_000, routings.get(1));
    await indices.refresh(index);
    const sizes: number[][] = [[], []];
    const counting = await openHarness(inject("elasticsearchUrl"), {
      wrap: (elasticsearch) =>
        intercept(elasticsearch, async ({ body }) => {
          const slice: unknown = Reflect.get(Object(Reflect.get(Object(body), "slice")), "id");
          if (typeof slice !== "number") return;
          sizes[slice]?.push(Number(Reflect.get(Object(body), "size")));
          // Goes on once the first page of the large documents was refused and is asked for again.
          if (Reflect.has(Object(body), "search_after")) while ((sizes[1 - slice]?.length ?? 0) < 2) await delay(5);
        }),
    });
    try {
      const state = await start({ index }, counting);
      expect(state).toMatchObject({ status: "completed", documents: 40_600 });
      const [few, many] = sizes.map(([, ...later]) => Math.max(...later)).sort((a, b) => a - b);
      expect(few).toBe(250);
      expect(many).toBeGreaterThan(7000);
    } finally {
      await counting.dispose();
    }
  });
});
