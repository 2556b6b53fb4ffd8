import { afterAll, beforeAll, describe, expect, inject, it } from "vitest";
import { gathers, type Harness, openHarness, type StagedDocument, told } from "./load-harness.ts";

let harness: Harness;

beforeAll(async () => {
  harness = await openHarness(inject("databaseUrl"));
});

afterAll(async () => {
  await harness.close();
});

const table = (columns: string, after?: string): Promise<string> => harness.table(columns, after);

const rowsOf = (name: string, columns = "*", order = "1"): Promise<unknown[][]> =>
  harness.sql(`SELECT ${columns} FROM ${harness.schema}.${name} ORDER BY ${order}`);

const item = (id: string, source: Record<string, unknown>, seqNo?: number): StagedDocument => ({
  id,
  source: { id, ...source },
  ...(seqNo === undefined ? {} : { seqNo }),
});

describe("upsert", () => {
  it("inserts, updates and leaves equal rows alone", async () => {
    const name = await table("id text PRIMARY KEY, price numeric(10,2), tags text[]");
    await harness.sql(
      `INSERT INTO ${harness.schema}.${name} VALUES ('a', 1.10, '{x}'), ('b', 2, NULL), ('z', 9, NULL)`,
    );
    const exportId = await harness.stage([
      [item("a", { price: 1.1, tags: ["x"] }), item("b", { price: 2.5 })],
      [item("c", { price: 3, tags: "solo" })],
    ]);
    const before = await harness.sql(`SELECT ctid::text, xmin::text FROM ${harness.schema}.${name} WHERE id = 'a'`);

    const answer = await harness.load({ table: name, exportId });

    expect(answer.status).toBe("completed");
    expect(told(answer)).toEqual({ expected: 3, staged: 3, inserted: 1, updated: 1, unchanged: 1 });
    expect(await rowsOf(name)).toEqual([
      ["a", "1.10", "{x}"],
      ["b", "2.50", null],
      ["c", "3.00", "{solo}"],
      ["z", "9.00", null],
    ]);
    const after = await harness.sql(`SELECT ctid::text, xmin::text FROM ${harness.schema}.${name} WHERE id = 'a'`);
    expect(after).toEqual(before);
  });

  it("changes no row when it is run again", async () => {
    const name = await table("id text PRIMARY KEY, at timestamptz, place point, data json, n numeric");
    const exportId = await harness.stage([
      Array.from({ length: 50 }, (_, n) =>
        item(`k${n}`, { at: "2024-02-29T12:00:00Z", data: { b: [n, "é"] }, n: n / 8 }),
      ),
    ]);
    const mapping = { columns: ["id", "at", "data", "n"].map((column) => ({ column })) };
    const first = await harness.load({ table: name, exportId, mapping });
    const image = await rowsOf(name, "ctid::text, xmin::text, id");
    const second = await harness.load({ table: name, exportId, mapping });

    expect(told(first)).toEqual({ expected: 50, staged: 50, inserted: 50 });
    expect(told(second)).toEqual({ expected: 50, staged: 50, unchanged: 50 });
    expect(await rowsOf(name, "ctid::text, xmin::text, id")).toEqual(image);
  });

  it("keeps of each key the document with the greatest _seq_no, wherever its part lies", async () => {
    const name = await table("id text PRIMARY KEY, v integer");
    const exportId = await harness.stage([
      [
        { id: "1", source: { id: "k", v: 10 }, seqNo: 10 },
        { id: "2", source: { id: "l", v: 1 }, seqNo: 1 },
      ],
      [
        { id: "3", source: { id: "k", v: 5 }, seqNo: 5 },
        { id: "4", source: { id: "l", v: 2 }, seqNo: 2 },
      ],
    ]);
    const answer = await harness.load({ table: name, exportId });
    expect(told(answer)).toEqual({ expected: 4, staged: 4, inserted: 2, deduplicated: 2 });
    expect(await rowsOf(name)).toEqual([
      ["k", 10],
      ["l", 2],
    ]);
  });

  it("finds the key that comes twice among keys that are the documents' _id", async () => {
    const name = await table("id bigint PRIMARY KEY, v integer");
    const documents = Array.from({ length: 40 }, (_, n) => ({ id: `${n}`, source: { id: n, v: n } }));
    const exportId = await harness.stage([documents, [{ id: "again", source: { id: 7, v: 70 }, seqNo: 99 }]]);
    await harness.sql(`INSERT INTO ${harness.schema}.${name} VALUES (0, 0)`);
    const answer = await harness.load({ table: name, exportId });
    expect(told(answer)).toEqual({ expected: 41, staged: 41, inserted: 39, unchanged: 1, deduplicated: 1 });
    expect((await rowsOf(name))[7]).toEqual(["7", 70]);
  });

  it("breaks ties by (_index, _id) and takes a version column before _seq_no", async () => {
    const name = await table("sku text PRIMARY KEY, v bigint, origin text");
    const exportId = await harness.stage([
      [
        { id: "1", index: "b", seqNo: 1, source: { sku: "s", v: 7, origin: "b1" } },
        { id: "2", index: "a", seqNo: 9, source: { sku: "s", v: 7, origin: "a2" } },
        { id: "3", index: "a", seqNo: 9, source: { sku: "s", v: 7, origin: "a3" } },
        { id: "4", index: "a", seqNo: 99, source: { sku: "s", v: 6, origin: "old" } },
      ],
    ]);
    const mapping = { columns: ["sku", "v", "origin"].map((column) => ({ column })), version_from: "v" };
    const answer = await harness.load({ table: name, exportId, mapping });
    expect(told(answer)).toEqual({ expected: 4, staged: 4, inserted: 1, deduplicated: 3 });
    expect(await rowsOf(name)).toEqual([["s", "7", "a3"]]);
  });

  it("does not let an older version overwrite a newer row", async () => {
    const name = await table("id text PRIMARY KEY, v bigint, note text");
    await harness.sql(
      `INSERT INTO ${harness.schema}.${name} VALUES ('a', 5, 'new'), ('b', 1, 'old'), ('c', NULL, 'x')`,
    );
    const exportId = await harness.stage([
      [item("a", { v: 4, note: "late" }), item("b", { v: 2, note: "newer" }), item("c", { v: 1, note: "y" })],
    ]);
    const mapping = { columns: ["id", "v", "note"].map((column) => ({ column })), version_from: "v" };
    const answer = await harness.load({ table: name, exportId, mapping });
    expect(told(answer)).toEqual({ expected: 3, staged: 3, updated: 2, stale: 1 });
    expect(await rowsOf(name)).toEqual([
      ["a", "5", "new"],
      ["b", "2", "newer"],
      ["c", "1", "y"],
    ]);
  });

  it("keeps what a sparse document does not say, and takes defaults for new rows", async () => {
    const name = await table("id text PRIMARY KEY, note text DEFAULT 'fresh', n integer DEFAULT 7");
    await harness.sql(`INSERT INTO ${harness.schema}.${name} VALUES ('a', 'mine', 1)`);
    const exportId = await harness.stage([[item("a", { n: 2 }), item("b", {}), item("c", { note: null })]]);
    const mapping = {
      columns: [{ column: "id" }, { column: "note", on_missing: "keep" }, { column: "n", on_missing: "default" }],
    };
    const answer = await harness.load({ table: name, exportId, mapping });
    expect(told(answer)).toEqual({ expected: 3, staged: 3, inserted: 2, updated: 1 });
    expect(await rowsOf(name)).toEqual([
      ["a", "mine", 2],
      ["b", "fresh", 7],
      ["c", null, 7],
    ]);
  });

  it("counts inserts and updates of a partitioned table", async () => {
    const name = await table("id integer PRIMARY KEY, v text", "PARTITION BY RANGE (id)");
    await harness.sql(
      `CREATE TABLE ${harness.schema}.${name}_a PARTITION OF ${harness.schema}.${name} FOR VALUES FROM (0) TO (10)`,
    );
    await harness.sql(
      `CREATE TABLE ${harness.schema}.${name}_b PARTITION OF ${harness.schema}.${name} FOR VALUES FROM (10) TO (20)`,
    );
    await harness.sql(`INSERT INTO ${harness.schema}.${name} VALUES (1, 'old'), (2, 'same')`);
    const exportId = await harness.stage([
      [
        { id: "1", source: { id: 1, v: "new" } },
        { id: "2", source: { id: 2, v: "same" } },
        { id: "3", source: { id: 13, v: "thirteen" } },
        { id: "4", source: { id: 99, v: "no partition" } },
      ],
    ]);
    const answer = await harness.load({ table: name, exportId });
    expect(told(answer)).toEqual({ expected: 4, staged: 4, inserted: 1, updated: 1, unchanged: 1, rejected: 1 });
    expect(answer.rejects).toMatchObject([{ reason: "check_violation", count: 1, document_id: "4" }]);
  });
});

