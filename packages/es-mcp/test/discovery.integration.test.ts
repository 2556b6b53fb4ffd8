import { afterAll, beforeAll, describe, expect, inject, test } from "vitest";
import { randomName, TestIndices } from "./export-harness.ts";
import { openSession, type Session } from "./session.ts";

/** What an answer aims at and what it may not exceed. */
const BYTES_TARGET = 6_144;
const BYTES_MAX = 24_576;

const url: string = inject("elasticsearchUrl");
const indices = new TestIndices(url);
const prefix = randomName("discovery");
const name = (suffix: string): string => `${prefix}-${suffix}`;
const products = name("products");
const exact = name("exact");
const huge = name("huge");
const wide = name("wide");
const closed = name("closed");
const hidden = name("hidden");
const nested = name("nested");
const routed = name("routed");
const empty = name("empty");
const oddIds = name("ids");
const publicOnly = name("public");

let session: Session;

beforeAll(async () => {
  await indices.create(products, {
    mappings: {
      properties: {
        name: { type: "text", fields: { keyword: { type: "keyword" } } },
        category: { type: "keyword" },
        price: { type: "float" },
        created: { type: "date", format: "yyyy-MM-dd" },
        address: { properties: { city: { type: "keyword" } } },
      },
    },
    aliases: { [publicOnly]: { filter: { term: { category: "c1" } } } },
  });
  await indices.bulk(
    products,
    Array.from({ length: 95 }, (_, at) =>
      JSON.stringify({
        name: `product ${at}`,
        category: `c${at % 3}`,
        price: at / 2,
        created: "2026-11-23",
        address: { city: `city ${at % 5}` },
      }),
    ),
  );
  await indices.create(exact, { mappings: { properties: { big: { type: "long" }, price: { type: "double" } } } });
  await indices.put(exact, "1", '{"big":9007199254740993,"price":1.10,"long":0.12345678901234567890123,"small":7}');
  await indices.refresh(exact);
  await indices.create(huge, { mappings: { properties: { body: { type: "text", index: false } } } });
  await indices.put(huge, "1", JSON.stringify({ title: "first", body: "x".repeat(2_000_000) }));
  await indices.put(huge, "2", JSON.stringify({ title: "second", body: "y".repeat(2_000_000) }));
  await indices.refresh(huge);
  const fields = Object.fromEntries(
    Array.from({ length: 1_500 }, (_, at) => [`field_${String(at).padStart(4, "0")}`, { type: "keyword" }]),
  );
  await indices.create(wide, {
    settings: { "index.mapping.total_fields.limit": 2_000 },
    mappings: { properties: { ...fields, name: { type: "keyword" } } },
  });
  await indices.create(closed);
  await indices.request("POST", `/${closed}/_close`);
  await indices.create(hidden, { settings: { "index.hidden": true } });
  await indices.create(nested, { mappings: { properties: { items: { type: "nested" } } } });
  await indices.bulk(nested, ['{"items":[{"a":1},{"a":2},{"a":3}]}', '{"items":[{"a":4}]}']);
  await indices.create(routed, { settings: { number_of_shards: 3 }, mappings: { _routing: { required: true } } });
  await indices.put(routed, "r", '{"a":1}', "somewhere");
  await indices.refresh(routed);
  await indices.create(empty);
  await indices.create(oddIds);
  session = await openSession({ ELASTICSEARCH_URL: url });
});

afterAll(async () => {
  await session?.[Symbol.asyncDispose]();
  await indices.dispose();
});

describe("list_indices", () => {
  test("counts documents and not what is nested in them, and names closed indices", async () => {
    const { data } = await session.call("list_indices", { pattern: `${prefix}*` });
    const counts = Object.fromEntries(
      data.indices.map((row: { name: string; documents: number }) => [row.name, row.documents]),
    );
    expect(counts).toEqual({
      [products]: 95,
      [exact]: 1,
      [huge]: 2,
      [wide]: 0,
      [nested]: 2,
      [routed]: 1,
      [empty]: 0,
      [oddIds]: 0,
    });
    expect(data.left_out).toEqual({ total: 1, indices: [{ name: closed, why: "closed" }] });
    expect(data.total).toBe(8);
    const row = data.indices.find((each: { name: string }) => each.name === products);
    expect(row).toMatchObject({ aliases: [publicOnly], health: expect.stringMatching(/green|yellow/) });
    expect(row.bytes).toBeGreaterThan(100);
  });

  test("shows hidden indices when asked", async () => {
    const { data } = await session.call("list_indices", {
      pattern: hidden.replace("-hidden", "-h*"),
      include_hidden: true,
    });
    expect(data.indices).toContainEqual(expect.objectContaining({ name: hidden, hidden: true }));
  });

  test("answers an empty list for a pattern that fits nothing", async () => {
    const { isError, data } = await session.call("list_indices", { pattern: `${prefix}-none*` });
    expect(isError).toBe(false);
    expect(data).toMatchObject({ indices: [], total: 0, hint: expect.stringContaining("without pattern") });
  });
});

