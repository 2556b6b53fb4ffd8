import { ToolError } from "@es-to-pg/mcp-kit";
import { afterAll, beforeAll, describe, expect, inject, it } from "vitest";
import { showLoad } from "../src/load/show.ts";
import { startLoad } from "../src/load/start.ts";
import { verifyLoad } from "../src/load/verify-job.ts";
import { addPart, type Harness, openHarness, requestDefaults, type StagedDocument, told } from "./load-harness.ts";

let harness: Harness;
let serial = 0;

beforeAll(async () => {
  harness = await openHarness(inject("databaseUrl"));
});

afterAll(async () => {
  await harness.close();
});

/** A fresh table, and whatever its DDL needs beside it; `T` in the SQL stands for its name. */
async function table(columns: string, ...after: string[]): Promise<string> {
  const name = `t${++serial}`;
  await harness.sql(`CREATE TABLE ${harness.schema}.${name} (${columns})`);
  for (const statement of after) {
    await harness.sql(statement.replaceAll(/\bT\b/g, `${harness.schema}.${name}`).replaceAll(/\bS\b/g, harness.schema));
  }
  return name;
}

const rowsOf = (name: string, columns = "*"): Promise<unknown[][]> =>
  harness.sql(`SELECT ${columns} FROM ${harness.schema}.${name} ORDER BY 1`);

const documents = (...sources: Record<string, unknown>[]): StagedDocument[] =>
  sources.map((source, index) => ({ id: `d${index}`, source }));

async function codeOf(work: Promise<unknown>): Promise<unknown> {
  try {
    await work;
  } catch (error) {
    return error instanceof ToolError ? error.code : error;
  }
  return "no error";
}

describe("rows of a call", () => {
  it("may have columns by the names of a document's head", async () => {
    const name = await table("_id text PRIMARY KEY, _index text, _seq_no bigint, v text");
    const rows = [
      { _id: "a", _index: "mine", _seq_no: "42", v: "x" },
      { _id: "b", v: "y" },
    ];
    expect(told(await harness.load({ table: name, rows }))).toEqual({ expected: 2, staged: 2, inserted: 2 });
    const mapping = { columns: [{ column: "_id" }, { column: "v", from: "_index" }] };
    await harness.load({ table: name, rows: [{ _id: "c", _index: "other" }], mapping });
    expect(await rowsOf(name)).toEqual([
      ["a", "mine", "42", "x"],
      ["b", null, null, "y"],
      ["c", null, null, "other"],
    ]);
  });

  it("read their ordinal where they have no such column", async () => {
    const name = await table("n text PRIMARY KEY, v text");
    const mapping = { columns: [{ column: "n", from: "_id" }, { column: "v" }] };
    await harness.load({ table: name, rows: [{ v: "x" }, { v: "y" }], mapping });
    expect(await rowsOf(name)).toEqual([
      ["1", "x"],
      ["2", "y"],
    ]);
  });
});

describe("before a row moves", () => {
  it("refuses a table with rules, and the server's own state", async () => {
    const name = await table("id text PRIMARY KEY", "CREATE RULE r AS ON DELETE TO T DO INSTEAD NOTHING");
    const exportId = await harness.stage([documents({ id: "a" })]);
    expect(await codeOf(harness.load({ table: name, exportId }))).toBe("rules_on_table");
    const state = { table: "audit", schema: `${harness.schema}_state`, mode: "append" as const };
    expect(await codeOf(harness.load({ ...state, rows: [{ action: "x" }] }))).toBe("state_schema");
  });

  it("says that nothing feeds the primary key, and warns of fields that go nowhere", async () => {
    const counted = await table("id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, v text");
    const fields = [
      { path: "id", type: "long" },
      { path: "v", type: "keyword" },
      { path: "lost", type: "keyword" },
    ];
    const exportId = await harness.stage([documents({ id: 7, v: "x", lost: "y" })], fields);
    await expect(harness.load({ table: counted, exportId })).rejects.toMatchObject({
      code: "no_unique_key",
      message: "upsert needs a key, and nothing feeds the table's primary key.",
      next: expect.stringContaining('identity:"override"'),
    });
    const answer = await harness.load({ table: counted, exportId, overrideIdentity: true });
    expect(answer.warnings).toEqual(["lost: in the documents, and in no column; propose_mapping offers the columns"]);
    expect(await rowsOf(counted)).toEqual([["7", "x"]]);
  });
});

