/* oxlint-disable vitest/expect-expect -- expectWhole asserts all that these tests are about */
import { type ChildProcess, execFile, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdir, mkdtemp, readdir, rm, statfs, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath, pathToFileURL } from "node:url";
import { promisify } from "node:util";
import { type OwnPostgres, startPostgresVariant } from "@es-to-pg/engines";
import { ToolError } from "@es-to-pg/mcp-kit";
import { openStore } from "@es-to-pg/staging";
import { Client } from "pg";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { translate } from "../src/errors.ts";
import type { LoadAnswer } from "../src/load/answer.ts";
import { errorCode } from "../src/load/database-error.ts";
import { type LoadRequest } from "../src/load/start.ts";
import {
  type ChaosMode,
  makeWorld,
  openWire,
  oracle,
  type Row,
  random,
  sorted,
  type World,
  withUniqueKeys,
} from "./load-chaos.ts";
import { addPart, type Harness, openContext, openHarness, type StagedDocument } from "./load-harness.ts";

/**
 * Loads that are killed, cut off and starved. Whatever happened, the same call made again ends with the table that the
 * documents alone say, with figures that add up, and with nothing left behind.
 */
let engine: OwnPostgres;
let harness: Harness;
/** Outside of the code under test, and of what happens to its connections. */
let admin: Client;
let world: World;
let exportId: string;
let serial = 0;
const seed = Number(process.env["CHAOS_SEED"] ?? Date.now() % 1_000_000);
const below = random(seed);

beforeAll(async () => {
  process.stdout.write(`chaos: CHAOS_SEED=${seed}\n`);
  engine = await startPostgresVariant({});
  harness = await openHarness(engine.url);
  await openAdmin();
  world = makeWorld(seed, 8, 1_500);
  exportId = await harness.stage(world.parts);
});

afterAll(async () => {
  await admin.end();
  await harness.close();
  await engine.stop();
});

async function openAdmin(): Promise<void> {
  admin = new Client({ connectionString: engine.url });
  admin.on("error", () => {});
  await admin.connect();
  // A holder that sleeps in its last statement holds its load's row; its lease can only run out by the clock then.
  await admin.query("SET lock_timeout = '500ms'");
}

type Request = Partial<LoadRequest> & { table: string };

/** A target with its rows from before; an append has no key. */
async function makeTarget(mode: ChaosMode, before: readonly Row[] = world.before): Promise<Request> {
  const table = `t${++serial}`;
  const name = `${harness.schema}.${table}`;
  await admin.query(
    `CREATE TABLE ${name} (id text ${mode === "append" ? "NOT NULL" : "PRIMARY KEY"}, v integer CHECK (v <> 13), name varchar(12))`,
  );
  await admin.query(
    `INSERT INTO ${name} SELECT * FROM json_to_recordset($1) AS r (id text, v integer, name varchar(12))`,
    [JSON.stringify(before.map(([id, v, text]) => ({ id, v, name: text })))],
  );
  const request: Request = { table, schema: harness.schema, exportId, mode, deleteRatioMax: 1, fresh: false };
  if (mode !== "replace") return request;
  const { confirm } = await harness.load({ ...request, dryRun: true });
  return { ...request, confirm };
}

async function rowsOf({ table }: Request): Promise<string[]> {
  const { rows } = await admin.query({ text: `SELECT id, v, name FROM ${harness.schema}.${table}`, rowMode: "array" });
  return sorted(rows);
}

/** Makes the same call until it has been answered by an end, as whoever asked would. */
async function loadUntilEnd(request: Request): Promise<LoadAnswer> {
  for (const until = Date.now() + 120_000; Date.now() < until; ) {
    await expireLeases();
    const answer = await harness.load({ ...request, waitSeconds: 1 }).catch((error: unknown) => {
      // What a caller is told to try again.
      if ((error instanceof ToolError ? error : translate(error))?.retryable === true) return undefined;
      throw error;
    });
    if (answer === undefined || answer.status === "working") await sleep(250);
    else if (answer.status === "completed") return answer;
    else if (answer.error?.retryable !== true) throw new Error(`a load that is lost: ${JSON.stringify(answer.error)}`);
  }
  throw new Error(`the load of ${request.table} did not end`);
}

