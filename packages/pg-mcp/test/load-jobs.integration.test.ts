import { setTimeout as sleep } from "node:timers/promises";
import { Jobs } from "@es-to-pg/mcp-kit";
import { afterAll, beforeAll, describe, expect, inject, it } from "vitest";
import { countedWhile } from "../../mcp-kit/test/counted.ts";
import { insertRow } from "../src/load/insert-row.ts";
import { listLoads, listRejects } from "../src/load/listing.ts";
import { cancelLoad, showLoad } from "../src/load/show.ts";
import { startLoad } from "../src/load/start.ts";
import { ensureState } from "../src/load/state.ts";
import { verifyLoad } from "../src/load/verify-job.ts";
import {
  addPart,
  gathers,
  type Harness,
  openHarness,
  requestDefaults,
  type StagedDocument,
  told,
} from "./load-harness.ts";

let harness: Harness;

beforeAll(async () => {
  harness = await openHarness(inject("databaseUrl"));
});

afterAll(async () => {
  await harness.close();
});

const table = (columns: string): Promise<string> => harness.table(columns);

const rowsOf = (name: string, columns = "*"): Promise<unknown[][]> =>
  harness.sql(`SELECT ${columns} FROM ${harness.schema}.${name} ORDER BY 1`);

const numbered = (from: number, to: number, v = 0): StagedDocument[] =>
  Array.from({ length: to - from }, (_, n) => ({ id: `d${from + n}`, source: { id: from + n, v: v + n } }));

describe("the state", () => {
  it("is created once by many processes at once", async () => {
    const schema = `${harness.schema}_race`;
    const { signal } = new AbortController();
    await Promise.all(
      Array.from({ length: 5 }, () => harness.postgres.write((tx) => ensureState(tx, schema), { signal })),
    );
    const tables = await harness.sql("SELECT count(*)::int FROM pg_tables WHERE schemaname = $1", [schema]);
    await harness.sql(`DROP SCHEMA ${schema} CASCADE`);
    expect(tables).toEqual([[7]]);
  });
});

describe("what outlives its load", () => {
  it("is swept by the next load: stages of no load, and loads beyond the retention with their rejects", async () => {
    const name = await table("id integer PRIMARY KEY, v integer");
    const old = await harness.load({ table: name, rows: [{ id: 1 }, { id: "x" }] });
    const state = `${harness.schema}_state`;
    await harness.sql(`UPDATE ${state}.loads SET finished_at = now() - interval '15 days' WHERE load_id = $1`, [
      old.load_id,
    ]);
    await harness.sql(`CREATE UNLOGGED TABLE ${state}.stage_load_${"0".repeat(26)} ()`);
    await harness.load({ table: name, exportId: await harness.stage([numbered(5, 6)]) });
    await expect(showLoad(harness.context, old.load_id, { waitSeconds: 0 })).rejects.toMatchObject({
      code: "unknown_load",
    });
    const left = await harness.sql(
      `SELECT (SELECT count(*)::int FROM ${state}.rejects WHERE load_id = $1), to_regclass($2)::text`,
      [old.load_id, `${state}.stage_load_${"0".repeat(26)}`],
    );
    expect(left).toEqual([[0, null]]);
  });
});