describe("get_mapping", () => {
  test("lists fields flat, with multi-fields and implicit objects", async () => {
    const { data } = await session.call("get_mapping", { index: products });
    expect(data).toEqual({
      indices: [products],
      indices_total: 1,
      fields: [
        { path: "address", type: "object" },
        { path: "address.city", type: "keyword" },
        { path: "category", type: "keyword" },
        { path: "created", type: "date", format: "yyyy-MM-dd" },
        { path: "name", type: "text", multi_fields: { keyword: "keyword" } },
        { path: "price", type: "float" },
      ],
      returned: 6,
      total: 6,
    });
  });

  test("pages through 1,500 fields, each page below 5 kB, none twice and none missing", async () => {
    const paths: string[] = [];
    let cursor: string | undefined;
    for (let page = 0; page < 50; page += 1) {
      const { data, bytes } = await session.call("get_mapping", {
        index: wide,
        ...(cursor === undefined ? {} : { cursor }),
      });
      expect(bytes).toBeLessThan(5_000);
      expect(data.total).toBe(1_501);
      paths.push(...data.fields.map((field: { path: string }) => field.path));
      cursor = data.next_cursor;
      if (cursor === undefined) break;
    }
    expect(new Set(paths).size).toBe(1_501);
    expect(paths).toHaveLength(1_501);
  });

  test("takes globs, says which fit nothing, and shows conflicts between indices", async () => {
    const { data } = await session.call("get_mapping", { index: `${products},${wide}`, fields: ["na*", "pricee"] });
    expect(data.fields).toEqual([
      {
        path: "name",
        type: "text",
        multi_fields: { keyword: "keyword" },
        conflicts: { text: [products], keyword: [wide] },
      },
    ]);
    expect(data.unknown_fields).toEqual([{ field: "pricee", nearest: ["price"] }]);
  });

  test("gives the raw mapping, or says that it is too large", async () => {
    const raw = await session.call("get_mapping", { index: products, format: "raw", fields: ["price"] });
    expect(raw.data.raw).toEqual({ [products]: { properties: { price: { type: "float" } } } });
    const large = await session.call("get_mapping", { index: wide, format: "raw" });
    expect(large).toMatchObject({ isError: true, data: { error: { code: "answer_too_large" } } });
  });

  test("an index without fields is an answer", async () => {
    const { data } = await session.call("get_mapping", { index: empty });
    expect(data).toMatchObject({ fields: [], total: 0, hint: expect.stringContaining("no fields yet") });
  });

  test("reaches an index through its alias", async () => {
    const { data } = await session.call("get_mapping", { index: publicOnly, fields: ["price"] });
    expect(data).toMatchObject({ indices: [products], fields: [{ path: "price", type: "float" }] });
  });
});

