import type { MappingField } from "@es-to-pg/staging";
import { afterAll, beforeAll, beforeEach, describe, expect, inject, it } from "vitest";
import { verifyLoad } from "../src/load/verify-job.ts";
import { type Harness, openHarness, told } from "./load-harness.ts";

let harness: Harness;
let table: string;
let serial = 0;

const fields: MappingField[] = [
  { path: "name", type: "keyword" },
  { path: "reviews", type: "nested" },
  { path: "reviews.by", type: "keyword", nested: true },
  { path: "reviews.rating", type: "integer", nested: true },
  { path: "reviews.at", type: "date", format: "yyyy/MM/dd", nested: true },
  { path: "parts", type: "object" },
  { path: "parts.code", type: "keyword" },
];

beforeAll(async () => {
  harness = await openHarness(inject("databaseUrl"));
});

afterAll(() => harness.close());

beforeEach(async () => {
  serial += 1;
  table = `products_${serial}`;
  const { schema } = harness;
  await harness.sql(`CREATE TABLE ${schema}.${table} (id text PRIMARY KEY, name text CHECK (name <> 'bad'))`);
  await harness.sql(
    `CREATE TABLE ${schema}.${table}_reviews (product_id text NOT NULL REFERENCES ${schema}.${table}, position integer NOT NULL,
       by text, rating smallint CHECK (rating > 0), at date, PRIMARY KEY (product_id, position))`,
  );
});

const reviews = () => ({
  from: "reviews",
  table: `${table}_reviews`,
  parent_key: ["product_id"],
  ordinal: "position",
  columns: [{ column: "by" }, { column: "rating" }, { column: "at" }],
});

function mapping(given: object = reviews()) {
  return { columns: [{ column: "id", from: "_id" }, { column: "name" }], key: ["id"], children: [given] };
}

async function rowsOf(): Promise<unknown[][]> {
  return harness.sql(
    `SELECT product_id, position, by, rating, at::text FROM ${harness.schema}.${table}_reviews ORDER BY 1, 2`,
  );
}

async function rejectsOf(loadId: string): Promise<unknown[][]> {
  return harness.sql(
    `SELECT document_id, column_name, reason, message FROM ${harness.schema}_state.rejects WHERE load_id = $1 ORDER BY part, line`,
    [loadId],
  );
}

async function physicalRows(): Promise<unknown[][]> {
  return harness.sql(`SELECT ctid::text, xmin::text FROM ${harness.schema}.${table}_reviews ORDER BY 1`);
}

const first = [
  {
    id: "a",
    source: '{"name":"A","reviews":[{"by":"x","rating":5,"at":"2024/02/29"},null,{"by":"y","rating":"4"}]}',
  },
  { id: "b", source: '{"name":"B","reviews":{"by":"z","rating":3.0}}' },
  { id: "c", source: '{"name":"C","reviews":[]}' },
  { id: "d", source: '{"name":"D"}' },
];
const firstRows = [
  ["a", 1, "x", 5, "2024-02-29"],
  ["a", 2, "y", 4, null],
  ["b", 1, "z", 3, null],
];

async function loadFirst() {
  const exportId = await harness.stage([first], fields);
  const answer = await harness.load({ table, exportId, mapping: mapping() });
  return { exportId, answer };
}

function child(figures: Record<string, number>) {
  return [
    {
      table: `${harness.schema}.${table}_reviews`,
      staged: 0,
      inserted: 0,
      updated: 0,
      unchanged: 0,
      deleted: 0,
      skipped: 0,
      rejected: 0,
      ...figures,
    },
  ];
}