describe("loads at once", () => {
  it("are one load where the arguments are the same", async () => {
    const name = await table("id integer PRIMARY KEY, v integer");
    const exportId = await harness.stage([numbered(0, 500)]);
    const request = { ...requestDefaults, table: name, schema: harness.schema, exportId, fresh: false };
    const started = await Promise.all([1, 2, 3].map(() => startLoad(harness.context, request, harness.context.signal)));
    expect(new Set(started.map(({ loadId }) => loadId)).size).toBe(1);
    const first = await harness.load({ table: name, exportId, fresh: false });
    expect(first).toMatchObject({ load_id: started[0]?.loadId, status: "completed" });
    expect(await harness.load({ table: name, exportId, fresh: false })).toMatchObject({
      load_id: first.load_id,
      reused: true,
    });
    expect((await harness.load({ table: name, exportId, fresh: true })).load_id).not.toBe(first.load_id);
  });

  it("of different exports into one table queue, meet no deadlock, and each adds up", async () => {
    const name = await table("id integer PRIMARY KEY, v integer");
    const forwards = await harness.stage([numbered(0, 3000)]);
    const backwards = await harness.stage([numbered(0, 3000, 9).toReversed(), numbered(3000, 3500)]);
    const answers = await Promise.all([
      harness.load({ table: name, exportId: forwards }),
      harness.load({ table: name, exportId: backwards }),
    ]);
    expect(answers.map(({ status }) => status)).toEqual(["completed", "completed"]);
    const [first, second] = answers.map(({ figures }) => figures.inserted + figures.updated);
    expect([first, second]).toEqual([3000, 3500]);
    expect(answers[0]?.figures.inserted ?? 0).toSatisfy((n: number) => n === 3000 || n === 0);
    expect(await rowsOf(name, "count(*)::int")).toEqual([[3500]]);
  });

  it("are more than there are connections, and all end", async () => {
    const name = await table("id integer PRIMARY KEY, v integer");
    const exports = await Promise.all(
      Array.from({ length: 9 }, (_, n) => harness.stage([numbered(n * 100, n * 100 + 150)])),
    );
    const answers = await Promise.all(exports.map((exportId) => harness.load({ table: name, exportId })));
    expect(answers.map(({ status }) => status)).toEqual(exports.map(() => "completed"));
    expect(await rowsOf(name, "count(*)::int")).toEqual([[950]]);
  });

  it("tries again after a deadlock with another writer", async () => {
    const name = await table("id integer PRIMARY KEY, v integer");
    await harness.sql(`INSERT INTO ${harness.schema}.${name} SELECT n, -1 FROM generate_series(0, 99) AS n`);
    const exportId = await harness.stage([numbered(0, 100)]);
    let loading: ReturnType<Harness["load"]> | undefined;
    const { signal } = new AbortController();
    await harness.postgres
      .write(
        async (tx) => {
          await tx.query(`UPDATE ${harness.schema}.${name} SET v = -2 WHERE id = 99`);
          loading = harness.load({ table: name, exportId });
          // The load has every row but the last one by now, and waits for it; this closes the circle.
          await sleep(700);
          await tx.query(`UPDATE ${harness.schema}.${name} SET v = -2 WHERE id = 0`);
        },
        { signal },
      )
      .catch(() => {});
    const answer = await loading;
    expect(answer?.status).toBe("completed");
    expect(answer?.figures).toMatchObject({ expected: 100, staged: 100 });
    expect(await rowsOf(name, "v")).toEqual(numbered(0, 100).map((_, n) => [n]));
  });
});