describe("search_documents", () => {
  test("gives numbers exactly, also those that a double cannot hold", async () => {
    const { data } = await session.call("search_documents", { index: exact });
    expect(data.hits[0]._source).toEqual({
      big: "9007199254740993",
      price: 1.1,
      long: "0.12345678901234567890123",
      small: 7,
    });
  });

  test("pages over one snapshot, whatever changes meanwhile, and lets go of it at the end", async () => {
    const index = name("paged");
    await indices.create(index);
    await indices.bulk(
      index,
      Array.from({ length: 25 }, (_, at) => JSON.stringify({ at })),
    );
    const search = { index, size: 10, sort: ["at"] };
    const first = await session.call("search_documents", search);
    expect(await indices.openContexts(index)).toBe(1);
    await indices.bulk(
      index,
      Array.from({ length: 5 }, (_, at) => JSON.stringify({ at: at - 100 })),
      100,
    );
    const second = await session.call("search_documents", { ...search, cursor: first.data.next_cursor });
    const third = await session.call("search_documents", { ...search, cursor: second.data.next_cursor });
    const seen = [first, second, third].flatMap(({ data }) =>
      data.hits.map((hit: { _source: { at: number } }) => hit._source.at),
    );
    expect(seen).toEqual(Array.from({ length: 25 }, (_, at) => at));
    expect([first, second, third].map(({ data }) => data.total)).toEqual([25, 25, 25]);
    expect(first.data.cut_by).toBe("size");
    expect(third.data).not.toHaveProperty("next_cursor");
    expect(await indices.openContexts(index)).toBe(0);
    const expired = await session.call("search_documents", { ...search, cursor: second.data.next_cursor });
    expect(expired).toMatchObject({ isError: true, data: { error: { code: "cursor_expired" } } });
  });

  test("pages of equal sort values neither repeat nor lose a hit", async () => {
    const ids: string[] = [];
    let cursor: string | undefined;
    do {
      const { data }: { data: { hits: { _id: string }[]; next_cursor?: string } } = await session.call(
        "search_documents",
        {
          index: products,
          size: 20,
          sort: "created:desc",
          ...(cursor === undefined ? {} : { cursor }),
        },
      );
      ids.push(...data.hits.map(({ _id }) => _id));
      cursor = data.next_cursor;
    } while (cursor !== undefined);
    expect(ids).toHaveLength(95);
    expect(new Set(ids).size).toBe(95);
  });

  test("pages by relevance over one snapshot and several shards neither repeat nor lose a hit, and may be read twice", async () => {
    const index = name("ranked");
    await indices.create(index, { settings: { number_of_shards: 3 } });
    const documents = Array.from({ length: 60 }, (_, at) =>
      JSON.stringify({ at, text: at % 7 === 0 ? "lamp lamp" : "lamp" }),
    );
    await indices.bulk(index, documents);
    const search = { index, query: { match: { text: "lamp" } }, size: 25, fields: ["at"] };
    const read = async (cursor?: string) => {
      const { data } = await session.call("search_documents", { ...search, ...(cursor !== undefined && { cursor }) });
      return {
        total: data.total,
        at: data.hits.map(({ _source }: { _source: { at: number } }): number => _source.at),
        scores: data.hits.map(({ _score }: { _score: number }): number => _score),
        cursor: data.next_cursor,
      };
    };
    const first = await read();
    // All that comes after the first page was opened ranks before it, and is not of its snapshot.
    await indices.bulk(
      index,
      Array.from({ length: 5 }, (_, at) => JSON.stringify({ at: 100 + at, text: "lamp lamp lamp lamp" })),
      100,
    );
    const second = await read(first.cursor);
    expect(await read(first.cursor)).toMatchObject({ at: second.at, total: 60 });
    const third = await read(second.cursor);
    expect([first, second, third].map(({ total, at }) => [total, at.length])).toEqual([
      [60, 25],
      [60, 25],
      [60, 10],
    ]);
    const seen = [first, second, third].flatMap(({ at }) => at);
    expect(seen.toSorted((a, b) => a - b)).toEqual(Array.from({ length: 60 }, (_, at) => at));
    const scores = [first, second, third].flatMap((page) => page.scores);
    expect(scores).toEqual(scores.toSorted((a, b) => b - a));
    expect(await indices.openContexts(index)).toBe(0);
  });

  test("reads an index by its name again and again, and sees at once that the name has become an alias", async () => {
    const [index, other] = [name("renamed"), name("renamed-to")];
    for (const made of [index, other]) await indices.create(made);
    await indices.bulk(index, ['{"v":1}']);
    await indices.bulk(other, ['{"v":2}', '{"v":3}']);
    const search = async (query?: object) => {
      const { data } = await session.call("search_documents", { index, sort: "v", ...(query && { query }) });
      return data.error?.code ?? data.hits.map(({ _source }: { _source: { v: number } }) => _source.v);
    };
    expect(await search()).toEqual([1]);
    expect(await search()).toEqual([1]);
    expect(await search({ term: { v: 9 } })).toEqual([]);
    await indices.request("DELETE", `/${index}`);
    expect(await search()).toBe("index_not_found");
    const filter = { term: { v: 3 } };
    await indices.request(
      "POST",
      "/_aliases",
      JSON.stringify({ actions: [{ add: { index: other, alias: index, filter } }] }),
    );
    expect(await search()).toEqual([3]);
    expect(await search()).toEqual([3]);
  });

  test("a cursor belongs to its arguments", async () => {
    const { data } = await session.call("search_documents", { index: products, size: 5 });
    const other = await session.call("search_documents", { index: products, size: 6, cursor: data.next_cursor });
    expect(other).toMatchObject({ isError: true, data: { error: { code: "invalid_cursor" } } });
  });

  test("clips huge values with their length and keeps to the target", async () => {
    const { data, bytes } = await session.call("search_documents", { index: huge, sort: "_doc" });
    expect(bytes).toBeLessThanOrEqual(BYTES_TARGET);
    expect(data.hits).toHaveLength(2);
    expect(data.hits[0]._source.title).toBe("first");
    expect(data.hits[0]._source.body).toMatch(/^x+… \(2000000 characters\)$/);
    expect(data.clipped).toEqual(["body"]);
  });

  test("cuts at whole hits, says so and goes on after the last one given", async () => {
    const index = name("large-hits");
    await indices.create(index);
    await indices.bulk(
      index,
      Array.from({ length: 100 }, (_, at) => JSON.stringify({ at, text: "z".repeat(900) })),
    );
    const search = { index, size: 100, sort: ["at"] };
    const first = await session.call("search_documents", search);
    expect(first.bytes).toBeLessThanOrEqual(BYTES_MAX);
    expect(first.data.returned).toBeGreaterThan(15);
    expect(first.data.returned).toBeLessThan(30);
    expect(first.data).toMatchObject({ total: 100, cut_by: "bytes" });
    const second = await session.call("search_documents", { ...search, cursor: first.data.next_cursor });
    expect(second.data.hits[0]._source.at).toBe(first.data.returned);
  });

  test("aggregations alone bring no hits", async () => {
    const { data } = await session.call("search_documents", {
      index: products,
      aggs: { per: { terms: { field: "category" }, aggs: { most: { max: { field: "price" } } } } },
    });
    expect(data).toMatchObject({ total: 95, returned: 0, hits: [] });
    expect(data.aggregations.per.buckets[0]).toEqual({ key: "c0", doc_count: 32, most: { value: 46.5 } });
  });

  test("an aggregation of many buckets is clipped with their number", async () => {
    const { data, bytes } = await session.call("search_documents", {
      index: products,
      aggs: { per: { terms: { field: "name.keyword", size: 1_000 }, aggs: { top: { top_hits: {} } } } },
    });
    expect(bytes).toBeLessThanOrEqual(BYTES_TARGET);
    expect(data.aggregations.per.buckets.at(-1)).toBe("… (95 elements)");
    expect(data.clipped).toContain("per.buckets");
  });

  test("fields are picked, text is intact, and highlights come only when asked", async () => {
    const search = { index: products, query: { match: { name: "7" } }, fields: ["name", "address.*"] };
    const plain = await session.call("search_documents", search);
    expect(plain.data.hits).toEqual([
      { _id: "7", _score: expect.any(Number), _source: { name: "product 7", address: { city: "city 2" } } },
    ]);
    const marked = await session.call("search_documents", { ...search, highlight: ["name"] });
    expect(marked.data.hits[0]).toMatchObject({
      _source: { name: "product 7" },
      highlight: { name: ["product <em>7</em>"] },
    });
  });

  test("takes a whole body, JSON text and a query string", async () => {
    const wrapped = await session.call("search_documents", {
      index: products,
      query: { query: { term: { category: "c1" } } },
    });
    const text = await session.call("search_documents", { index: products, query: '{"term":{"category":"c1"}}' });
    const lucene = await session.call("search_documents", {
      index: products,
      query_string: "category:c1 AND price:<10",
    });
    expect([wrapped, text, lucene].map(({ data }) => data.total)).toEqual([32, 32, 7]);
  });

  test("holds to an alias's filter, also on later pages and in counts", async () => {
    const first = await session.call("search_documents", { index: publicOnly, size: 20, sort: "price" });
    const second = await session.call("search_documents", {
      index: publicOnly,
      size: 20,
      sort: "price",
      cursor: first.data.next_cursor,
    });
    const hits = [...first.data.hits, ...second.data.hits];
    expect(hits.map(({ _source }) => _source.category)).toEqual(Array.from({ length: 32 }, () => "c1"));
    expect((await session.call("count_documents", { index: publicOnly })).data.count).toBe(32);
    const global = await session.call("search_documents", { index: publicOnly, aggs: { all: { global: {} } } });
    expect(global).toMatchObject({ isError: true, data: { error: { code: "aggregation_refused" } } });
  });

  test("a misspelt field is named with the nearest one, whether Elasticsearch minds or not", async () => {
    const nearest = [{ field: "catgory", nearest: ["category"] }];
    const query = { index: products, query: { term: { catgory: "c1" } } };
    expect((await session.call("search_documents", query)).data).toMatchObject({ total: 0, unknown_fields: nearest });
    expect((await session.call("count_documents", query)).data).toMatchObject({ count: 0, unknown_fields: nearest });
    const sorted = await session.call("search_documents", { index: products, sort: "catgory" });
    expect(sorted).toMatchObject({
      isError: true,
      data: { error: { code: "query_invalid", unknown_fields: nearest } },
    });
  });

  test("an invalid query carries Elasticsearch's reason and the position", async () => {
    const { isError, data } = await session.call("search_documents", {
      index: products,
      query: { mtch: { name: "x" } },
    });
    expect(isError).toBe(true);
    expect(data.error).toMatchObject({
      code: "query_invalid",
      retryable: false,
      reason: expect.stringContaining("did you mean [match]"),
      position: { line: 1, column: expect.any(Number) },
    });
  });

  test("scripts are refused before they leave", async () => {
    const { data } = await session.call("search_documents", {
      index: products,
      sort: [{ _script: { type: "number", script: "1" } }],
    });
    expect(data.error).toMatchObject({ code: "script_refused", key: "_script" });
  });
});