describe("other modes", () => {
  it("ignore leaves existing rows as they are", async () => {
    const name = await table("id text PRIMARY KEY, v integer");
    await harness.sql(`INSERT INTO ${harness.schema}.${name} VALUES ('a', 1), ('b', 2)`);
    const exportId = await harness.stage([[item("a", { v: 1 }), item("b", { v: 3 }), item("c", { v: 4 })]]);
    const answer = await harness.load({ table: name, exportId, mode: "ignore" });
    expect(told(answer)).toEqual({ expected: 3, staged: 3, inserted: 1, unchanged: 1, skipped: 1 });
    expect(await rowsOf(name)).toEqual([
      ["a", 1],
      ["b", 2],
      ["c", 4],
    ]);
  });

  it("append writes every row, and a second append of the export answers the first", async () => {
    const name = await table("v integer, note text");
    const exportId = await harness.stage([[item("a", { v: 1 }), item("b", { v: 1 }), item("c", { v: 2 })]]);
    const first = await harness.load({ table: name, exportId, mode: "append", fresh: false });
    const second = await harness.load({ table: name, exportId, mode: "append", fresh: false });
    expect(told(first)).toEqual({ expected: 3, staged: 3, inserted: 3 });
    expect(second).toMatchObject({ load_id: first.load_id, already_loaded: true });
    expect(await rowsOf(name, "v")).toEqual([[1], [1], [2]]);
    const third = await harness.load({ table: name, exportId, mode: "append", fresh: false, repeat: true });
    expect(third.load_id).not.toBe(first.load_id);
    expect(await rowsOf(name, "count(*)::int")).toEqual([[6]]);
  });

  it("append rejects a row whose key exists and keeps the rest", async () => {
    const name = await table("id text PRIMARY KEY, v integer");
    await harness.sql(`INSERT INTO ${harness.schema}.${name} VALUES ('a', 1)`);
    const exportId = await harness.stage([[item("a", { v: 2 }), item("b", { v: 3 })]]);
    const answer = await harness.load({ table: name, exportId, mode: "append" });
    expect(told(answer)).toEqual({ expected: 2, staged: 2, inserted: 1, rejected: 1 });
    expect(answer.rejects).toMatchObject([{ reason: "unique_violation", document_id: "a" }]);
  });

  it("replace needs the token of a dry run, and removes what is not staged", async () => {
    const name = await table("id text PRIMARY KEY, v integer");
    await harness.sql(`INSERT INTO ${harness.schema}.${name} VALUES ('a', 1), ('b', 2), ('gone', 3)`);
    const exportId = await harness.stage([[item("a", { v: 1 }), item("b", { v: 9 }), item("c", { v: 4 })]]);
    const request = { table: name, exportId, mode: "replace" as const };

    await expect(harness.load(request)).rejects.toMatchObject({ code: "confirm_needed" });
    const dry = await harness.load({ ...request, dryRun: true });
    expect(dry).toMatchObject({ status: "completed", dry_run: true, deleted: 1 });
    expect(told(dry)).toEqual({ expected: 3, staged: 3, inserted: 1, updated: 1, unchanged: 1 });
    expect(await rowsOf(name, "id")).toEqual([["a"], ["b"], ["gone"]]);
    await expect(harness.load({ ...request, confirm: "confirm_guess" })).rejects.toMatchObject({
      code: "confirm_mismatch",
    });

    const { confirm } = dry;
    // What nobody was shown does not go: the table has grown since the dry run.
    await harness.sql(`INSERT INTO ${harness.schema}.${name} VALUES ('unseen', 4)`);
    expect(await harness.load({ ...request, confirm })).toMatchObject({
      status: "failed",
      error: { code: "confirm_outdated", details: { would_delete: 2, confirmed: 1 } },
    });
    expect(await rowsOf(name, "id")).toEqual([["a"], ["b"], ["gone"], ["unseen"]]);
    await harness.sql(`DELETE FROM ${harness.schema}.${name} WHERE id = 'unseen'`);
    const answer = await harness.load({ ...request, confirm });
    expect(answer).toMatchObject({ status: "completed", deleted: 1 });
    expect(await rowsOf(name)).toEqual([
      ["a", 1],
      ["b", 9],
      ["c", 4],
    ]);
  });

  it("replace refuses to empty more of the table than max_delete_ratio", async () => {
    const name = await table("id text PRIMARY KEY");
    await harness.sql(`INSERT INTO ${harness.schema}.${name} SELECT n::text FROM generate_series(1, 10) AS n`);
    const exportId = await harness.stage([[{ id: "1", source: { id: "1" } }]]);
    const dry = await harness.load({ table: name, exportId, mode: "replace", dryRun: true });
    expect(dry).toMatchObject({ status: "failed", error: { code: "too_many_deletes", details: { would_delete: 9 } } });
    const bold = await harness.load({ table: name, exportId, mode: "replace", dryRun: true, deleteRatioMax: 1 });
    expect(bold).toMatchObject({ status: "completed", deleted: 9 });
  });

  it("replace of a table without key leaves exactly the staged rows", async () => {
    const name = await table("v integer");
    await harness.sql(`INSERT INTO ${harness.schema}.${name} VALUES (7), (8)`);
    const exportId = await harness.stage([[item("a", { v: 1 }), item("b", { v: 1 })]]);
    const request = { table: name, exportId, mode: "replace" as const };
    const { confirm } = await harness.load({ ...request, dryRun: true });
    const answer = await harness.load({ ...request, confirm });
    expect(told(answer)).toEqual({ expected: 2, staged: 2, inserted: 2 });
    expect(await rowsOf(name)).toEqual([[1], [1]]);
  });

  it("replace by a part of an index wants confirm_partial", async () => {
    const name = await table("id text PRIMARY KEY");
    const writer = await harness.openExport(0, [], { query: { term: { a: 1 } } });
    await writer.finish("completed");
    const request = { table: name, exportId: writer.manifest.export_id, mode: "replace" as const };
    await expect(harness.load(request)).rejects.toMatchObject({ code: "partial_source" });
    expect(await harness.load({ ...request, confirmPartial: true })).toMatchObject({ status: "completed" });
  });
});