/** As if the lease of whoever is gone had run out long ago. */
async function expireLeases(): Promise<void> {
  await admin
    .query(
      `UPDATE ${harness.schema}_state.loads SET lease_until = now() - interval '1 hour'
       WHERE status = 'working' AND lease_until > now()`,
    )
    // Before the first load there is no state, and a row may be held.
    .catch(() => {});
}

async function expectWhole(request: Request, answer: LoadAnswer, mode: ChaosMode, of: World = world): Promise<void> {
  const { figures, rows } = oracle(of, mode);
  expect(answer.figures).toEqual(figures);
  expect(await rowsOf(request)).toEqual(rows);
  await expectNothingLeft(answer, figures.rejected);
}

async function expectNothingLeft(
  { load_id: loadId, export_id: loaded = "", reused }: LoadAnswer,
  rejected: number,
): Promise<void> {
  const state = `${harness.schema}_state`;
  const counts = async () => {
    const { rows } = await admin.query(
      `SELECT
         (SELECT count(*)::int FROM ${state}.rejects WHERE load_id = $1) AS rejects,
         (SELECT count(*)::int FROM ${state}.loads WHERE status = 'working') AS working,
         (SELECT array_agg(relname::text) FROM pg_class WHERE relnamespace = '${state}'::regnamespace
          AND relname ~ '^(stage|text|cooked|ready)_') AS stages,
         (SELECT count(*)::int FROM pg_locks WHERE locktype = 'advisory') AS advisory,
         (SELECT count(*)::int FROM pg_stat_activity WHERE state ~ 'in transaction') AS transactions`,
      [loadId],
    );
    return rows[0];
  };
  // A backend whose client was killed needs some seconds to notice.
  await expect
    .poll(counts, { timeout: 10_000, interval: 200 })
    .toEqual({ rejects: rejected, working: 0, stages: null, advisory: 0, transactions: 0 });
  const readers = join(fileURLToPath(harness.stagingUrl), loaded, "readers");
  // Whoever was killed after the last commit leaves a reader's lease, which runs out by itself.
  const names = reused === true ? [] : await readdir(readers).catch(() => []);
  expect(names).not.toContain(`${loadId}.json`);
}

function startChild(options: {
  request: Request;
  step?: string;
  beside?: { when: "begin" | "commit"; nth: number };
  partsAtOnce?: number;
  signal?: "SIGKILL" | "SIGSTOP" | "tell";
  databaseUrl?: string;
}): ChildProcess {
  const given = {
    databaseUrl: engine.url,
    stagingUrl: harness.stagingUrl,
    stateSchema: `${harness.schema}_state`,
    step: "never",
    delayMs: 0,
    signal: "SIGKILL",
    ...options,
  };
  return spawn(process.execPath, [new URL("load-child.ts", import.meta.url).pathname, JSON.stringify(given)], {
    stdio: ["ignore", "pipe", "inherit"],
  });
}

async function exitOf(child: ChildProcess): Promise<NodeJS.Signals | null> {
  child.stdout?.resume();
  if (child.exitCode === null && child.signalCode === null) await once(child, "exit");
  return child.signalCode;
}

/** Waits until the child says that it is at the step it was told; false if it ends without. */
async function heard(child: ChildProcess, text: string): Promise<boolean> {
  return new Promise((resolve) => {
    let said = "";
    child.stdout?.on("data", (chunk) => {
      said += String(chunk);
      if (said.includes(text)) resolve(true);
    });
    child.once("exit", () => resolve(false));
  });
}

/** From step 1 to the end, in a process that nobody disturbs. */
async function undisturbedMs(): Promise<number> {
  const child = startChild({ request: await makeTarget("upsert"), step: "1", signal: "tell" });
  await heard(child, "at 1");
  const started = Date.now();
  await exitOf(child);
  return Date.now() - started;
}

async function isStopped({ pid }: ChildProcess): Promise<boolean> {
  const { stdout } = await promisify(execFile)("ps", ["-o", "stat=", "-p", String(pid)]);
  return stdout.startsWith("T");
}

/** Sessions that begin now, with the role's settings of now. */
function reopened() {
  return openContext({ databaseUrl: engine.url, store: harness.store, stateSchema: `${harness.schema}_state` });
}