describe("get_document", () => {
  test("reads a document that holds comments, as Elasticsearch does", async () => {
    const index = name("comments");
    await indices.create(index, { mappings: { dynamic: false } });
    await indices.put(index, "1", '{"a":1 /* } " { */, // "b"\n"c":"// kept"}');
    await indices.refresh(index);
    expect((await session.call("get_document", { index, id: "1" })).data._source).toEqual({ a: 1, c: "// kept" });
    expect((await session.call("search_documents", { index })).data.hits[0]._source).toEqual({ a: 1, c: "// kept" });
  });

  test("reads documents that end in a comment, which hides the rest of an answer, and says that they were rewritten", async () => {
    const index = name("trailing");
    await indices.create(index, { mappings: { dynamic: false } });
    for (const id of ["1", "2", "3"]) await indices.put(index, id, `{"a":${id}} // "}`);
    await indices.refresh(index);
    const one = await session.call("get_document", { index, id: "2" });
    expect(one.data).toMatchObject({ _source: { a: 2 }, hint: expect.stringContaining("comment") });
    const pages = [];
    for (let cursor: string | undefined; ; ) {
      const { data } = await session.call("search_documents", { index, size: 2, ...(cursor && { cursor }) });
      expect(data.hint).toContain("comment");
      pages.push(...data.hits.map(({ _id }: { _id: string }) => _id));
      cursor = data.next_cursor;
      if (cursor === undefined) break;
    }
    expect(new Set(pages)).toEqual(new Set(["1", "2", "3"]));
    expect(await indices.openContexts(index)).toBe(0);
  });

  test.each([".", "..", "a/b?c#d,*", 'a\nb\u202e"\\\\', "日本"])("reads a document whose id is %j", async (id) => {
    await indices.request(
      "POST",
      `/${oddIds}/_bulk?refresh=true`,
      `${JSON.stringify({ index: { _id: id } })}\n{"a":1}\n`,
      "application/x-ndjson",
    );
    expect((await session.call("get_document", { index: oddIds, id })).data).toMatchObject({
      _id: id,
      _source: { a: 1 },
    });
  });

  test("gives the document with its version and exact values", async () => {
    const { data } = await session.call("get_document", { index: exact, id: "1" });
    expect(data).toEqual({
      _index: exact,
      _id: "1",
      _seq_no: 0,
      _primary_term: 1,
      _version: 1,
      _source: { big: "9007199254740993", price: 1.1, long: "0.12345678901234567890123", small: 7 },
    });
  });

  test("clips a document larger than an answer, and gives the part that is named", async () => {
    const whole = await session.call("get_document", { index: huge, id: "1" });
    expect(whole.bytes).toBeLessThanOrEqual(BYTES_MAX);
    expect(whole.data).toMatchObject({ clipped: ["body"], hint: expect.stringContaining("bulk_export") });
    const part = await session.call("get_document", { index: huge, id: "1", fields: ["title"] });
    expect(part.data._source).toEqual({ title: "first" });
  });

  test("finds a routed document with its routing and without", async () => {
    for (const routing of [{ routing: "somewhere" }, {}]) {
      const { data } = await session.call("get_document", { index: routed, id: "r", ...routing });
      expect(data).toMatchObject({ _id: "r", _routing: "somewhere", _source: { a: 1 } });
    }
  });

  test("reads before a refresh, as Elasticsearch does by id", async () => {
    const index = name("unrefreshed");
    await indices.create(index, { settings: { refresh_interval: "-1" } });
    await indices.put(index, "1", '{"a":1}');
    expect((await session.call("get_document", { index, id: "1" })).data._source).toEqual({ a: 1 });
  });

  test("asks which one is meant where several indices have the id", async () => {
    const { isError, data } = await session.call("get_document", { index: `${exact},${huge}`, id: "1" });
    expect(isError).toBe(true);
    expect(data.error).toMatchObject({ code: "document_ambiguous", found: [{ index: exact }, { index: huge }] });
  });

  test("a missing id is an error that says what to do", async () => {
    const { data } = await session.call("get_document", { index: products, id: "none" });
    expect(data.error).toMatchObject({ code: "document_not_found", next: expect.stringContaining("search_documents") });
  });

  test("an alias's filter hides documents from being read by id", async () => {
    const { data } = await session.call("get_document", { index: publicOnly, id: "0" });
    expect(data.error.code).toBe("document_not_found");
    expect((await session.call("get_document", { index: publicOnly, id: "1" })).data._source.category).toBe("c1");
  });
});