describe("a load of an export that is still working", () => {
  it.each([
    ["direct", {}, 100],
    ["gather", gathers, 0],
  ] as const)("takes parts as they come and ends after the export (%s)", async (strategy, request, rowsMeanwhile) => {
    const name = await table("id integer PRIMARY KEY, v integer");
    const writer = await harness.openExport(300);
    await addPart(writer, numbered(0, 100));
    const exportId = writer.manifest.export_id;
    const loading = harness.load({ ...request, table: name, exportId });
    await sleep(900);
    expect(await rowsOf(name)).toHaveLength(rowsMeanwhile);
    await addPart(writer, numbered(100, 300));
    await sleep(300);
    await writer.finish("completed");
    const answer = await loading;
    expect(told(answer)).toEqual({ expected: 300, staged: 300, inserted: 300 });
    expect(answer.strategy).toBe(strategy);
  });

  it.each([
    ["the parts that are in", {}, { staged: 100, inserted: 100 }],
    ["an untouched target", gathers, { staged: 100, inserted: 0 }],
  ] as const)("fails with it, and leaves %s and no stage", async (_, request, figures) => {
    const name = await table("id integer PRIMARY KEY, v integer");
    const writer = await harness.openExport(300);
    await addPart(writer, numbered(0, 100));
    const loading = harness.load({ ...request, table: name, exportId: writer.manifest.export_id });
    await sleep(700);
    await writer.finish("failed", { code: "snapshot_lost", message: "gone", retryable: false });
    const answer = await loading;
    expect(answer).toMatchObject({ status: "failed", error: { code: "source_failed" }, figures });
    expect(await rowsOf(name)).toHaveLength(figures.inserted);
    const stage = await harness.sql("SELECT to_regclass($1)::text", [
      `${harness.schema}_state.stage_${answer.load_id}`,
    ]);
    expect(stage).toEqual([[null]]);
    const again = { table: name, exportId: writer.manifest.export_id };
    await expect(harness.load(again)).rejects.toMatchObject({ code: "source_failed" });
    const partial = await harness.load({ ...again, allowPartial: true });
    const outcome = figures.inserted > 0 ? { unchanged: 100 } : { inserted: 100 };
    expect(told(partial)).toEqual({ expected: 100, staged: 100, ...outcome });
    expect(await verifyLoad(harness.context, partial.load_id, { extra: true })).toMatchObject({
      verdict: "equal",
      matched: 100,
    });
  });

  it.each([
    ["keeps the parts that are in", {}, { staged: 100, inserted: 100 }],
    ["leaves the target untouched", gathers, { staged: 100, inserted: 0 }],
  ] as const)("can be cancelled, which %s, and a finished load cannot", async (_, request, figures) => {
    const name = await table("id integer PRIMARY KEY, v integer");
    const writer = await harness.openExport(300);
    await addPart(writer, numbered(0, 100));
    const exportId = writer.manifest.export_id;
    const started = await startLoad(
      harness.context,
      { ...requestDefaults, ...request, table: name, schema: harness.schema, exportId },
      harness.context.signal,
    );
    const staged = async () => (await showLoad(harness.context, started.loadId, { waitSeconds: 0 })).figures.staged;
    await expect.poll(staged, { timeout: 20_000 }).toBe(100);
    const answer = await cancelLoad(harness.context, started.loadId);
    expect(answer).toMatchObject({ status: "cancelled", figures });
    expect(await rowsOf(name)).toHaveLength(figures.inserted);
    await addPart(writer, numbered(100, 300));
    await writer.finish("completed");
    const done = await harness.load({ table: name, exportId });
    expect(await cancelLoad(harness.context, done.load_id)).toMatchObject({ status: "completed" });
  });

  it("can be cancelled while its process is gone", async () => {
    const name = await table("id integer PRIMARY KEY, v integer");
    const writer = await harness.openExport(1);
    const started = await startLoad(
      harness.context,
      { ...requestDefaults, table: name, schema: harness.schema, exportId: writer.manifest.export_id },
      harness.context.signal,
    );
    await sleep(300);
    // The same database seen by a process that does not run the load.
    const counts = await countedWhile("etl.jobs.ended", async () => {
      const answer = await cancelLoad({ ...harness.context, jobs: new Jobs() }, started.loadId);
      expect(answer.status).toBe("cancelled");
      await started.ended;
    });
    // By who has ended it, and by who had it.
    expect(counts).toEqual({ "load cancelled": 1, "load released": 1 });
    expect(await showLoad(harness.context, started.loadId, { waitSeconds: 0 })).toMatchObject({ status: "cancelled" });
    await writer.finish("cancelled");
  });
});

describe("a server that stops", () => {
  it("gives its loads up at once, and the same call goes on with them", async () => {
    const name = await table("id integer PRIMARY KEY, v integer");
    const writer = await harness.openExport(20);
    await addPart(writer, numbered(0, 10));
    const exportId = writer.manifest.export_id;
    const request = { ...requestDefaults, table: name, schema: harness.schema, exportId, fresh: false };
    const jobs = new Jobs();
    const started = await startLoad({ ...harness.context, jobs }, request, harness.context.signal);
    await sleep(700);
    await jobs.shutdown();
    expect(await showLoad(harness.context, started.loadId, { waitSeconds: 0 })).toMatchObject({
      status: "working",
      stalled: true,
      figures: { staged: 10 },
    });
    await addPart(writer, numbered(10, 20));
    await writer.finish("completed");
    const answer = await harness.load(request);
    expect(answer.load_id).toBe(started.loadId);
    expect(told(answer)).toEqual({ expected: 20, staged: 20, inserted: 20 });
  });
});

/** Another process with the same database. */
const other = () => ({ ...harness.context, jobs: new Jobs() });

/** Keeps everybody from the table for as long as the work takes. */
const whileLocked = (name: string, work: () => Promise<void>) =>
  harness.postgres.write(
    async (tx) => {
      await tx.query(`LOCK TABLE ${harness.schema}.${name}`);
      await work();
    },
    { signal: harness.context.signal },
  );

