import { setTimeout as sleep } from "node:timers/promises";
import { Jobs, type ToolCall } from "@es-to-pg/mcp-kit";
import { afterAll, beforeAll, describe, expect, inject, it } from "vitest";
import type { LoadContext } from "../src/load/context.ts";
import { LoadLost, openLedger } from "../src/load/ledger.ts";
import { cancelLoad } from "../src/load/show.ts";
import { startLoad } from "../src/load/start.ts";
import {
  addPart,
  gathers,
  type Harness,
  openHarness,
  requestDefaults,
  type StagedDocument,
  told,
} from "./load-harness.ts";

/** Loads that work several parts at a time. */
let harness: Harness;

beforeAll(async () => {
  harness = await openHarness(inject("databaseUrl"));
});
afterAll(async () => {
  await harness.close();
});

const PARTS = 6;
const IN_PART = 400;

/** The id of a document is its key; `code` is what the test makes of its number. */
function parts(code: (n: number) => string = (n) => `c${n}`): StagedDocument[][] {
  return Array.from({ length: PARTS }, (_, part) => {
    const numbers = Array.from({ length: IN_PART }, (_none, line) => part * IN_PART + line);
    return numbers.map((n) => ({ id: `d${n}`, source: { id: `d${n}`, code: code(n) } }));
  });
}

const table = (columns = "id text PRIMARY KEY, code text"): Promise<string> => harness.table(columns);

/** A context that notes how many parts are under way at a time, and in which order they are committed. */
function watched(partsAtOnce: number) {
  const begun = new Set<string>();
  const seen = { atOnce: 0, commits: [] as number[] };
  const context: LoadContext & ToolCall = {
    ...harness.context,
    settings: { ...harness.context.settings, PG_MCP_PARTS_AT_ONCE: partsAtOnce },
    onLoadStep: (step) => {
      const [, part = "", isCommit] = /^2\.(\d+)( commit)?$/.exec(step) ?? [];
      if (part === "") return;
      begun.add(part);
      seen.atOnce = Math.max(seen.atOnce, begun.size);
      if (isCommit === undefined) return;
      begun.delete(part);
      seen.commits.push(Number(part));
    },
  };
  return { context, seen };
}

/** Ways of a load, each with what makes a load take it. */
const byId = { mapping: { columns: [{ column: "id", from: "_id" }, { column: "code" }], key: ["id"] } };
const WAYS = {
  "into an empty table": { request: {}, filled: false, strategy: "direct" },
  "through stages of their own": { request: byId, filled: true, strategy: "direct" },
  "into the common stage": { request: gathers, filled: true, strategy: "gather" },
};

describe.each(Object.entries(WAYS))("parts that go %s", (_, { request, filled, strategy }) => {
  async function load(partsAtOnce: number) {
    const name = await table();
    if (filled) {
      await harness.sql(
        `INSERT INTO ${harness.schema}.${name} SELECT 'd' || n, CASE WHEN n % 2 = 0 THEN 'c' || n ELSE 'old' END
         FROM generate_series(0, 999) AS n`,
      );
    }
    const exportId = await harness.stage(parts());
    const { context, seen } = watched(partsAtOnce);
    const answer = await harness.load({ ...request, table: name, exportId }, context);
    const rows = await harness.sql(`SELECT count(*)::int, count(*) FILTER (WHERE code = 'c' || substr(id, 2))::int
      FROM ${harness.schema}.${name}`);
    const all = PARTS * IN_PART;
    expect(rows).toEqual([[all, all]]);
    expect(answer).toMatchObject({ status: "completed", strategy });
    expect(told(answer)).toEqual(
      filled
        ? { expected: all, staged: all, inserted: all - 1000, updated: 500, unchanged: 500 }
        : { expected: all, staged: all, inserted: all },
    );
    return seen;
  }

  it.each([2, 4])("are worked %i at a time", async (partsAtOnce) => {
    expect((await load(partsAtOnce)).atOnce).toBe(partsAtOnce);
  });

  it("are worked one after the other where that is set", async () => {
    const { atOnce, commits } = await load(1);
    expect(atOnce).toBe(1);
    expect(commits).toEqual([0, 1, 2, 3, 4, 5]);
  });
});