const STEPS =
  "1, 1 commit, 2.0, 2.0 commit, 2.3, 2.5 commit, 2.7 commit, 3, 4, 4.1, 4.2, 4.3, 4.4, 4.5, 4 commit, 5".split(", ");

describe.each(["upsert", "append", "replace"] as const)("kill -9 of a load by %s", (mode) => {
  it.each(STEPS)("at step %s, and the same call again", async (step) => {
    const request = await makeTarget(mode);
    expect(await exitOf(startChild({ request, step }))).toBe("SIGKILL");
    await expectWhole(request, await loadUntilEnd(request), mode);
  });
});

const codes = (n: number, kind: string): string[] => Array.from({ length: n % 4 }, (_, item) => `${kind}${n}.${item}`);
/** A code that the child's column is too short for keeps its whole document out. */
const hasBadChild = (n: number): boolean => n % 97 === 3;

describe("kill -9 of a load whose documents have rows of a child table", () => {
  const steps = "1 commit, 2.0, 2.0 commit, 2.2, 2.3 commit, 3, 4, 4.1, 4.2, 4.3, 4.4, 4.5, 4 commit, 5".split(", ");
  const fields = [
    { path: "name", type: "keyword" },
    { path: "items", type: "nested" },
    { path: "items.code", type: "keyword", nested: true },
  ];
  const count = 2_000;
  const documents = Array.from({ length: count }, (_, n): StagedDocument => {
    const items = [...codes(n, "new"), ...(hasBadChild(n) ? ["longer than it may be"] : [])].map((code) => ({ code }));
    return { id: `k${n}`, source: { name: `n${n}`, items } };
  });
  /** Every second document has its parent in the table, half of these with the same name; and a stranger is there. */
  const before = Array.from({ length: count / 2 }, (_, n) => 2 * n).map((n) => ({
    id: `k${n}`,
    name: n % 4 === 0 ? `n${n}` : "old",
    codes: ["old", ...codes(n, "new")],
  }));
  before.push({ id: "stranger", name: "stays", codes: ["a", "b"] });

  async function makeTables(): Promise<Request> {
    const table = `t${++serial}`;
    const name = `${harness.schema}.${table}`;
    await admin.query(`CREATE TABLE ${name} (id text PRIMARY KEY, name text)`);
    await admin.query(
      `CREATE TABLE ${name}_items (parent_id text REFERENCES ${name}, position integer, code varchar(12), PRIMARY KEY (parent_id, position))`,
    );
    const rows = JSON.stringify(before);
    await admin.query(`INSERT INTO ${name} SELECT id, name FROM json_to_recordset($1) AS r (id text, name text)`, [
      rows,
    ]);
    await admin.query(
      `INSERT INTO ${name}_items SELECT id, n, code FROM json_to_recordset($1) AS r (id text, codes json),
         json_array_elements_text(codes) WITH ORDINALITY AS c (code, n)`,
      [rows],
    );
    const child = {
      from: "items",
      table: `${table}_items`,
      parent_key: ["parent_id"],
      ordinal: "position",
      columns: [{ column: "code" }],
    };
    const mapping = { columns: [{ column: "id", from: "_id" }, { column: "name" }], key: ["id"], children: [child] };
    return { table, schema: harness.schema, exportId: childExport, mapping, mode: "upsert", fresh: false };
  }

  let childExport: string;
  beforeAll(async () => {
    const parts = [0, 1, 2, 3].map((part) => documents.slice((part * count) / 4, ((part + 1) * count) / 4));
    childExport = await harness.stage(parts, fields);
  });

  async function expectFamilies(request: Request, answer: LoadAnswer): Promise<void> {
    const rejected = documents.filter((_, n) => hasBadChild(n)).length;
    const has = new Map(before.map(({ id, ...row }) => [id, row]));
    for (const [n, { id }] of documents.entries()) {
      if (!hasBadChild(n)) has.set(id, { name: `n${n}`, codes: codes(n, "new") });
    }
    const unchanged = documents.filter((_, n) => n % 4 === 0 && !hasBadChild(n)).length;
    const updated = documents.filter((_, n) => n % 4 === 2 && !hasBadChild(n)).length;
    expect(answer.figures).toMatchObject({ expected: count, unchanged, updated, rejected });
    expect(answer.figures.inserted).toBe(count - unchanged - updated - rejected);
    const name = `${harness.schema}.${request.table}`;
    const { rows } = await admin.query({
      text: `SELECT p.id, p.name, (SELECT json_agg(code ORDER BY position) FROM ${name}_items WHERE parent_id = p.id)
        FROM ${name} AS p`,
      rowMode: "array",
    });
    const expected = [...has].map(([id, row]) => [id, row.name, row.codes.length === 0 ? null : row.codes]);
    expect(sorted(rows)).toEqual(sorted(expected));
    await expectNothingLeft(answer, rejected);
  }

  it.each(steps)("at step %s, and the same call again", async (step) => {
    const request = await makeTables();
    expect(await exitOf(startChild({ request, step }))).toBe("SIGKILL");
    await expectFamilies(request, await loadUntilEnd(request));
  });

  it("at moments that nobody chose", async () => {
    for (let round = 0; round < 6; round++) {
      const request = await makeTables();
      const child = startChild({ request, step: "1", signal: "tell" });
      await heard(child, "at 1");
      await sleep(below(600));
      child.kill("SIGKILL");
      await exitOf(child);
      await expectFamilies(request, await loadUntilEnd(request));
    }
  });
});