describe("verify_load", () => {
  const sources = [
    { id: 1, price: "1.10", tags: ["a"], at: "2024-01-01" },
    { id: 2, price: 2, tags: null, at: "2024-01-02T03:04:05.678Z" },
    { id: 3, price: 3, tags: "one" },
    { id: 4, price: "dear" },
    { id: 2, price: 99 },
  ];

  it("finds every row, and then what was changed, removed and added", async () => {
    const name = await table("id integer PRIMARY KEY, price numeric(8,2), tags text[], at timestamptz");
    const exportId = await harness.stage([
      sources.map((source, n) => ({ id: `d${n}`, seqNo: source.price === 99 ? 0 : 5, source })),
    ]);
    const load = await harness.load({ table: name, exportId });
    expect(told(load)).toEqual({ expected: 5, staged: 5, inserted: 3, deduplicated: 1, rejected: 1 });
    const equal = await verifyLoad(harness.context, load.load_id, { extra: true });
    expect(equal).toMatchObject({
      verdict: "equal",
      staged: 5,
      matched: 3,
      missing: 0,
      different: 0,
      deduplicated: 1,
      rejected: 1,
      extra: 0,
    });

    await harness.sql(`UPDATE ${harness.schema}.${name} SET price = 1.11 WHERE id = 1`);
    await harness.sql(`DELETE FROM ${harness.schema}.${name} WHERE id = 3`);
    await harness.sql(`INSERT INTO ${harness.schema}.${name} VALUES (77, 1)`);
    const changed = await verifyLoad(harness.context, load.load_id, { extra: true });
    expect(changed).toMatchObject({
      verdict: "different",
      matched: 1,
      missing: 1,
      different: 1,
      extra: 1,
      columns: [{ column: "price", rows: 1 }],
      sample_keys: { different: ["1"], missing: ["3"], extra: ["77"] },
    });
    const left = await harness.sql(
      "SELECT relname FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace WHERE nspname = $1 AND relname ~ '_load_'",
      [`${harness.schema}_state`],
    );
    expect(left).toEqual([]);
  });

  it("is a job: who comes back for it is told its outcome, in another process too", async () => {
    const name = await table("id integer PRIMARY KEY, v integer");
    const exportId = await harness.stage([numbered(1, 4), numbered(4, 6)]);
    const { load_id: loadId } = await harness.load({ table: name, exportId });
    const options = { extra: false, waitSeconds: 0 };
    await whileLocked(name, async () => {
      expect(await verifyLoad(harness.context, loadId, options)).toMatchObject({ verdict: "working", total: 5 });
      expect(await verifyLoad(other(), loadId, options)).toMatchObject({ verdict: "working" });
    });
    expect(await verifyLoad(other(), loadId, { extra: false })).toMatchObject({ verdict: "equal", matched: 5 });

    await harness.sql(`DELETE FROM ${harness.schema}.${name} WHERE id = 2`);
    expect(await verifyLoad(harness.context, loadId, { extra: false })).toMatchObject({ matched: 4, missing: 1 });
  });

  it("is begun anew where the process that compared is gone", async () => {
    const name = await table("id integer PRIMARY KEY, v integer");
    const exportId = await harness.stage([numbered(1, 3)]);
    const { load_id: loadId } = await harness.load({ table: name, exportId });
    const leave = (lease: string) =>
      harness.sql(
        `INSERT INTO ${harness.schema}_state.verifications (load_id, extra, verify_id, lease_until)
         VALUES ($1, false, 'load_gone', now() + $2::interval)`,
        [loadId, lease],
      );
    await leave("-1 second");
    expect(await verifyLoad(harness.context, loadId, { extra: false })).toMatchObject({ verdict: "equal", matched: 2 });
    await harness.sql(`DELETE FROM ${harness.schema}_state.verifications`);
    await leave("20 seconds");
    expect(await verifyLoad(harness.context, loadId, { extra: false, waitSeconds: 0 })).toMatchObject({
      verdict: "working",
    });
  });

  it("ends with cancel_load, and tells a failure as such", async () => {
    const name = await table("id integer PRIMARY KEY, v integer");
    const exportId = await harness.stage([numbered(1, 3)]);
    const { load_id: loadId } = await harness.load({ table: name, exportId });
    await whileLocked(name, async () => {
      await verifyLoad(harness.context, loadId, { extra: false, waitSeconds: 0 });
      const { promise: follows, resolve: progress } = Promise.withResolvers<void>();
      const waiting = verifyLoad({ ...other(), progress: () => progress() }, loadId, { extra: false });
      const counts = await countedWhile("etl.jobs.ended", async () => {
        const [ended] = await Promise.allSettled([waiting, follows.then(() => cancelLoad(harness.context, loadId))]);
        expect(ended).toMatchObject({ reason: { code: "verification_stopped", retryable: true } });
      });
      expect(counts).toEqual({ "verification cancelled": 1 });
    });
    await harness.store.remove(exportId);
    await expect(verifyLoad(harness.context, loadId, { extra: false })).rejects.toMatchObject({
      code: "unknown_export",
    });
  });

  it("counts rows of a table without key as often as they are staged", async () => {
    const name = await table("v integer");
    const exportId = await harness.stage([[1, 1, 2].map((v, n) => ({ id: `d${n}`, source: { v } }))]);
    const load = await harness.load({ table: name, exportId, mode: "append" });
    expect(await verifyLoad(harness.context, load.load_id, { extra: true })).toMatchObject({
      verdict: "equal",
      matched: 3,
      extra: 0,
    });
    await harness.sql(
      `DELETE FROM ${harness.schema}.${name} WHERE ctid = (SELECT min(ctid) FROM ${harness.schema}.${name} WHERE v = 1)`,
    );
    expect(await verifyLoad(harness.context, load.load_id, { extra: false })).toMatchObject({ matched: 2, missing: 1 });
  });

  it("says that rows of a call, dry runs and unfinished loads cannot be compared", async () => {
    const name = await table("id integer PRIMARY KEY");
    const load = await harness.load({ table: name, rows: [{ id: 1 }] });
    expect(await verifyLoad(harness.context, load.load_id, { extra: false })).toMatchObject({
      verdict: "not_comparable",
    });
    const exportId = await harness.stage([numbered(5, 6)]);
    const dry = await harness.load({ table: name, exportId, dryRun: true, mapping: { columns: [{ column: "id" }] } });
    await expect(verifyLoad(harness.context, dry.load_id, { extra: false })).rejects.toMatchObject({
      code: "load_not_completed",
    });
  });
});