describe("parts whose rows may exclude each other", () => {
  /** Every tenth code comes a second time in the second half of the documents. */
  const colliding = (n: number) => (n % 10 === 0 ? `c${n % ((PARTS * IN_PART) / 2)}` : `c${n}`);
  const all = PARTS * IN_PART;
  const columns = "id text PRIMARY KEY, code text UNIQUE";

  async function expectFirstWins(name: string): Promise<void> {
    const left = await harness.sql(
      `SELECT count(*)::int, max(substr(id, 2)::int) FILTER (WHERE substr(id, 2)::int % 10 = 0) FROM ${harness.schema}.${name}`,
    );
    expect(left).toEqual([[all - all / 20, all / 2 - 10]]);
  }

  it.each([
    ["part by part", byId, "direct"],
    ["at the end", gathers, "gather"],
    ["part by part until one is met, and then at the end", {}, "gather"],
  ])("are merged in their order %s, so that the first document wins", async (_, request, strategy) => {
    const name = await table(columns);
    const exportId = await harness.stage(parts(colliding));
    const { context, seen } = watched(4);
    const answer = await harness.load({ ...request, table: name, exportId }, context);
    expect(answer).toMatchObject({ status: "completed", strategy });
    expect(told(answer)).toEqual({ expected: all, staged: all, inserted: all - all / 20, rejected: all / 20 });
    await expectFirstWins(name);
    expect(seen.commits.slice(-PARTS)).toEqual([0, 1, 2, 3, 4, 5]);
  });

  it("are copied at a time all the same, where each has a stage of its own", async () => {
    const name = await table(columns);
    await harness.sql(`INSERT INTO ${harness.schema}.${name} VALUES ('stranger', 'strange')`);
    const exportId = await harness.stage(parts(colliding));
    const { context, seen } = watched(2);
    const answer = await harness.load({ ...byId, table: name, exportId }, context);
    expect(answer.figures).toMatchObject({ inserted: all - all / 20, rejected: all / 20 });
    expect(seen).toEqual({ atOnce: 2, commits: [0, 1, 2, 3, 4, 5] });
  });
});

describe("a key that comes twice in an empty table", () => {
  it("is found by whichever part meets it, and what both have written is taken back", async () => {
    const name = await table();
    const twice = parts().map((part) => [...part, { id: "again", seqNo: 999_999, source: { id: "d7", code: "last" } }]);
    const exportId = await harness.stage(twice);
    const { context } = watched(4);
    const answer = await harness.load({ table: name, exportId }, context);
    expect(answer).toMatchObject({ status: "completed", strategy: "gather" });
    const all = PARTS * IN_PART;
    expect(told(answer)).toEqual({ expected: all + PARTS, staged: all + PARTS, inserted: all, deduplicated: PARTS });
    expect(await harness.sql(`SELECT code FROM ${harness.schema}.${name} WHERE id = 'd7'`)).toEqual([["last"]]);
  });
});