describe("kill -9 of a load whose parts go straight into an empty table", () => {
  const direct = "1, 1 commit, 2.0, 2.0 commit, 2.3, 2.5 commit, 2.7 commit, 3, 4, 4 commit, 5".split(", ");

  it.each(direct)("at step %s, where every row is new", async (step) => {
    const parts = world.parts.map((part, number) =>
      part.map(({ seqNo, id, source }) => ({
        id,
        seqNo: seqNo ?? 0,
        source: Object.assign({}, source, { id: `${number} ${id}` }),
      })),
    );
    const unique: World = {
      before: [],
      parts: parts.map((part) => part.filter(({ source }) => !("v" in source) || source.v !== 13)),
    };
    const request = { ...(await makeTarget("upsert", [])), exportId: await harness.stage(unique.parts) };
    expect(await exitOf(startChild({ request, step }))).toBe("SIGKILL");
    await expectWhole(request, await loadUntilEnd(request), "upsert", unique);
  });

  it.each(direct)("at step %s, where a key comes twice and what is in must be taken back", async (step) => {
    const empty: World = { ...world, before: [] };
    const request = await makeTarget("upsert", []);
    expect(await exitOf(startChild({ request, step }))).toBe("SIGKILL");
    await expectWhole(request, await loadUntilEnd(request), "upsert", empty);
  });
});