describe("a replay of rejects", () => {
  it("brings in what the better mapping can read, and leaves what is in as it is", async () => {
    const name = await table("id text PRIMARY KEY, price numeric(8,2) CHECK (price < 1000), note text");
    const documents: StagedDocument[] = [
      { id: "a", seqNo: 1, source: { id: "a", price: 1, note: "fine" } },
      { id: "b", seqNo: 2, source: { id: "b", price: "2 EUR", note: "unit" } },
      // Rejected, and older than the one of its key that is in.
      { id: "c", seqNo: 3, source: { id: "c", price: "3 EUR", note: "old" } },
      { id: "c2", seqNo: 4, source: { id: "c", price: 4, note: "new" } },
      // Rejected, and newer than the one of its key that is in.
      { id: "d", seqNo: 5, source: { id: "d", price: 5, note: "old" } },
      { id: "d2", seqNo: 6, source: { id: "d", price: "6 EUR", note: "new" } },
      { id: "e", seqNo: 7, source: { id: "e", price: 7000, note: "dear" } },
      { id: "f", seqNo: 8, source: { id: "f", price: "none", note: "hopeless" } },
    ];
    const exportId = await harness.stage([documents.slice(0, 4), documents.slice(4)]);
    const first = await harness.load({ table: name, exportId });
    expect(told(first)).toEqual({ expected: 8, staged: 8, inserted: 3, rejected: 5 });
    await harness.sql(`UPDATE ${harness.schema}.${name} SET note = 'touched' WHERE id = 'a'`);

    const mapping = {
      columns: [
        { column: "id" },
        { column: "raw", from: "price", load: false, staged_as: "text" },
        { column: "price", expression: "replace(raw, ' EUR', '')::numeric" },
        { column: "note" },
      ],
    };
    const replay = await harness.load({ table: "", rejectsOf: first.load_id, mapping });
    expect(replay.status).toBe("completed");
    expect(told(replay)).toEqual({ expected: 5, staged: 5, inserted: 1, updated: 1, deduplicated: 1, rejected: 2 });
    expect(await rowsOf(name)).toEqual([
      ["a", "1.00", "touched"],
      ["b", "2.00", "unit"],
      ["c", "4.00", "new"],
      ["d", "6.00", "new"],
    ]);
    const page = await listRejects(
      harness.context,
      { loadId: replay.load_id, reason: null, after: null },
      harness.context.signal,
    );
    expect(page.rejects.map(({ document_id, reason }) => [document_id, reason])).toEqual([
      ["e", "check_violation"],
      ["f", "invalid_text"],
    ]);
    await expect(
      listRejects(
        harness.context,
        { loadId: replay.load_id, reason: "invalid_txt", after: null },
        harness.context.signal,
      ),
    ).rejects.toMatchObject({ code: "unknown_reason", details: { nearest: ["invalid_text"] } });
    expect(await verifyLoad(harness.context, replay.load_id, { extra: false })).toMatchObject({
      verdict: "equal",
      matched: 2,
    });
    const again = await harness.load({ table: "", rejectsOf: first.load_id, mapping });
    expect(told(again)).toEqual({ expected: 5, staged: 5, unchanged: 2, deduplicated: 1, rejected: 2 });
  });

  it("is refused for rows of a call and beside another source", async () => {
    const name = await table("id integer PRIMARY KEY");
    const load = await harness.load({ table: name, rows: [{ id: "x" }] });
    await expect(harness.load({ table: "", rejectsOf: load.load_id })).rejects.toMatchObject({
      code: "not_replayable",
    });
    await expect(harness.load({ table: name, rejectsOf: load.load_id, rows: [{ id: 1 }] })).rejects.toMatchObject({
      code: "not_replayable",
    });
  });
});