describe("children of an upsert", () => {
  it("become rows by their parent's key and their ordinal, beside the law that counts parents", async () => {
    const { answer } = await loadFirst();
    expect(answer.error).toBeUndefined();
    expect(told(answer)).toEqual({ expected: 4, staged: 4, inserted: 4 });
    expect(answer.children).toEqual(child({ staged: 3, inserted: 3 }));
    expect(await rowsOf()).toEqual(firstRows);
  });

  it("are not touched by a second load of the same documents", async () => {
    const { exportId } = await loadFirst();
    const before = await physicalRows();
    const answer = await harness.load({ table, exportId, mapping: mapping() });
    expect(told(answer)).toEqual({ expected: 4, staged: 4, unchanged: 4 });
    expect(answer.children).toEqual(child({ staged: 3, unchanged: 3 }));
    expect(await physicalRows()).toEqual(before);
  });

  it("are replaced where they differ, though their parent is unchanged", async () => {
    await loadFirst();
    const exportId = await harness.stage(
      [
        [
          {
            id: "a",
            source: '{"name":"A","reviews":[{"by":"x","rating":5,"at":"2024/02/29"},{"by":"new","rating":1}]}',
          },
          { id: "b", source: '{"name":"B"}' },
          { id: "d", source: '{"name":"D2","reviews":[{"by":"late"}]}' },
        ],
      ],
      fields,
    );
    const answer = await harness.load({ table, exportId, mapping: mapping() });
    expect(told(answer)).toEqual({ expected: 3, staged: 3, unchanged: 2, updated: 1 });
    expect(answer.children).toEqual(child({ staged: 3, inserted: 1, updated: 1, unchanged: 1, deleted: 1 }));
    expect(await rowsOf()).toEqual([
      ["a", 1, "x", 5, "2024-02-29"],
      ["a", 2, "new", 1, null],
      ["d", 1, "late", null, null],
    ]);
  });

  it("may swap values that are unique in the table", async () => {
    await harness.sql(`CREATE UNIQUE INDEX ON ${harness.schema}.${table}_reviews (product_id, by)`);
    await loadFirst();
    const source = '{"name":"A","reviews":[{"by":"y","rating":4},{"by":"x","rating":5,"at":"2024/02/29"}]}';
    const answer = await harness.load({
      table,
      exportId: await harness.stage([[{ id: "a", source }]], fields),
      mapping: mapping(),
    });
    expect(answer.children).toEqual(child({ staged: 2, updated: 2 }));
    expect((await rowsOf()).slice(0, 2)).toEqual([
      ["a", 1, "y", 4, null],
      ["a", 2, "x", 5, "2024-02-29"],
    ]);
  });

  it("of a document that loses its key to another do not come", async () => {
    const exportId = await harness.stage(
      [
        [{ id: "a", seqNo: 2, source: '{"name":"winner","reviews":[{"by":"w"}]}' }],
        [{ id: "a", seqNo: 1, source: '{"name":"loser","reviews":[{"by":"l1"},{"by":"l2"}]}' }],
      ],
      fields,
      // By routing, two shards may hold one _id.
      2,
    );
    const answer = await harness.load({ table, exportId, mapping: mapping() });
    expect(told(answer)).toEqual({ expected: 2, staged: 2, inserted: 1, deduplicated: 1 });
    expect(answer.children).toEqual(child({ staged: 3, inserted: 1, skipped: 2 }));
    expect(await rowsOf()).toEqual([["a", 1, "w", null, null]]);
  });

  it("are gathered from dotted names and arrays in arrays", async () => {
    const exportId = await harness.stage(
      [[{ id: "a", source: '{"name":"A","reviews":[[{"by":"x"}],[{"by":"y"},[{"by":"z"}]]]}' }]],
      fields,
    );
    await harness.load({ table, exportId, mapping: mapping() });
    expect((await rowsOf()).map(([, position, by]) => [position, by])).toEqual([
      [1, "x"],
      [2, "y"],
      [3, "z"],
    ]);
  });

  it("roll back with a dry run, which tells their figures", async () => {
    const exportId = await harness.stage([first], fields);
    const answer = await harness.load({ table, exportId, mapping: mapping(), dryRun: true });
    expect(answer.children).toEqual(child({ staged: 3, inserted: 3 }));
    expect(await rowsOf()).toEqual([]);
  });

  it("take expressions, constants and the document's id", async () => {
    await harness.sql(`ALTER TABLE ${harness.schema}.${table}_reviews ADD source text, ADD doc text NOT NULL`);
    const exportId = await harness.stage([first.slice(1, 2)], fields);
    const answer = await harness.load({
      table,
      exportId,
      mapping: mapping({
        ...reviews(),
        columns: [
          { column: "by", expression: "upper(by)", from: "by" },
          { column: "source", constant: "es" },
          { column: "doc", from: "_id" },
        ],
      }),
    });
    expect(answer.error).toBeUndefined();
    const rows = await harness.sql(`SELECT by, source, doc FROM ${harness.schema}.${table}_reviews`);
    expect(rows).toEqual([["Z", "es", "b"]]);
  });
});