describe("kill -9 while parts are under way together", () => {
  const unique = { exportId: "", world: { before: [], parts: [] } as World };
  beforeAll(async () => {
    unique.world = withUniqueKeys(world);
    unique.exportId = await harness.stage(unique.world.parts);
  });
  const mapping = {
    columns: [{ column: "id", from: "_id" }, { column: "v" }, { column: "name" }],
    key: ["id"],
  };
  /** How parts reach the target, and the world that the load is of. */
  const ways: Record<string, () => Promise<{ request: Request; of: World; mode: ChaosMode }>> = {
    "through stages of their own": async () => {
      const request = { ...(await makeTarget("upsert", unique.world.before)), exportId: unique.exportId, mapping };
      return { request, of: unique.world, mode: "upsert" };
    },
    "through stages of their own, in their order": async () => {
      const request = { ...(await makeTarget("upsert", unique.world.before)), exportId: unique.exportId, mapping };
      await admin.query(`CREATE UNIQUE INDEX ON ${harness.schema}.${request.table} (id, v)`);
      return { request, of: unique.world, mode: "upsert" };
    },
    "into an empty table": async () => {
      const request = { ...(await makeTarget("upsert", [])), exportId: unique.exportId, mapping };
      return { request, of: { ...unique.world, before: [] }, mode: "upsert" };
    },
    "into an empty table, and must be taken back": async () => {
      return { request: await makeTarget("upsert", []), of: { ...world, before: [] }, mode: "upsert" };
    },
    "into the common stage": async () => ({ request: await makeTarget("upsert"), of: world, mode: "upsert" }),
    "into the common stage, for an append": async () => {
      return { request: await makeTarget("append"), of: world, mode: "append" };
    },
  };
  const moments = [
    ["begin", 1, 2],
    ["begin", 4, 2],
    ["commit", 1, 2],
    ["commit", 2, 2],
    ["commit", 4, 2],
    ["begin", 3, 4],
    ["commit", 3, 4],
  ] as const;

  describe.each(Object.entries(ways))("%s", (way, prepare) => {
    // The first commit of what must be taken back shows that it must: there is no second one beside another part.
    const some = way.endsWith("taken back") ? moments.filter(([when, nth]) => when === "begin" && nth === 1) : moments;
    it.each(some)("at a %s of a part beside others (%i), %i at a time", async (when, nth, partsAtOnce) => {
      const { request, of, mode } = await prepare();
      expect(await exitOf(startChild({ request, beside: { when, nth }, partsAtOnce }))).toBe("SIGKILL");
      await expectWhole(request, await loadUntilEnd(request), mode, of);
    });

    it("at moments that nobody chose", async () => {
      for (let round = 0; round < 4; round++) {
        const { request, of, mode } = await prepare();
        const child = startChild({ request, step: "1", signal: "tell", partsAtOnce: 4 });
        await heard(child, "at 1");
        await sleep(below(500));
        child.kill("SIGKILL");
        await exitOf(child);
        await expectWhole(request, await loadUntilEnd(request), mode, of);
      }
    });
  });

  it("and the holder that only sleeps writes nothing when it wakes", async () => {
    const { request, of } = await (ways["through stages of their own"] ?? expect.unreachable)();
    const zombie = startChild({ request, beside: { when: "commit", nth: 2 }, signal: "SIGSTOP" });
    const ended = exitOf(zombie);
    await expect.poll(() => isStopped(zombie), { timeout: 20_000 }).toBe(true);
    const answer = await loadUntilEnd(request);
    await expectWhole(request, answer, "upsert", of);
    zombie.kill("SIGCONT");
    expect(await ended).toBe(null);
    await expectWhole(request, answer, "upsert", of);
  });
});

describe("kill -9 at random moments", () => {
  it("ends as the documents say, 50 times", async () => {
    const wholeMs = await undisturbedMs();
    const modes: ChaosMode[] = ["upsert", "append", "replace"];
    for (let round = 0; round < 50; round++) {
      const mode = modes[round % 3] ?? "upsert";
      const request = await makeTarget(mode);
      const child = startChild({ request, step: "1", signal: "tell" });
      await heard(child, "at 1");
      await sleep(below(wholeMs));
      child.kill("SIGKILL");
      await exitOf(child);
      await expectWhole(request, await loadUntilEnd(request), mode);
    }
  });

  it("ends as the documents say when every holder but the last is killed", async () => {
    const wholeMs = await undisturbedMs();
    const request = await makeTarget("upsert");
    for (let round = 0; round < 8; round++) {
      const child = startChild({ request, step: "1", signal: "tell" });
      await heard(child, "at 1");
      await sleep(below(wholeMs / 3));
      child.kill("SIGKILL");
      await exitOf(child);
      await expireLeases();
    }
    await expectWhole(request, await loadUntilEnd(request), "upsert");
  });
});

describe("a PostgreSQL that is restarted", () => {
  it.each([
    ["fast", "2.3"],
    ["immediate", "2.3"],
    ["fast", "4.2"],
    ["immediate", "4.2"],
    ["fast", "4 commit"],
    ["immediate", "4 commit"],
  ] as const)("%s at step %s takes nothing away and adds nothing", async (how, step) => {
    const request = await makeTarget("upsert");
    let restarted: Promise<void> | undefined;
    let isThere = false;
    const context = {
      ...harness.context,
      onLoadStep: (at: string) => {
        if (at !== step) return;
        restarted ??= engine.restart(how);
        isThere = true;
      },
    };
    const loading = harness.load({ ...request, waitSeconds: 1 }, context).catch(() => undefined);
    await expect.poll(() => isThere, { timeout: 20_000 }).toBe(true);
    await restarted;
    await admin.end().catch(() => {});
    await openAdmin();
    await loading;
    const answer = await loadUntilEnd(request);
    await expectWhole(request, answer, "upsert");
  });
});