describe("a load whose session is ended by an administrator", () => {
  it.each([
    ["direct", {}],
    ["gather", gathers],
  ] as const)("goes on with the part it was at (%s)", async (strategy, request) => {
    const name = await table("id integer PRIMARY KEY, v integer");
    const exportId = await harness.stage([numbered(0, 100_000), numbered(100_000, 200_000)]);
    const started = await startLoad(
      harness.context,
      { ...requestDefaults, ...request, table: name, schema: harness.schema, exportId },
      harness.context.signal,
    );
    let ended = 0;
    while (ended < 2) {
      const killed = await harness.sql(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE ANY ($1) AND state <> 'idle' AND pid <> pg_backend_pid()",
        [[`%${started.loadId}%`, `COPY "${harness.schema}"."${name}"%`]],
      );
      ended += killed.length;
      const { status } = await showLoad(harness.context, started.loadId, { waitSeconds: 0 });
      if (status !== "working") break;
      await sleep(30);
    }
    await started.ended;
    const answer = await showLoad(harness.context, started.loadId, { waitSeconds: 5 });
    expect(ended).toBeGreaterThan(0);
    expect(answer.strategy).toBe(strategy);
    expect(told(answer)).toEqual({ expected: 200_000, staged: 200_000, inserted: 200_000 });
    expect(await rowsOf(name, "count(*)::int")).toEqual([[200_000]]);
  });
});

describe("rows of a call", () => {
  it("go the way of every load, with ordinals for ids", async () => {
    const name = await table("id bigint PRIMARY KEY, name varchar(5), data jsonb, n integer NOT NULL DEFAULT 3");
    const answer = await harness.load({
      table: name,
      rows: [
        { id: "9007199254740993", name: "ok", data: { a: [1, "é"] } },
        { id: 2, name: "too long" },
        { id: 3, name: null, n: 4 },
        { id: 3, name: "later", n: 5 },
      ],
    });
    expect(told(answer)).toEqual({ expected: 4, staged: 4, inserted: 2, deduplicated: 1, rejected: 1 });
    expect(await rowsOf(name)).toEqual([
      ["3", "later", null, 5],
      ["9007199254740993", "ok", '{"a": [1, "é"]}', 3],
    ]);
    const page = await listRejects(
      harness.context,
      { loadId: answer.load_id, reason: null, after: null },
      harness.context.signal,
    );
    expect(page).toMatchObject({ total: 1, rejects: [{ document_id: "2", line: 2, column: "name" }] });
  });

  it("name their columns, and a misspelt one is an error before a row moves", async () => {
    const name = await table("id integer PRIMARY KEY, colour text");
    await expect(harness.load({ table: name, rows: [{ id: 1, color: "red" }] })).rejects.toMatchObject({
      code: "unknown_column",
    });
  });
});