describe("rejects of parts that are under way together", () => {
  const bad = parts().map((part) =>
    part.map((document, n) => (n % 100 === 3 ? { ...document, source: { id: null, code: "x" } } : document)),
  );

  it("are counted for the part that they are of", async () => {
    const name = await table();
    const exportId = await harness.stage(bad);
    const { context } = watched(4);
    const answer = await harness.load({ table: name, exportId }, context);
    expect(answer.figures).toMatchObject({ rejected: 24, inserted: PARTS * IN_PART - 24 });
    const counted = await harness.sql(
      `SELECT part, rejected::int FROM ${harness.schema}_state.parts WHERE load_id = $1 ORDER BY part`,
      [answer.load_id],
    );
    expect(counted).toEqual([0, 1, 2, 3, 4, 5].map((part) => [part, 4]));
  });

  it.each([
    ["on_error stop", { onError: "stop", rejectsMax: null, rejectRatioMax: null }, "document_rejected"],
    ["max_rejects", { onError: "reject", rejectsMax: 5, rejectRatioMax: null }, "too_many_rejects"],
  ] as const)("end a load by %s, which leaves the table as it was and no stage behind", async (_, limits, code) => {
    const name = await table();
    const exportId = await harness.stage(bad);
    const { context } = watched(2);
    const answer = await harness.load({ table: name, exportId, limits }, context);
    expect(answer).toMatchObject({ status: "failed", error: { code } });
    expect(await harness.sql(`SELECT count(*)::int FROM ${harness.schema}.${name}`)).toEqual([[0]]);
    expect(
      await harness.sql(
        `SELECT relname::text FROM pg_class WHERE relnamespace = $1::regnamespace AND relname ~ '^(stage|text|ready)_'`,
        [`${harness.schema}_state`],
      ),
    ).toEqual([]);
  });
});

/** Takes so many of the server's six connections until the returned function is called. */
async function hold(count: number): Promise<() => Promise<unknown>> {
  const release = Promise.withResolvers<void>();
  let held = 0;
  const holders = Array.from({ length: count }, () =>
    harness.postgres.write(
      async () => {
        held++;
        await release.promise;
      },
      { signal: harness.context.signal },
    ),
  );
  await expect.poll(() => held).toBe(count);
  return () => {
    release.resolve();
    return Promise.all(holders);
  };
}

describe("connections", () => {
  it("for a second part are not taken where other calls would be left without", async () => {
    const exportId = await harness.stage(parts());
    const release = await hold(3);
    const { context, seen } = watched(4);
    const answer = await harness.load({ ...byId, table: await table(), exportId, waitSeconds: 0 }, context);
    await release();
    expect(answer.status).toBe("completed");
    expect(answer.figures.inserted).toBe(PARTS * IN_PART);
    // One part asks for a connection and is told that none is to spare.
    expect(seen.commits).toEqual([0, 1, 2, 3, 4, 5]);
  });

  it("suffice for more loads than there are of them", async () => {
    const exportId = await harness.stage(parts());
    const names: string[] = [];
    for (let count = 0; count < 6; count++) names.push(await table());
    const { context } = watched(4);
    const answers = await Promise.all(names.map((name) => harness.load({ table: name, exportId }, context)));
    expect(answers.map(({ status, figures }) => [status, figures.inserted])).toEqual(
      names.map(() => ["completed", PARTS * IN_PART]),
    );
  });

  it("that end under two parts are replaced, and each part is in once", async () => {
    const name = await table();
    const exportId = await harness.stage(parts());
    const { context } = watched(2);
    let cuts = 0;
    const { onLoadStep } = context;
    context.onLoadStep = (step) => {
      onLoadStep?.(step);
      if (!/^2\.[24]$/.test(step) || cuts++ > 3) return;
      void harness.sql(
        `SELECT pg_terminate_backend(a.pid) FROM pg_locks AS k JOIN pg_stat_activity AS a USING (pid)
         WHERE k.locktype = 'advisory' AND a.state <> 'idle' AND a.pid <> pg_backend_pid()
           AND a.xact_start IS NOT NULL AND a.query ~ 'COPY|INSERT|stage_'`,
      );
    };
    const answer = await harness.load({ table: name, exportId }, context);
    expect(answer).toMatchObject({ status: "completed", figures: { inserted: PARTS * IN_PART } });
  });
});

describe("a load that follows an export", () => {
  it("takes two parts at a time as soon as they are listed", async () => {
    const name = await table();
    const writer = await harness.openExport(PARTS * IN_PART);
    const { context, seen } = watched(2);
    const loading = harness.load({ table: name, exportId: writer.manifest.export_id }, context);
    for (const part of parts()) {
      await addPart(writer, part);
      await sleep(20);
    }
    await writer.finish("completed");
    expect(await loading).toMatchObject({ status: "completed", figures: { inserted: PARTS * IN_PART } });
    expect(seen.commits.toSorted((a, b) => a - b)).toEqual([0, 1, 2, 3, 4, 5]);
  });
});