it("append writes an export once, with fresh:true and another mapping too, until repeat:true", async () => {
  const name = await table("v text, w text");
  const exportId = await harness.stage([documents({ v: "1", w: "2" })]);
  const append = { table: name, exportId, mode: "append" as const };
  const first = await harness.load(append);
  expect(await harness.load({ ...append, fresh: true })).toMatchObject({
    load_id: first.load_id,
    already_loaded: true,
  });
  const other = { columns: [{ column: "v" }] };
  expect(await harness.load({ ...append, mapping: other })).toMatchObject({ load_id: first.load_id });
  expect(await rowsOf(name, "count(*)")).toEqual([["1"]]);
  expect((await harness.load({ ...append, repeat: true })).load_id).not.toBe(first.load_id);
});

it("says that an equal load was answered and nothing done", async () => {
  const name = await table("id text PRIMARY KEY");
  const exportId = await harness.stage([documents({ id: "a" })]);
  await harness.load({ table: name, exportId, fresh: false });
  const again = await harness.load({ table: name, exportId, fresh: false });
  expect(again).toMatchObject({ reused: true, next: expect.stringContaining("fresh:true") });
});

describe("the target's own code", () => {
  it("may swallow rows on one partition alone", async () => {
    const name = `t${++serial}`;
    const own = `${harness.schema}.${name}`;
    await harness.sql(`CREATE TABLE ${own} (id text PRIMARY KEY, v text) PARTITION BY LIST (id)`);
    await harness.sql(`CREATE TABLE ${own}_a PARTITION OF ${own} FOR VALUES IN ('a')`);
    await harness.sql(`CREATE TABLE ${own}_rest PARTITION OF ${own} DEFAULT`);
    await harness.sql(`CREATE FUNCTION ${own}_swallow() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'`);
    await harness.sql(
      `CREATE TRIGGER swallow BEFORE INSERT ON ${own}_rest FOR EACH ROW EXECUTE FUNCTION ${own}_swallow()`,
    );
    const exportId = await harness.stage([documents({ id: "a", v: "1" }, { id: "b", v: "2" }, { id: "c", v: "3" })]);
    const answer = await harness.load({ table: name, exportId });
    expect(told(answer)).toEqual({ expected: 3, staged: 3, inserted: 1, suppressed: 2 });
    expect(await rowsOf(name)).toEqual([["a", "1"]]);
  });

  it("finds what it names by the role's own search path", async () => {
    const name = await table(
      "id text PRIMARY KEY, v text",
      `CREATE TABLE public.${harness.schema}_log (v text)`,
      `CREATE FUNCTION S.log_it() RETURNS trigger LANGUAGE plpgsql AS
        'BEGIN INSERT INTO ${harness.schema}_log VALUES (NEW.v); RETURN NEW; END'`,
      "CREATE TRIGGER log_it AFTER INSERT ON T FOR EACH ROW EXECUTE FUNCTION S.log_it()",
    );
    try {
      const exportId = await harness.stage([documents({ id: "a", v: "1" }, { id: "b", v: "2" })]);
      expect(told(await harness.load({ table: name, exportId }))).toEqual({ expected: 2, staged: 2, inserted: 2 });
      expect(await harness.sql(`SELECT v FROM public.${harness.schema}_log ORDER BY 1`)).toEqual([["1"], ["2"]]);
    } finally {
      await harness.sql(`DROP TABLE public.${harness.schema}_log`);
    }
  });

  it("may give two rows one key", async () => {
    const name = await table(
      "id text PRIMARY KEY, v text",
      "CREATE FUNCTION S.same() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN NEW.id := $$k$$; RETURN NEW; END'",
      "CREATE TRIGGER same BEFORE INSERT ON T FOR EACH ROW EXECUTE FUNCTION S.same()",
    );
    const exportId = await harness.stage([documents({ id: "a", v: "1" }, { id: "b", v: "2" })]);
    expect(told(await harness.load({ table: name, exportId }))).toEqual({
      expected: 2,
      staged: 2,
      inserted: 1,
      updated: 1,
    });
    expect(await rowsOf(name)).toEqual([["k", "2"]]);
  });

  it("may not keep rows that replace must remove", async () => {
    const name = await table(
      "id text PRIMARY KEY",
      "INSERT INTO T VALUES ('old'), ('a'), ('b')",
      "CREATE FUNCTION S.hold() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'",
      "CREATE TRIGGER hold BEFORE DELETE ON T FOR EACH ROW EXECUTE FUNCTION S.hold()",
    );
    const exportId = await harness.stage([documents({ id: "a" }, { id: "b" })]);
    const answer = await harness.load({ table: name, exportId, mode: "replace", dryRun: true });
    expect(answer).toMatchObject({ status: "failed", error: { code: "delete_refused", details: { left: 1 } } });
  });
});

