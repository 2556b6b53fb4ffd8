import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, inject, it } from "vitest";
import { bulkExport } from "../src/tools/bulk-export.ts";
import { cancelExport } from "../src/tools/cancel-export.ts";
import { deleteExport } from "../src/tools/delete-export.ts";
import { getExport } from "../src/tools/get-export.ts";
import { listExports } from "../src/tools/list-exports.ts";
import { profileIndex } from "../src/tools/profile-index.ts";
import { call, type Harness, openHarness, randomName, stagedLines, TestIndices } from "./export-harness.ts";

describe("what an export holds", () => {
  const products = randomName("sel");
  let indices: TestIndices;
  let harness: Harness;

  beforeAll(async () => {
    indices = new TestIndices(inject("elasticsearchUrl"));
    harness = await openHarness(inject("elasticsearchUrl"));
    await indices.create(products, {
      settings: { number_of_shards: 2, number_of_replicas: 0 },
      mappings: {
        properties: {
          name: { type: "text", fields: { raw: { type: "keyword" } } },
          price: { type: "float" },
          tags: { type: "keyword" },
          open: { type: "object", enabled: false },
          at: { type: "date" },
        },
      },
      aliases: { [`${products}-cheap`]: { filter: { range: { price: { lt: 10 } } } } },
    });
    await indices.bulk(
      products,
      Array.from(
        { length: 40 },
        (_, n) =>
          `{"name":"product ${n}","price":${n}.50,"tags":["a","b"],"open":{"x":1e3},"at":"2024-01-0${(n % 9) + 1}"}`,
      ),
    );
  });
  afterAll(async () => {
    await harness.dispose();
    await indices.dispose();
  });

  const start = (params: Record<string, unknown>) =>
    bulkExport.handler(bulkExport.input.parse({ index: products, wait_seconds: 45, ...params }), {
      ...harness,
      ...call,
    });
  const linesOf = async ({ export_id = "" }: { export_id?: string | undefined }) =>
    (await stagedLines(harness.root, await harness.staging.read(export_id))).map((line) => ({
      ...line,
      source: line.source.toString(),
    }));

  it("keeps the chosen fields with their bytes, and profiles those", async () => {
    const state = await start({ fields: ["price", "open.*"], query: { term: { name: "7" } } });
    expect((await linesOf(state)).map(({ source }) => source)).toEqual(['{"price":7.50,"open":{"x":1e3}}']);
    const { profile, source } = await harness.staging.read(state.export_id ?? "");
    expect(profile.map(({ path }) => path)).toEqual(["open", "open.x", "price"]);
    expect(source.fields).toEqual(["price", "open.*"]);
  });

  it("stops at max_documents, in totals and profile alike", async () => {
    const state = await start({ max_documents: 7 });
    expect(state).toMatchObject({ status: "completed", documents: 7, expected: 7 });
    const { profile } = await harness.staging.read(state.export_id ?? "");
    expect(profile.find(({ path }) => path === "price")?.present).toBe(7);
    expect(await indices.openContexts(products)).toBe(0);
  });

  it("applies the filter of an alias", async () => {
    const state = await start({ index: `${products}-cheap` });
    expect(state).toMatchObject({ documents: 10, expected: 10, indices: [{ name: products, documents: 10 }] });
  });

  it("exports nothing as a complete export of nothing", async () => {
    const state = await start({ query: { term: { name: "nowhere" } } });
    expect(state).toMatchObject({ status: "completed", documents: 0, expected: 0, parts: 0 });
  });

  it("shares a finished export for two minutes unless a fresh one is wanted", async () => {
    const query = { range: { price: { lt: 3 } } };
    const first = await start({ query });
    expect(await start({ query: { range: { price: { lt: 3 } } } })).toMatchObject({
      export_id: first.export_id,
      reused: true,
    });
    expect((await start({ query, fresh: true })).export_id).not.toBe(first.export_id);
    expect((await start({ query, max_documents: 1 })).export_id).not.toBe(first.export_id);
  });

  it("gives few documents out inline, exactly", async () => {
    const { documents, total, returned } = await start({
      delivery: "inline",
      query: { term: { name: "3" } },
      fields: ["price", "tags"],
    });
    expect({ documents, total, returned }).toMatchObject({
      total: 1,
      returned: 1,
      documents: [{ _index: products, _id: "3", _source: { price: 3.5, tags: ["a", "b"] } }],
    });
  });

  it.each<[string, Record<string, unknown>, Record<string, unknown>]>([
    ["an index that is not there", { index: `${products}x` }, { code: "index_not_found" }],
    ["a pattern of which nothing is left", { index: `${products}*,-${products}*` }, { code: "index_not_found" }],
    ["a misspelt query", { query: { tern: { a: 1 } } }, { code: "query_invalid" }],
    ["a script", { query: { script: { script: "true" } } }, { code: "script_refused" }],
    [
      "a misspelt field",
      { fields: ["prise"] },
      { code: "unknown_field", details: { field: "prise", nearest: ["price"] } },
    ],
    ["a multi-field", { fields: ["name.raw"] }, { code: "field_not_in_source" }],
    [
      "a misspelt field inline",
      { fields: ["prise"], delivery: "inline" },
      { code: "unknown_field", details: { field: "prise", nearest: ["price"] } },
    ],
    ["changes inline", { since: `exp_${"0".repeat(26)}`, delivery: "inline" }, { code: "not_inline" }],
    ["an unknown earlier export", { since: `exp_${"0".repeat(26)}` }, { code: "unknown_export" }],
  ])("refuses %s", async (_name, params, expected) => {
    await expect(start(params)).rejects.toMatchObject(expected);
    expect(await indices.openContexts(products)).toBe(0);
  });

  it("refuses an index that keeps no _source, and says the way round", async () => {
    const index = randomName("nosource");
    await indices.create(index, { mappings: { _source: { enabled: false } } });
    await expect(start({ index })).rejects.toMatchObject({ code: "source_disabled", next: expect.any(String) });
  });

  it("warns of a _source that leaves fields out", async () => {
    const index = randomName("filtered");
    await indices.create(index, { mappings: { _source: { excludes: ["secret"] } } });
    await indices.put(index, "1", '{"secret":1,"b":2}');
    await indices.refresh(index);
    const state = await start({ index });
    expect(state.warnings?.[0]).toContain("includes or excludes");
    expect((await linesOf(state)).map(({ source }) => source)).toEqual(['{"b":2}']);
  });

  it("makes a new export of an index that was made anew, or of a pattern that another one has joined", async () => {
    const index = randomName("anew");
    await indices.create(index);
    await indices.put(index, "1", '{"a":1}');
    const first = await start({ index: `${index}*` });
    const again = await start({ index: `${index}*` });
    expect(again).toMatchObject({ export_id: first.export_id, reused: true, next: expect.stringContaining("fresh") });
    await indices.create(`${index}-2`);
    const joined = await start({ index: `${index}*` });
    expect(joined.indices).toHaveLength(2);
    await indices.request("DELETE", `/${index}`);
    await indices.create(index);
    expect((await start({ index: `${index}*` })).documents).toBe(0);
    const increment = await start({ index: `${index}-2`, since: (await start({ index: `${index}-2` })).export_id });
    expect(increment.warnings).toEqual(["Documents deleted since the earlier export are not in it."]);
    await indices.request("DELETE", `/${index}`);
    const { warnings } = await start({ index: `${index}*`, since: joined.export_id });
    expect(warnings?.at(-1)).toBe(`Gone since the earlier export, with all their documents: "${index}".`);
  });

  it("removes a damaged export, as its error says", async () => {
    const { export_id = "" } = await start({ fresh: true });
    await writeFile(join(harness.staging.root, export_id, "manifest.json"), "{");
    await expect(getExport.handler({ export_id }, { ...harness, ...call })).rejects.toMatchObject({
      code: "staging_corrupt",
    });
    expect(await deleteExport.handler({ export_id }, { ...harness, ...call })).toMatchObject({ deleted: true });
    await expect(getExport.handler({ export_id }, { ...harness, ...call })).rejects.toMatchObject({
      code: "unknown_export",
    });
  });

  it("lists, tells of, refuses to cancel twice and deletes exports", async () => {
    const { export_id = "" } = await start({ fresh: true });
    const listed = await listExports.handler({}, { ...harness, ...call });
    expect(listed.exports[0]).toMatchObject({ export_id, status: "completed", documents: 40, index: products });
    const cancelled = await cancelExport.handler({ export_id }, { ...harness, ...call });
    expect(cancelled.status).toBe("completed");
    expect(await deleteExport.handler({ export_id }, { ...harness, ...call })).toMatchObject({ deleted: true });
    await expect(getExport.handler({ export_id }, { ...harness, ...call })).rejects.toMatchObject({
      code: "unknown_export",
    });
  });

  it("profiles a random sample with proposed types", async () => {
    const answer = await profileIndex.handler(profileIndex.input.parse({ index: products, sample: 20 }), {
      ...harness,
      ...call,
    });
    expect(answer).toMatchObject({ documents: 20, total: 40 });
    const byPath = new Map(answer.fields.map((field) => [field["path"], field]));
    expect(byPath.get("price")).toMatchObject({ type: "float", kinds: { decimal: 20 }, postgres: "real" });
    expect(byPath.get("tags")).toMatchObject({ arrays: 20, postgres: "text[]" });
    expect(byPath.has("name.raw")).toBe(false);
  });

  it("goes on from an earlier export without losing what was written meanwhile", { timeout: 60_000 }, async () => {
    const index = randomName("since");
    // Refreshed seldom, so that what is written lies unseen for long.
    await indices.create(index, { settings: { number_of_shards: 3, number_of_replicas: 0, refresh_interval: "60s" } });
    const written = new Map<string, number>();
    let version = 0;
    const stop = new AbortController();
    const writers = Array.from({ length: 3 }, async (_, writer) => {
      while (!stop.signal.aborted) {
        const id = `${writer}-${Math.floor(Math.random() * 40)}`;
        const mine = ++version;
        await indices.put(index, id, `{"v":${mine}}`);
        written.set(id, Math.max(mine, written.get(id) ?? 0));
      }
    });
    const target = new Map<string, number>();
    let since: string | undefined;
    const take = async (): Promise<number> => {
      const state = await start({ index, fresh: true, ...(since === undefined ? {} : { since }) });
      expect(state.status).toBe("completed");
      for (const { id, source } of await linesOf(state)) target.set(id, JSON.parse(source).v);
      since = state.export_id;
      return Number(state.documents);
    };
    for (let round = 0; round < 6; round++) await take();
    stop.abort();
    await Promise.all(writers);
    await take();
    expect(target).toEqual(written);
    // Nothing was written since, so nothing comes again.
    expect(await take()).toBe(0);
    expect(await indices.openContexts(index)).toBe(0);
  });

  it("refuses to go on from an export of other documents, whose rest would be in neither", async () => {
    const query = { range: { price: { lt: 3 } } };
    const { export_id: since } = await start({ query, fields: ["price"], fresh: true });
    for (const other of [{}, { query }, { query, fields: ["price", "tags"] }, { index: `${products}-cheap`, query }]) {
      await expect(start({ ...other, since })).rejects.toMatchObject({
        code: "since_unusable",
        details: { earlier: { query: JSON.stringify(query), fields: ["price"] } },
      });
    }
    const second = await start({ query, fields: ["price"], since });
    expect(second).toMatchObject({ status: "completed", documents: 0 });
    // An increment can itself be gone on from.
    expect(await start({ query, fields: ["price"], since: second.export_id })).toMatchObject({ status: "completed" });
  });

  it("says of documents that cannot be given out inline that staging takes them", async () => {
    const index = randomName("inline");
    await indices.create(index, { mappings: { dynamic: false } });
    await indices.put(index, "1", `{"a":"${"x".repeat(9_000_000)}"}`);
    await indices.refresh(index);
    await expect(start({ index, delivery: "inline" })).rejects.toMatchObject({ code: "too_large_inline" });
    await indices.put(index, "1", '{"a":1} // and so on');
    await indices.put(index, "2", '{"a":2}');
    await indices.refresh(index);
    await expect(start({ index, delivery: "inline" })).rejects.toMatchObject({
      code: "not_inline",
      next: expect.stringContaining("staged"),
    });
  });

  it("refuses to go on where the history is another one", async () => {
    const index = randomName("history");
    await indices.create(index);
    await indices.put(index, "1", '{"a":1}');
    const { export_id: since } = await start({ index });
    await indices.request("DELETE", `/${index}`);
    await indices.create(index);
    await expect(start({ index, since })).rejects.toMatchObject({ code: "since_history_changed" });
    const cut = await start({ max_documents: 3, fresh: true });
    expect(cut.watermark).toBe(false);
    await expect(start({ since: cut.export_id })).rejects.toMatchObject({ code: "since_unusable" });
  });
});