describe("a child that does not fit", () => {
  const bad = [
    { id: "ok", source: '{"name":"O","reviews":[{"by":"x","rating":1}]}' },
    { id: "text", source: '{"name":"T","reviews":[{"by":"x","rating":1},{"by":"y","rating":"many"}]}' },
    { id: "scalar", source: '{"name":"S","reviews":[{"by":"x"},5]}' },
    { id: "check", source: '{"name":"K","reviews":[{"by":"x","rating":1},{"by":"y","rating":-1}]}' },
    { id: "parent", source: '{"name":"bad","reviews":[{"by":"x","rating":1}]}' },
  ];

  it("keeps its whole document out, by the encoder and by the table's constraints alike", async () => {
    const exportId = await harness.stage([bad], fields);
    const answer = await harness.load({ table, exportId, mapping: mapping() });
    expect(answer.error).toBeUndefined();
    expect(told(answer)).toEqual({ expected: 5, staged: 5, inserted: 1, rejected: 4 });
    expect(await rejectsOf(answer.load_id)).toEqual([
      [
        "text",
        "reviews[].rating",
        "not_an_integer",
        "Object 2: The value is not a number, and the column is smallint.",
      ],
      ["scalar", "reviews[]", "wrong_kind", "The path holds a number and not objects alone."],
      ["check", "reviews[]", "check_violation", expect.stringContaining("rating_check")],
      ["parent", null, "check_violation", expect.stringContaining("name_check")],
    ]);
    // What the encoder refused was never staged.
    expect(answer.children).toEqual(child({ staged: 4, inserted: 1, rejected: 3 }));
    expect(await rowsOf()).toEqual([["ok", 1, "x", 1, null]]);
    expect(await harness.sql(`SELECT id FROM ${harness.schema}.${table}`)).toEqual([["ok"]]);
  });

  it("leaves parent and children as they were where they were there before", async () => {
    const good = bad.map(({ id }) => ({ id, source: '{"name":"old","reviews":[{"by":"old","rating":9}]}' }));
    await harness.load({ table, exportId: await harness.stage([good], fields), mapping: mapping() });
    const before = await rowsOf();
    const exportId = await harness.stage([bad.slice(1)], fields);
    const answer = await harness.load({ table, exportId, mapping: mapping() });
    expect(told(answer)).toEqual({ expected: 4, staged: 4, rejected: 4 });
    expect(await rowsOf()).toEqual(before);
    expect(await harness.sql(`SELECT DISTINCT name FROM ${harness.schema}.${table}`)).toEqual([["old"]]);
  });

  it("is found among many, and all others come in", async () => {
    const many = Array.from({ length: 1500 }, (_, index) => ({
      id: `m${String(index).padStart(4, "0")}`,
      source: `{"name":"M","reviews":[{"by":"x","rating":${[250, 777, 778, 1499].includes(index) ? -1 : 1}},{"by":"y"}]}`,
    }));
    const exportId = await harness.stage([many.slice(0, 700), many.slice(700)], fields);
    const answer = await harness.load({ table, exportId, mapping: mapping() });
    expect(told(answer)).toEqual({ expected: 1500, staged: 1500, inserted: 1496, rejected: 4 });
    expect(answer.children).toEqual(child({ staged: 3000, inserted: 2992, rejected: 8 }));
    expect((await rejectsOf(answer.load_id)).map(([id]) => id)).toEqual(["m0250", "m0777", "m0778", "m1499"]);
  });

  it("comes in by a replay with a better mapping, with its document", async () => {
    const exportId = await harness.stage([bad], fields);
    const answer = await harness.load({ table, exportId, mapping: mapping() });
    const columns = [
      { column: "by" },
      { column: "rating", on_error: "null", expression: "nullif(rating, -1)", from: "rating", staged_as: "integer" },
    ];
    const replayed = await harness.load({
      table: "",
      rejectsOf: answer.load_id,
      mapping: mapping({ ...reviews(), columns }),
    });
    expect(replayed.error).toBeUndefined();
    expect(told(replayed)).toEqual({ expected: 4, staged: 4, inserted: 2, rejected: 2 });
    expect(replayed.children).toEqual(child({ staged: 5, inserted: 4, rejected: 1 }));
    expect((await rowsOf()).map(([id, position, , rating]) => [id, position, rating])).toEqual([
      ["check", 1, 1],
      ["check", 2, null],
      ["ok", 1, 1],
      ["text", 1, 1],
      ["text", 2, null],
    ]);
  });

  it("ends the load where on_error is stop, with nothing written", async () => {
    const exportId = await harness.stage([bad.slice(3, 4)], fields);
    const limits = { onError: "stop" as const, rejectsMax: null, rejectRatioMax: null };
    const answer = await harness.load({ table, exportId, mapping: mapping(), limits });
    expect(answer).toMatchObject({ status: "failed", error: { code: "document_rejected" } });
    expect(await harness.sql(`SELECT id FROM ${harness.schema}.${table}`)).toEqual([]);
  });
});