describe("keys that are equal by their own comparison", () => {
  const spelled = documents({ id: "AA", v: "new" }, { id: "b", v: "1" }, { id: "B", v: "2" });

  async function loadTwice(name: string) {
    await harness.sql(`INSERT INTO ${harness.schema}.${name} VALUES ('aa', 'old', 'kept')`);
    const exportId = await harness.stage([spelled]);
    const mapping = {
      columns: [{ column: "id" }, { column: "v" }, { column: "w", on_missing: "keep" as const }],
    };
    const first = await harness.load({ table: name, exportId, mapping });
    const again = await harness.load({ table: name, exportId, mapping });
    const verified = await verifyLoad(harness.context, again.load_id, { extra: true });
    return { first: told(first), again: told(again), verdict: verified.verdict, rows: await rowsOf(name) };
  }

  const expected = {
    first: { expected: 3, staged: 3, inserted: 1, updated: 1, deduplicated: 1 },
    again: { expected: 3, staged: 3, unchanged: 2, deduplicated: 1 },
    verdict: "equal",
    rows: [
      ["aa", "new", "kept"],
      ["B", "2", "d"],
    ],
  };

  it("are one key under a nondeterministic collation", async () => {
    await harness.sql(
      `CREATE COLLATION ${harness.schema}.fold (provider = icu, locale = 'und-u-ks-level2', deterministic = false)`,
    );
    const name = await table(`id text COLLATE ${harness.schema}.fold PRIMARY KEY, v text, w text DEFAULT 'd'`);
    expect(await loadTwice(name)).toEqual(expected);
  });

  it("are one key in citext, whose operators live where the extension does", async () => {
    await harness.sql("CREATE EXTENSION IF NOT EXISTS citext WITH SCHEMA public");
    const name = await table("id public.citext PRIMARY KEY, v text, w text DEFAULT 'd'");
    expect(await loadTwice(name)).toEqual(expected);
  });
});

it("loads again what takes a sequence as its default", async () => {
  const name = await table("id text PRIMARY KEY, n serial");
  const exportId = await harness.stage([documents({ id: "a" }, { id: "b", n: 70 })]);
  const mapping = { columns: [{ column: "id" }, { column: "n", on_missing: "keep" as const }] };
  await harness.load({ table: name, exportId, mapping });
  expect(told(await harness.load({ table: name, exportId, mapping }))).toMatchObject({ unchanged: 2 });
  const defaults = { columns: [{ column: "id" }, { column: "n", on_missing: "default" as const }] };
  expect(told(await harness.load({ table: name, exportId, mapping: defaults }))).toMatchObject({
    updated: 1,
    unchanged: 1,
  });
});

it("lets a chain of parents of one load in, in any order, beside a document that is refused", async () => {
  const name = await table(
    "id text PRIMARY KEY, parent text REFERENCES T (id)".replace("T", `${harness.schema}.t${serial + 1}`),
  );
  const chain = Array.from({ length: 30 }, (_, n) => ({ id: `k${n}`, parent: n === 29 ? null : `k${n + 1}` }));
  const exportId = await harness.stage([documents(...chain), documents({ id: "lost", parent: "nobody" })]);
  const answer = await harness.load({ table: name, exportId });
  expect(told(answer)).toEqual({ expected: 31, staged: 31, inserted: 30, rejected: 1 });
  expect(answer.rejects).toMatchObject([{ reason: "foreign_key_violation", count: 1 }]);
});

it.each([
  ["DROP COLUMN v"],
  ["ADD COLUMN needed integer NOT NULL"],
  ["DROP CONSTRAINT K"],
  ["RENAME TO R"],
  ["RENAME TO R", "exchanged"],
])("ends a load whose table was changed meanwhile: %s %s", async (change, exchanged = "") => {
  const name = await table("id text PRIMARY KEY, v text");
  const writer = await harness.openExport(1);
  const exportId = writer.manifest.export_id;
  const started = await startLoad(
    harness.context,
    {
      ...requestDefaults,
      table: name,
      schema: harness.schema,
      exportId,
      mapping: { columns: [{ column: "id" }, { column: "v" }] },
    },
    harness.context.signal,
  );
  const sql = change.replace("K", `${name}_pkey`).replace("TO R", `TO ${name}_gone`);
  const another = `CREATE TABLE ${harness.schema}.${name} (id text PRIMARY KEY, v text);`;
  // At once: the load may look for its table at any moment.
  await harness.sql(`DO $do$ BEGIN
      ALTER TABLE ${harness.schema}.${name} ${sql}; ${exchanged === "" ? "" : another} END $do$`);
  await addPart(writer, documents({ id: "a", v: "1" }));
  await writer.finish("completed");
  await started.ended;
  const answer = await showLoad(harness.context, started.loadId, { waitSeconds: 20 });
  expect(answer).toMatchObject({ status: "failed", error: { code: "table_changed", retryable: true } });
});