describe("insert_data", () => {
  it("answers the row as the table has it, defaults and sequences included", async () => {
    const name = await table(
      "id serial PRIMARY KEY, price numeric(8,2), big bigint DEFAULT 9007199254740993, note text",
    );
    const params = { table: name, schema: harness.schema, on_conflict: "error" as const };
    const first = await insertRow(harness.context, { ...params, row: { price: 1.1 } });
    expect(first).toMatchObject({
      outcome: "inserted",
      row: { id: 1, price: "1.10", big: "9007199254740993", note: null },
    });
    expect(await insertRow(harness.context, { ...params, row: { price: 1.1 } })).toMatchObject({ row: { id: 2 } });
  });

  it("takes a conflict as it is told to", async () => {
    const name = await table("id integer PRIMARY KEY, v integer");
    const params = { table: name, schema: harness.schema };
    await insertRow(harness.context, { ...params, row: { id: 1, v: 1 }, on_conflict: "error" });
    await expect(
      insertRow(harness.context, { ...params, row: { id: 1, v: 2 }, on_conflict: "error" }),
    ).rejects.toMatchObject({ code: "row_rejected", details: { reason: "unique_violation" } });
    expect(await insertRow(harness.context, { ...params, row: { id: 1, v: 2 }, on_conflict: "ignore" })).toMatchObject({
      outcome: "skipped",
      row: { v: 1 },
    });
    expect(await insertRow(harness.context, { ...params, row: { id: 1, v: 2 }, on_conflict: "update" })).toMatchObject({
      outcome: "updated",
      row: { v: 2 },
    });
  });

  it("says why a row stays out", async () => {
    const name = await table("id integer PRIMARY KEY, v integer CHECK (v > 0)");
    await expect(
      insertRow(harness.context, { table: name, schema: harness.schema, row: { id: 1, v: 0 }, on_conflict: "error" }),
    ).rejects.toMatchObject({ code: "row_rejected", details: { reason: "check_violation", sqlstate: "23514" } });
  });
});

describe("what refuses to start", () => {
  it("an unlogged table, a view, a missing table, a key without index, an unknown export", async () => {
    const exportId = await harness.stage([numbered(0, 1)]);
    const at = { schema: harness.schema, exportId };
    await harness.sql(`CREATE UNLOGGED TABLE ${harness.schema}.fleeting (id integer PRIMARY KEY, v integer)`);
    await harness.sql(`CREATE VIEW ${harness.schema}.seen AS SELECT 1 AS id, 2 AS v`);
    const name = await table("id integer, v integer");
    await expect(harness.load({ ...at, table: "fleeting" })).rejects.toMatchObject({ code: "table_not_durable" });
    await expect(harness.load({ ...at, table: "seen" })).rejects.toMatchObject({ code: "not_a_table" });
    await expect(harness.load({ ...at, table: "absent" })).rejects.toMatchObject({ code: "table_not_found" });
    await expect(harness.load({ ...at, table: name })).rejects.toMatchObject({ code: "no_unique_key" });
    await expect(harness.load({ ...at, table: name, key: ["id"] })).rejects.toMatchObject({ code: "no_unique_key" });
    await expect(harness.load({ table: name, exportId: "exp_00000000000000000000000000" })).rejects.toMatchObject({
      code: "unknown_export",
    });
    await expect(harness.load({ table: name })).rejects.toMatchObject({ code: "invalid_arguments" });
  });
});

describe("list_loads", () => {
  it("gives the newest load first, page by page", async () => {
    const name = await table("id integer PRIMARY KEY");
    const loads: string[] = [];
    for (const id of [1, 2]) loads.unshift((await harness.load({ table: name, rows: [{ id }] })).load_id);
    const first = await listLoads(harness.context, null, harness.context.signal);
    expect(first.loads.slice(0, 2).map(({ load_id }) => load_id)).toEqual(loads);
    const [newest] = first.loads;
    if (newest === undefined) throw new Error("no load");
    const next = await listLoads(harness.context, newest, harness.context.signal);
    expect(next.loads[0]?.load_id).toBe(loads[1]);
  });
});