describe("connections that end", () => {
  it("by pg_terminate_backend, ten times in one load", async () => {
    const request = await makeTarget("upsert");
    const loading = loadUntilEnd(request);
    for (let round = 0; round < 10; round++) {
      await sleep(below(150));
      await admin.query(
        `SELECT pg_terminate_backend(pid) FROM pg_stat_activity
         WHERE application_name = 'pg-mcp' AND state <> 'idle' AND pid <> pg_backend_pid()`,
      );
    }
    await expectWhole(request, await loading, "upsert");
  });

  it.each(["upsert", "append"] as const)("on the way, ten times in one load by %s", async (mode) => {
    const wire = await openWire(engine.url);
    try {
      const request = await makeTarget(mode);
      const child = startChild({ request, step: "1", signal: "tell", databaseUrl: wire.url });
      await heard(child, "at 1");
      for (let round = 0; round < 10; round++) {
        await sleep(below(150));
        wire.cut();
      }
      expect(await exitOf(child)).toBe(null);
      await expectWhole(request, await loadUntilEnd(request), mode);
    } finally {
      wire.close();
    }
  });

  it("in silence: the holder gives up, and another process goes on", async () => {
    const wire = await openWire(engine.url);
    try {
      const request = await makeTarget("upsert");
      const child = startChild({ request, step: "2.3", signal: "tell", databaseUrl: wire.url });
      await heard(child, "at 2.3");
      wire.silent = true;
      const answer = await loadUntilEnd(request);
      await expectWhole(request, answer, "upsert");
      // It must not wait for ever for an answer that cannot come.
      expect(await exitOf(child)).toBe(null);
      await expectWhole(request, answer, "upsert");
    } finally {
      wire.close();
    }
  });
});

describe("a holder that sleeps for longer than its lease", () => {
  it.each(["2.3", "2.3 commit", "4.2", "4 commit"])(
    "at step %s loses its load and writes nothing when it wakes",
    async (step) => {
      const request = await makeTarget("upsert");
      const zombie = startChild({ request, step, signal: "SIGSTOP" });
      const ended = exitOf(zombie);
      await expect.poll(() => isStopped(zombie), { timeout: 20_000 }).toBe(true);
      const answer = await loadUntilEnd(request);
      await expectWhole(request, answer, "upsert");
      const image = await admin.query(`SELECT ctid::text, * FROM ${harness.schema}.${request.table} ORDER BY ctid`);

      zombie.kill("SIGCONT");
      expect(await ended).toBe(null);

      const after = await admin.query(`SELECT ctid::text, * FROM ${harness.schema}.${request.table} ORDER BY ctid`);
      expect(after.rows).toEqual(image.rows);
      await expectWhole(request, answer, "upsert");
    },
  );

  it("loses it by the clock alone", async () => {
    const request = await makeTarget("upsert");
    const zombie = startChild({ request, step: "2.3 commit", signal: "SIGSTOP" });
    const ended = exitOf(zombie);
    await expect.poll(() => isStopped(zombie), { timeout: 20_000 }).toBe(true);
    let answer = await harness.load({ ...request, waitSeconds: 1 });
    expect(answer.status).toBe("working");
    for (const until = Date.now() + 120_000; answer.status === "working" && Date.now() < until; ) {
      await sleep(1_000);
      answer = await harness.load({ ...request, waitSeconds: 1 });
    }
    zombie.kill("SIGCONT");
    expect(await ended).toBe(null);
    await expectWhole(request, answer, "upsert");
  });
});