describe("names", () => {
  test.each(["get_mapping", "search_documents", "count_documents"])(
    "%s names the nearest of a missing index",
    async (tool) => {
      const { isError, data } = await session.call(tool, { index: products.replace("products", "produtcs") });
      expect(isError).toBe(true);
      expect(data.error).toMatchObject({ code: "index_not_found", nearest: expect.arrayContaining([products]) });
    },
  );

  test.each(["get_mapping", "search_documents", "count_documents"])("%s says that an index is closed", async (tool) => {
    const { data } = await session.call(tool, { index: closed });
    expect(data.error).toMatchObject({ code: "index_closed", next: expect.stringContaining("Open the index") });
  });

  test("profile_index names the nearest of a misspelt field instead of an empty profile", async () => {
    const { data } = await session.call("profile_index", { index: products, fields: ["prise"], sample: 5 });
    expect(data).toMatchObject({
      returned: 0,
      unknown_fields: [{ field: "prise", nearest: ["price"] }],
      next: expect.stringContaining("get_mapping"),
    });
  });

  test("a name in quotation marks is told so", async () => {
    const { data } = await session.call("count_documents", { index: `"${products}"` });
    expect(data.error).toMatchObject({ code: "index_not_allowed", next: expect.stringContaining("quotation marks") });
  });

  test("a pattern that meets a closed index says so beside its answer", async () => {
    const { data } = await session.call("count_documents", { index: `${prefix}-*ed` });
    expect(data.left_out).toEqual({ total: 1, indices: [{ name: closed, why: "closed" }] });
  });

  test.each([".security", "_all,.kibana", "cluster:products", "a/../b"])("%s is refused", async (index) => {
    const { data } = await session.call("search_documents", { index });
    expect(data.error.code).toBe("index_not_allowed");
  });

  test("a misspelt argument is named with the nearest one", async () => {
    const { data } = await session.call("search_documents", { index: products, qeury: {} });
    expect(data.error).toMatchObject({ code: "invalid_arguments", message: expect.stringContaining("query") });
  });
});