describe("rows that the target refuses", () => {
  it("rejects null keys and null values of NOT NULL columns with their reason", async () => {
    const name = await table("id text PRIMARY KEY, v integer NOT NULL");
    const exportId = await harness.stage([
      [item("a", { v: 1 }), { id: "b", source: { v: 2 } }, { id: "c", source: { id: null, v: 3 } }, item("d", {})],
    ]);
    const answer = await harness.load({ table: name, exportId });
    expect(told(answer)).toEqual({ expected: 4, staged: 4, inserted: 1, rejected: 3 });
    expect(answer.rejects?.map(({ reason, column, count }) => [reason, column, count])).toEqual([
      ["null_key", "id", 2],
      ["null_not_allowed", "v", 1],
    ]);
  });

  it("isolates check, second unique and foreign key failures among many good rows", async () => {
    const parents = await table("id integer PRIMARY KEY");
    await harness.sql(`INSERT INTO ${harness.schema}.${parents} SELECT generate_series(0, 9)`);
    const name = await table(
      `id integer PRIMARY KEY, code text UNIQUE, parent integer REFERENCES ${harness.schema}.${parents}, n integer CHECK (n < 5000)`,
    );
    const documents = Array.from({ length: 6000 }, (_, n) => ({
      id: `d${n}`,
      source: { id: n, code: n === 4000 ? "c17" : `c${n}`, parent: n === 123 ? 77 : n % 10, n: n === 2500 ? 5000 : 1 },
    }));
    const exportId = await harness.stage([documents.slice(0, 3500), documents.slice(3500)]);
    const answer = await harness.load({ table: name, exportId });
    expect(told(answer)).toEqual({ expected: 6000, staged: 6000, inserted: 5997, rejected: 3 });
    expect(new Set(answer.rejects?.map(({ reason, document_id }) => `${reason} ${document_id}`))).toEqual(
      new Set(["unique_violation d4000", "foreign_key_violation d123", "check_violation d2500"]),
    );
    expect(await rowsOf(name, "count(*)::int")).toEqual([[5997]]);
  });

  it("rejects what an exclusion constraint keeps out, in an empty table and in a filled one", async () => {
    const name = await table("id text PRIMARY KEY, span int4range, EXCLUDE USING gist (span WITH &&)");
    const rooms = (from: number, to: number, shift: number): StagedDocument[] =>
      Array.from({ length: to - from }, (_, n) =>
        item(`${from + n}`, { span: { gte: 10 * (from + n) + shift, lt: 10 * (from + n) + shift + 9 } }),
      );
    const late = item("late", { span: { gte: 5, lt: 8 } }, 999);
    const first = await harness.load({ table: name, exportId: await harness.stage([[...rooms(0, 40, 0), late]]) });
    expect(told(first)).toEqual({ expected: 41, staged: 41, inserted: 40, rejected: 1 });
    expect(first.rejects).toMatchObject([{ reason: "exclusion_violation", document_id: "late" }]);
    const second = await harness.load({ table: name, exportId: await harness.stage([rooms(39, 42, 2)]) });
    expect(told(second)).toEqual({ expected: 3, staged: 3, inserted: 2, updated: 1 });
  });

  it("judges deferred constraints before the commit", async () => {
    const parents = await table("id integer PRIMARY KEY");
    await harness.sql(`INSERT INTO ${harness.schema}.${parents} VALUES (1)`);
    const name = await table(
      `id integer PRIMARY KEY, parent integer REFERENCES ${harness.schema}.${parents} DEFERRABLE INITIALLY DEFERRED`,
    );
    const exportId = await harness.stage([
      [
        { id: "1", source: { id: 1, parent: 1 } },
        { id: "2", source: { id: 2, parent: 2 } },
      ],
    ]);
    const answer = await harness.load({ table: name, exportId });
    expect(told(answer)).toEqual({ expected: 2, staged: 2, inserted: 1, rejected: 1 });
  });

  it("lets children find parents of the same table that come later, also when another row fails", async () => {
    const name = await table("id integer PRIMARY KEY, n integer CHECK (n > 0), parent integer");
    await harness.sql(
      `ALTER TABLE ${harness.schema}.${name} ADD FOREIGN KEY (parent) REFERENCES ${harness.schema}.${name}`,
    );
    const exportId = await harness.stage([
      [
        { id: "1", source: { id: 1, n: 1, parent: 3 } },
        { id: "2", source: { id: 2, n: -1, parent: 3 } },
        { id: "3", source: { id: 3, n: 1 } },
      ],
    ]);
    const answer = await harness.load({ table: name, exportId });
    expect(told(answer)).toEqual({ expected: 3, staged: 3, inserted: 2, rejected: 1 });
    expect(answer.rejects).toMatchObject([{ reason: "check_violation", document_id: "2" }]);
  });

  it("counts rows that a trigger swallows as suppressed, and those it refuses as rejected", async () => {
    const name = await table("id text PRIMARY KEY, v integer");
    await harness.sql(`CREATE FUNCTION ${harness.schema}.guard() RETURNS trigger LANGUAGE plpgsql AS $f$
      BEGIN IF NEW.v = 0 THEN RETURN NULL; END IF; IF NEW.v < 0 THEN RAISE EXCEPTION 'too small'; END IF; RETURN NEW; END $f$`);
    await harness.sql(
      `CREATE TRIGGER guard BEFORE INSERT OR UPDATE ON ${harness.schema}.${name} FOR EACH ROW EXECUTE FUNCTION ${harness.schema}.guard()`,
    );
    const exportId = await harness.stage([[item("a", { v: 1 }), item("b", { v: 0 }), item("c", { v: -1 })]]);
    const answer = await harness.load({ table: name, exportId });
    expect(told(answer)).toEqual({ expected: 3, staged: 3, inserted: 1, suppressed: 1, rejected: 1 });
    expect(answer.rejects).toMatchObject([{ reason: "raised_by_trigger", message: "too small" }]);
    expect(answer.warnings?.join()).toContain("trigger");
  });

  it("rejects the row whose expression fails, and names the column", async () => {
    const name = await table("id text PRIMARY KEY, ratio numeric(4,2), short varchar(3)");
    const mapping = {
      columns: [
        { column: "id" },
        { column: "a", from: "a", load: false, staged_as: "integer" },
        { column: "b", from: "b", load: false, staged_as: "integer" },
        { column: "word", from: "word", load: false, staged_as: "text" },
        { column: "ratio", expression: "a::numeric / b" },
        { column: "short", expression: "upper(word)" },
      ],
    };
    const exportId = await harness.stage([
      [
        item("1", { a: 1, b: 4, word: "abc" }),
        item("2", { a: 1, b: 0, word: "x" }),
        item("3", { a: 1, b: 2, word: "abcd" }),
        item("4", { a: 900, b: 1, word: "y" }),
      ],
    ]);
    const answer = await harness.load({ table: name, exportId, mapping });
    expect(told(answer)).toEqual({ expected: 4, staged: 4, inserted: 1, rejected: 3 });
    expect(new Set(answer.rejects?.map((r) => `${r.document_id} ${r.column} ${r.reason}`))).toEqual(
      new Set(["2 ratio division_by_zero", "3 short too_long", "4 ratio out_of_range"]),
    );
    expect(await rowsOf(name)).toEqual([["1", "0.25", "ABC"]]);
  });

  it.each([
    ["gather", gathers],
    ["direct", {}],
  ])("counts what a column's type rounds away from its expression in a load by %s", async (strategy, how) => {
    const name = await table("id text PRIMARY KEY, price numeric(8,2), pieces integer, exact numeric(8,2), word text");
    const mapping = {
      columns: [
        { column: "id", from: "_id" },
        { column: "net", from: "net", load: false, staged_as: "numeric" },
        { column: "price", expression: "net * 1.19" },
        { column: "pieces", expression: "net / 2" },
        { column: "exact", expression: "round(net * 1.19, 2)" },
        { column: "word", expression: "net::text" },
      ],
    };
    const exportId = await harness.stage([
      [item("1", { net: 1 }), item("2", { net: 10.5 })],
      [item("3", { net: 200 })],
    ]);
    const answer = await harness.load({ table: name, exportId, mapping, ...how });
    expect(answer).toMatchObject({ status: "completed", strategy });
    expect(answer.rounded).toEqual({ price: 1, pieces: 2 });
    expect(await rowsOf(name)).toEqual([
      ["1", "1.19", 1, "1.19", "1"],
      ["2", "12.50", 5, "12.50", "10.5"],
      ["3", "238.00", 100, "238.00", "200"],
    ]);
  });

  it.each([
    ["gather", gathers],
    ["direct", {}],
  ])("counts it beside rows whose expression fails too, in a load by %s", async (_, how) => {
    const name = await table("id text PRIMARY KEY, price numeric(8,2), share integer");
    const mapping = {
      columns: [
        { column: "id", from: "_id" },
        { column: "net", from: "net", load: false, staged_as: "numeric" },
        { column: "by", from: "by", load: false, staged_as: "integer" },
        { column: "price", expression: "net * 1.19" },
        { column: "share", expression: "1 / by", on_error: "null" },
      ],
    };
    const exportId = await harness.stage([
      Array.from({ length: 1000 }, (_none, n) => item(`${n}`, { net: n % 100 === 0 ? 0.5 : 1, by: n === 500 ? 0 : 2 })),
    ]);
    const answer = await harness.load({ table: name, exportId, mapping, ...how });
    expect(told(answer)).toEqual({ expected: 1000, staged: 1000, inserted: 1000 });
    expect(answer.rounded).toEqual({ price: 10 });
  });

  it("finds the rows that COPY refuses by reading the part once more as text", async () => {
    await harness.sql(`CREATE TYPE ${harness.schema}.mood AS ENUM ('good', 'bad')`);
    const name = await table(`id text PRIMARY KEY, mood ${harness.schema}.mood, net cidr`);
    const documents = Array.from({ length: 300 }, (_, n) =>
      item(`d${n}`, { mood: n === 7 ? "ugly" : "good", net: n === 200 ? "10.0.0.1/8" : "10.0.0.0/8" }),
    );
    const exportId = await harness.stage([documents]);
    const answer = await harness.load({ table: name, exportId });
    expect(told(answer)).toEqual({ expected: 300, staged: 300, inserted: 298, rejected: 2 });
    expect(new Set(answer.rejects?.map((r) => `${r.document_id} ${r.column}`))).toEqual(
      new Set(["d7 mood", "d200 net"]),
    );
  });

  it("stops at the first reject when told to, and keeps the target and the reason", async () => {
    const name = await table("id text PRIMARY KEY, v integer CHECK (v > 0)");
    const exportId = await harness.stage([[item("a", { v: 1 }), item("b", { v: 0 })]]);
    const limits = { onError: "stop" as const, rejectsMax: null, rejectRatioMax: null };
    const answer = await harness.load({ table: name, exportId, limits });
    expect(answer).toMatchObject({ status: "failed", error: { code: "document_rejected" } });
    expect(answer.rejects).toMatchObject([{ reason: "check_violation", document_id: "b" }]);
    expect(await rowsOf(name)).toEqual([]);
  });

  it("fails beyond max_rejects and max_reject_ratio", async () => {
    const name = await table("id text PRIMARY KEY, v integer");
    const exportId = await harness.stage([[item("a", { v: "x" }), item("b", { v: "y" }), item("c", { v: 1 })]]);
    const few = await harness.load({
      table: name,
      exportId,
      limits: { onError: "reject", rejectsMax: 1, rejectRatioMax: null },
    });
    expect(few).toMatchObject({ status: "failed", error: { code: "too_many_rejects" } });
    const ratio = await harness.load({
      table: name,
      exportId,
      limits: { onError: "reject", rejectsMax: null, rejectRatioMax: 0.7 },
    });
    expect(told(ratio)).toEqual({ expected: 3, staged: 3, inserted: 1, rejected: 2 });
  });
});