describe("two loads of one export at once", () => {
  it("from two processes are one load", async () => {
    const request = await makeTarget("append");
    const children = [startChild({ request }), startChild({ request })];
    const said = await Promise.all(
      children.map(async (child) => {
        let text = "";
        child.stdout?.on("data", (chunk) => {
          text += String(chunk);
        });
        await once(child, "close");
        return text.split("\n")[0];
      }),
    );
    expect(said[0]).toMatch(/^load_/);
    expect(said[1]).toBe(said[0]);
    await expectWhole(request, await loadUntilEnd(request), "append");
  });

  it("by two modes into one table queue, and each adds up", async () => {
    const request = await makeTarget("upsert");
    const [upsert, ignore] = await Promise.all([harness.load(request), harness.load({ ...request, mode: "ignore" })]);
    for (const { status, figures } of [upsert, ignore]) {
      expect(status).toBe("completed");
      const { expected, staged, ...outcomes } = figures;
      expect(staged).toBe(expected);
      expect(Object.values(outcomes).reduce((sum, count) => sum + count, 0)).toBe(staged);
    }
    expect(await rowsOf(request)).toEqual(oracle(world, "upsert").rows);
  });

  it("into a table each do not disturb each other while both are killed", async () => {
    const requests = [await makeTarget("upsert"), await makeTarget("append")];
    const children = requests.map((request) => startChild({ request, step: "2.4" }));
    await Promise.all(children.map(exitOf));
    const answers = await Promise.all(requests.map(loadUntilEnd));
    for (const [position, mode] of (["upsert", "append"] as const).entries()) {
      const [request, answer] = [requests[position], answers[position]];
      if (request !== undefined && answer !== undefined) await expectWhole(request, answer, mode);
    }
  });
});

const isRoot = process.getuid?.() === 0 && process.platform === "linux";

describe.skipIf(!isRoot)("a full disk (root on Linux alone can mount a small one)", () => {
  let disk: string;

  beforeAll(async () => {
    disk = await mkdtemp(join(tmpdir(), "small-disk-"));
    await promisify(execFile)("mount", ["-t", "tmpfs", "-o", "size=16m", "none", disk]);
  });

  afterAll(async () => {
    await promisify(execFile)("umount", [disk]);
    await rm(disk, { recursive: true });
  });

  /** Takes all that is left of the disk, until the returned function is called. */
  async function fill(leaveBytes: number): Promise<() => Promise<void>> {
    const { bavail, bsize } = await statfs(disk);
    const path = join(disk, "ballast");
    await writeFile(path, Buffer.alloc(Math.max(0, bavail * bsize - leaveBytes)));
    return () => rm(path, { force: true });
  }

  it("on PostgreSQL's side fails the load with a word for it, leaves the table as it was, and the same call ends it", async () => {
    const small = join(disk, "tablespace");
    await mkdir(small);
    const { stdout } = await promisify(execFile)("id", ["-u", "nobody"]);
    await promisify(execFile)("chown", [stdout.trim(), small]);
    await promisify(execFile)("chmod", ["711", disk]);
    const request = await makeTarget("upsert");
    const before = await rowsOf(request);
    await admin.query(`CREATE TABLESPACE small LOCATION '${small}'`);
    await admin.query("ALTER ROLE postgres SET default_tablespace = 'small'");
    const second = { ...harness.context, ...reopened() };
    try {
      const empty = await fill(256 * 1024);
      const failed = await harness.load(request, second);
      expect(failed).toMatchObject({ status: "failed", error: { code: "disk_full", retryable: true } });
      expect(await rowsOf(request)).toEqual(before);
      await expectNothingLeft(failed, failed.figures.rejected);

      await empty();
      const answer = await harness.load(request, second);
      expect(answer.status).toBe("completed");
      await expectWhole(request, answer, "upsert");
    } finally {
      await second.postgres.close();
      await admin.query("ALTER ROLE postgres RESET default_tablespace");
      await admin.query("DROP TABLESPACE small").catch(() => {});
    }
  });

  it("on the staging side lets a load of what is staged end, or says so and lets the same call end it", async () => {
    const store = await openStore({ url: pathToFileURL(join(disk, "staging")).href });
    const writer = await store.create({
      request_digest: "chaos",
      source: {
        cluster_uuid: "test",
        indices: [{ name: "docs", uuid: "u1", shards: 1, source_mode: "stored", documents: 12_000 }],
        query: null,
        fields: null,
        max_documents: null,
        since: null,
        method: "pit",
        pit_time: new Date().toISOString(),
        expected: 12_000,
      },
      mapping: [],
    });
    for (const part of world.parts) await addPart(writer, part);
    await writer.finish("completed");
    const request = { ...(await makeTarget("upsert")), exportId: writer.manifest.export_id };
    const context = { ...harness.context, store: async () => store };
    const empty = await fill(0);
    const first = await harness.load(request, context).then(({ status, error }) => error?.code ?? status, errorCode);
    expect(["completed", "staging_full"]).toContain(first);
    await empty();
    const answer = await harness.load(request, context);
    await expectWhole(request, answer, "upsert");
  });
});