/** Less than the time that a statement waits for a lock. */
const PATIENT = { timeout: 8_000 };
const elsewhere = () => ({ ...harness.context, jobs: new Jobs() });
const start = (name: string, exportId: string) =>
  startLoad(
    harness.context,
    { ...requestDefaults, schema: harness.schema, table: name, exportId },
    harness.context.signal,
  );
/** How many wait for the advisory lock of that key. */
const waiting = async (key: string) => {
  const rows = await harness.sql(`SELECT count(*)::int FROM pg_locks WHERE locktype = 'advisory' AND NOT granted
    AND (classid::bigint << 32 | objid::bigint) = ${key}`);
  return rows[0]?.[0];
};
const lockOf = (loadId: string) => `hashtextextended('data_transformer.load.${loadId}', 0)`;

describe("a cancel from another process", () => {
  it("comes before transactions of the load that begin after it, however many follow each other", async () => {
    const writer = await harness.openExport(1);
    const { loadId, ended } = await start(await table(), writer.manifest.export_id);
    const ledger = openLedger(`${harness.schema}_state`);
    const go = Promise.withResolvers<void>();
    const fenced = Promise.withResolvers<void>();
    const holder = { loadId, epoch: 1 };
    const { signal } = harness.context;
    const inFlight = harness.postgres.write(
      async (tx) => {
        await ledger.fence(tx, holder);
        fenced.resolve();
        await go.promise;
      },
      { signal },
    );
    await fenced.promise;
    const cancelling = cancelLoad(elsewhere(), loadId);
    await expect.poll(() => waiting(lockOf(loadId)), PATIENT).toBeGreaterThan(0);
    const later = harness.postgres.write((tx) => ledger.fence(tx, holder), { signal });
    const refused = later.catch((error: unknown) => error);
    await expect.poll(() => waiting(lockOf(loadId)), PATIENT).toBeGreaterThan(1);
    go.resolve();
    await inFlight;
    expect(await cancelling).toMatchObject({ status: "cancelled" });
    expect(await refused).toBeInstanceOf(LoadLost);
    await writer.finish("cancelled");
    await ended;
  });

  it("counts the part that it has waited for", async () => {
    const name = await table();
    const gate = 77_001;
    await harness.sql(`CREATE FUNCTION ${harness.schema}.passes(code text) RETURNS boolean LANGUAGE plpgsql AS
      'BEGIN PERFORM pg_advisory_xact_lock_shared(${gate}); RETURN true; END'`);
    await harness.sql(`ALTER TABLE ${harness.schema}.${name} ADD CHECK (${harness.schema}.passes(code))`);
    const writer = await harness.openExport(2 * IN_PART);
    await addPart(writer, parts()[0] ?? []);
    const opened = Promise.withResolvers<void>();
    const shut = Promise.withResolvers<void>();
    const keeper = harness.postgres.write(
      async (tx) => {
        await tx.query(`SELECT pg_advisory_xact_lock(${gate})`);
        shut.resolve();
        await opened.promise;
      },
      { signal: harness.context.signal },
    );
    await shut.promise;
    const { loadId, ended } = await start(name, writer.manifest.export_id);
    await expect.poll(() => waiting(`${gate}`), PATIENT).toBe(1);
    const cancelling = cancelLoad(elsewhere(), loadId);
    await expect.poll(() => waiting(lockOf(loadId)), PATIENT).toBeGreaterThan(0);
    opened.resolve();
    await keeper;
    const answer = await cancelling;
    expect(answer).toMatchObject({ status: "cancelled", figures: { staged: IN_PART, inserted: IN_PART } });
    expect(await harness.sql(`SELECT count(*)::int FROM ${harness.schema}.${name}`)).toEqual([[IN_PART]]);
    await writer.finish("cancelled");
    await ended;
  });
});