describe("children in the other modes", () => {
  const second = [
    { id: "a", source: '{"name":"A2","reviews":[{"by":"new"}]}' },
    { id: "n", source: '{"name":"N","reviews":[{"by":"n"}]}' },
  ];

  it("ignore leaves those of parents that are there alone", async () => {
    await loadFirst();
    const exportId = await harness.stage([second], fields);
    const answer = await harness.load({ table, exportId, mapping: mapping(), mode: "ignore" });
    expect(told(answer)).toEqual({ expected: 2, staged: 2, inserted: 1, skipped: 1 });
    expect(answer.children).toEqual(child({ staged: 2, inserted: 1, skipped: 1 }));
    expect(await rowsOf()).toEqual([...firstRows, ["n", 1, "n", null, null]]);
  });

  it("append adds those of parents that it adds, and changes no other row", async () => {
    await loadFirst();
    const exportId = await harness.stage([second], fields);
    const answer = await harness.load({ table, exportId, mapping: mapping(), mode: "append" });
    expect(told(answer)).toEqual({ expected: 2, staged: 2, inserted: 1, rejected: 1 });
    expect(answer.children).toEqual(child({ staged: 2, inserted: 1, rejected: 1 }));
    expect(await rowsOf()).toEqual([...firstRows, ["n", 1, "n", null, null]]);
  });

  it("replace takes those of parents that go, before the parents", async () => {
    await loadFirst();
    const exportId = await harness.stage([second], fields);
    const request = { table, exportId, mapping: mapping(), mode: "replace" as const, deleteRatioMax: 1 };
    const dry = await harness.load({ ...request, dryRun: true });
    expect(dry.children).toEqual(child({ staged: 2, inserted: 1, updated: 1, deleted: 2 }));
    const answer = await harness.load({ ...request, confirm: dry.confirm });
    expect(answer.error).toBeUndefined();
    expect(told(answer)).toEqual({ expected: 2, staged: 2, inserted: 1, updated: 1 });
    expect(answer.children).toEqual(child({ staged: 2, inserted: 1, updated: 1, deleted: 2 }));
    expect(await rowsOf()).toEqual([
      ["a", 1, "new", null, null],
      ["n", 1, "n", null, null],
    ]);
  });
});

describe("verify_load", () => {
  it("compares children too, and tells what is missing, different and extra", async () => {
    const { answer } = await loadFirst();
    const verified = await verifyLoad(harness.context, answer.load_id, { extra: false });
    expect(verified).toMatchObject({
      verdict: "equal",
      matched: 4,
      children: [{ matched: 3, missing: 0, different: 0, extra: 0 }],
    });
    const reviewsTable = `${harness.schema}.${table}_reviews`;
    await harness.sql(`DELETE FROM ${reviewsTable} WHERE product_id = 'b'`);
    await harness.sql(`UPDATE ${reviewsTable} SET rating = 1 WHERE product_id = 'a' AND position = 1`);
    await harness.sql(`INSERT INTO ${reviewsTable} VALUES ('d', 7, 'who', 1, NULL)`);
    const changed = await verifyLoad(harness.context, answer.load_id, { extra: false });
    expect(changed).toMatchObject({
      verdict: "different",
      matched: 4,
      children: [{ table: reviewsTable, matched: 1, missing: 1, different: 1, extra: 1 }],
    });
  });
});

describe("a mapping with children", () => {
  it.each([
    ["the table is missing", { table: "nowhere" }, "table_not_found"],
    ["the key has another number of columns", { parent_key: ["product_id", "by"] }, "invalid_mapping"],
    ["the parent's key is of another kind", { parent_key: ["position"], ordinal: "rating" }, "invalid_mapping"],
    ["the ordinal names a column of the mapping", { ordinal: "by" }, "invalid_mapping"],
    ["the key columns are mapped too", { columns: [{ column: "position" }] }, "invalid_mapping"],
    ["a column is missing", { columns: [{ column: "stars", from: "rating" }] }, "unknown_column"],
    ["the objects have no such field", { columns: [{ column: "by", from: "author" }] }, "unknown_field"],
    ["the path holds no objects", { from: "name" }, "type_never_fits"],
    ["a column would be kept", { columns: [{ column: "by", on_missing: "keep" }] }, "invalid_mapping"],
  ])("is refused before a row moves where %s", async (_why, change, code) => {
    const exportId = await harness.stage([first], fields);
    const loading = harness.load({ table, exportId, mapping: mapping({ ...reviews(), ...change }) });
    await expect(loading).rejects.toMatchObject({ code });
  });

  it("is refused where nothing tells the child's rows apart", async () => {
    await harness.sql(`ALTER TABLE ${harness.schema}.${table}_reviews DROP CONSTRAINT ${table}_reviews_pkey`);
    const exportId = await harness.stage([first], fields);
    await expect(harness.load({ table, exportId, mapping: mapping() })).rejects.toMatchObject({
      code: "no_unique_key",
      details: { sql: expect.stringContaining('("product_id", "position")') },
    });
  });
});