it("counts by whole rows what was changed, deleted and added by hand", async () => {
  const name = await table("v text, n bigint");
  const sources = Array.from({ length: 9 }, (_, n) => ({ v: `v${n % 3}`, n }));
  const exportId = await harness.stage([documents(...sources)]);
  const load = await harness.load({ table: name, exportId, mode: "append" });
  await harness.sql(`UPDATE ${harness.schema}.${name} SET v = 'changed' WHERE n = 3`);
  await harness.sql(`DELETE FROM ${harness.schema}.${name} WHERE n = 4`);
  await harness.sql(`INSERT INTO ${harness.schema}.${name} VALUES ('hand', 1)`);
  expect(await verifyLoad(harness.context, load.load_id, { extra: true })).toMatchObject({
    verdict: "different",
    staged: 9,
    matched: 7,
    missing: 2,
    extra: 2,
  });
});

it("tells a state schema of another version as what it is", async () => {
  const other = await openHarness(inject("databaseUrl"));
  try {
    const name = "t";
    await other.sql(`CREATE TABLE ${other.schema}.${name} (id text PRIMARY KEY)`);
    const rows = [{ id: "a" }];
    const { load_id } = await other.load({ table: name, rows });
    await other.sql(`ALTER TABLE ${other.schema}_state.loads DROP COLUMN rounded`);
    expect(await codeOf(other.load({ table: name, rows }))).toBe("state_outdated");
    expect(await codeOf(showLoad(other.context, load_id, { waitSeconds: 0 }))).toBe("state_outdated");
  } finally {
    await other.close();
  }
});

it("counts the row of another writer as unchanged where there is nothing beside the key to update", async () => {
  const name = await table("id text PRIMARY KEY");
  await harness.sql(`INSERT INTO ${harness.schema}.${name} VALUES ('stranger')`);
  const exportId = await harness.stage([documents({ id: "a" }, { id: "b" })]);
  const go = Promise.withResolvers<void>();
  const written = Promise.withResolvers<void>();
  const writer = harness.postgres.write(
    async (tx) => {
      await tx.query(`INSERT INTO ${harness.schema}.${name} VALUES ('a')`);
      written.resolve();
      await go.promise;
    },
    { signal: harness.context.signal },
  );
  await written.promise;
  const loading = harness.load({ table: name, exportId });
  const waiting = async () => {
    const rows = await harness.sql(
      `SELECT count(*)::int FROM pg_stat_activity WHERE wait_event = 'transactionid' AND strpos(query, '${harness.schema}') > 0`,
    );
    return rows[0]?.[0];
  };
  await expect.poll(waiting, { timeout: 10_000 }).toBe(1);
  go.resolve();
  await writer;
  const answer = await loading;
  expect(answer.status).toBe("completed");
  expect(told(answer)).toEqual({ expected: 2, staged: 2, inserted: 1, unchanged: 1 });
  expect(await rowsOf(name)).toEqual([["a"], ["b"], ["stranger"]]);
});

describe("what verify_load tells to do about a difference", () => {
  it.each([
    ["upsert", "DELETE FROM T WHERE id = 'a'", /; load again/],
    ["upsert", "INSERT INTO T VALUES ('c', '3')", /^The extra rows .* mode replace/],
    ["append", "DELETE FROM T WHERE id = 'a'", /adds every row again/],
    ["ignore", "UPDATE T SET v = '9'", /mode upsert/],
  ] as const)("is what helps after %s and %s", async (mode, change, next) => {
    const name = await table("id text PRIMARY KEY, v text");
    const exportId = await harness.stage([documents({ id: "a", v: "1" }, { id: "b", v: "2" })]);
    const { load_id } = await harness.load({ table: name, exportId, mode });
    await harness.sql(change.replace(/\bT\b/, `${harness.schema}.${name}`));
    const answer = await verifyLoad(harness.context, load_id, { extra: true, waitSeconds: 40 });
    expect(answer).toMatchObject({ verdict: "different", next: expect.stringMatching(next) });
  });
});