describe("identity columns", () => {
  it("take loaded values only when told to, and go on counting after them", async () => {
    const name = await table("id integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY, v text");
    const exportId = await harness.stage([
      [
        { id: "a", source: { id: 41, v: "x" } },
        { id: "b", source: { id: 7, v: "y" } },
      ],
    ]);
    const mapping = { columns: [{ column: "id" }, { column: "v" }] };
    await expect(harness.load({ table: name, exportId, mapping })).rejects.toMatchObject({ code: "identity_column" });
    const answer = await harness.load({ table: name, exportId, mapping, overrideIdentity: true });
    expect(told(answer)).toEqual({ expected: 2, staged: 2, inserted: 2 });
    await harness.sql(`INSERT INTO ${harness.schema}.${name} (v) VALUES ('next')`);
    expect(await rowsOf(name)).toEqual([
      [7, "y"],
      [41, "x"],
      [42, "next"],
    ]);
    expect(told(await harness.load({ table: name, exportId, mapping, overrideIdentity: true }))).toEqual({
      expected: 2,
      staged: 2,
      unchanged: 2,
    });
  });
});

describe("what is kept of a load", () => {
  it("leaves no stage behind, neither after success nor after failure", async () => {
    const { rows } = {
      rows: await harness.sql(
        "SELECT c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = $1 AND c.relname ~ '^(stage|text|ready|cooked|rejects)_'",
        [`${harness.schema}_state`],
      ),
    };
    expect(rows.filter(([name]) => name !== "rejects_pkey")).toEqual([]);
  });

  it("a dry run tells figures and rejects and changes nothing", async () => {
    const name = await table("id text PRIMARY KEY, v integer CHECK (v > 0)");
    const exportId = await harness.stage([[item("a", { v: 1 }), item("b", { v: 0 })]]);
    const answer = await harness.load({ table: name, exportId, dryRun: true });
    expect(answer).toMatchObject({ status: "completed", dry_run: true });
    expect(told(answer)).toEqual({ expected: 2, staged: 2, inserted: 1, rejected: 1 });
    expect(answer.rejects).toMatchObject([{ reason: "check_violation", document_id: "b" }]);
    expect(await rowsOf(name)).toEqual([]);
  });
});
