import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { setTimeout as sleep } from "node:timers/promises";
import { createLogger } from "@es-to-pg/mcp-kit";
import { afterAll, beforeAll, describe, expect, inject, it } from "vitest";
import { resumeStalledLoads } from "../src/load/resume.ts";
import type { LoadRequest } from "../src/load/start.ts";
import { gathers, type Harness, openHarness, type StagedDocument, told } from "./load-harness.ts";

let harness: Harness;
let exportId: string;
let uniqueExportId: string;
let serial = 0;

/** Three parts; keys come twice, within a part and across parts; some values do not fit. */
const DOCUMENTS: StagedDocument[][] = [0, 1, 2].map((part) =>
  Array.from({ length: 2000 }, (_, n) => {
    const id = `k${(part * 1500 + n) % 4000}`;
    return { id, seqNo: part * 10_000 + n, source: { id, v: n % 500 === 3 ? "no number" : part * 10_000 + n } };
  }),
);

/** The same parts with no key twice. */
const UNIQUE = DOCUMENTS.map((part, index) =>
  part.map(({ source, ...rest }, n): StagedDocument => {
    const id = `u${index}_${n}`;
    return { ...rest, id, source: typeof source === "string" ? source : { ...source, id } };
  }),
);

/** What the table must hold, from the documents alone: of each key the readable document with the greatest _seq_no. */
function oracle(documents = DOCUMENTS): { rows: [string, number][]; rejected: number; deduplicated: number } {
  const winners = new Map<string, { seqNo: number; v: number }>();
  let rejected = 0;
  let readable = 0;
  for (const { id, seqNo = 0, source } of documents.flat()) {
    const v = typeof source === "string" ? undefined : source["v"];
    if (typeof v !== "number") {
      rejected++;
      continue;
    }
    readable++;
    const known = winners.get(id);
    if (known === undefined || known.seqNo < seqNo) winners.set(id, { seqNo, v });
  }
  const rows = [...winners].map(([id, { v }]): [string, number] => [id, v]);
  return { rows: rows.sort(([a], [b]) => (a < b ? -1 : 1)), rejected, deduplicated: readable - winners.size };
}

beforeAll(async () => {
  harness = await openHarness(inject("databaseUrl"));
  // By routing, two shards may hold one _id.
  exportId = await harness.stage(DOCUMENTS, [], 2);
  uniqueExportId = await harness.stage(UNIQUE);
});

afterAll(async () => {
  await harness.close();
});

async function freshTable(): Promise<string> {
  const name = `t${++serial}`;
  await harness.sql(`CREATE TABLE ${harness.schema}.${name} (id text PRIMARY KEY, v integer)`);
  return name;
}

function startChild(options: {
  request: Partial<LoadRequest> & { table: string };
  step: string;
  partsAtOnce?: number;
  delayMs?: number;
  signal?: "SIGKILL" | "SIGSTOP";
}): ChildProcess {
  const given = {
    databaseUrl: inject("databaseUrl"),
    stagingUrl: harness.stagingUrl,
    stateSchema: `${harness.schema}_state`,
    delayMs: 0,
    signal: "SIGKILL",
    ...options,
  };
  return spawn(process.execPath, [new URL("load-child.ts", import.meta.url).pathname, JSON.stringify(given)], {
    stdio: ["ignore", "pipe", "inherit"],
  });
}

/** As if the 30 s of the dead holder's lease had passed. */
async function expireLeases(): Promise<void> {
  await harness.sql(
    `UPDATE ${harness.schema}_state.loads SET lease_until = now() - interval '1 s' WHERE status = 'working'`,
  );
}

async function expectOracle(name: string, documents = DOCUMENTS): Promise<void> {
  const rows = await harness.sql(`SELECT id, v FROM ${harness.schema}.${name} ORDER BY id COLLATE "C"`);
  expect(rows).toEqual(oracle(documents).rows);
}

/** Part by part; part by part until a key comes twice; all at the end. */
const WAYS = {
  direct: { documents: UNIQUE, exportOf: () => uniqueExportId, request: {}, strategy: "direct" },
  "direct by _id": {
    documents: UNIQUE,
    exportOf: () => uniqueExportId,
    request: { mapping: { columns: [{ column: "id", from: "_id" }, { column: "v" }], key: ["id"] } },
    strategy: "direct",
  },
  "direct, taken back": { documents: DOCUMENTS, exportOf: () => exportId, request: {}, strategy: "gather" },
} as const;

describe.each(["direct", "direct by _id", "direct, taken back"] as const)(
  "a load (%s) whose process is killed",
  (way) => {
    const { documents, exportOf, request, strategy } = WAYS[way];

    it.each(["1", "2.0", "2.0 commit", "2.1", "2.1 commit", "2.2", "2.2 commit", "3", "4", "4 commit", "5"])(
      "ends exactly once when it is started again after a kill at step %s",
      async (step) => {
        const table = await freshTable();
        const call = { ...request, table, schema: harness.schema, exportId: exportOf(), fresh: false };
        const [code, signal] = await exit(startChild({ request: call, step }));
        expect([code, signal]).toEqual([null, "SIGKILL"]);
        await expireLeases();

        const answer = await harness.load(call);

        const { rows, rejected, deduplicated } = oracle(documents);
        expect(answer).toMatchObject({ status: "completed", strategy });
        const more = deduplicated > 0 ? { deduplicated } : {};
        expect(told(answer)).toEqual({ expected: 6000, staged: 6000, inserted: rows.length, rejected, ...more });
        await expectOracle(table, documents);
        expect(
          await harness.sql(`SELECT count(*)::int FROM ${harness.schema}_state.rejects WHERE load_id = $1`, [
            answer.load_id,
          ]),
        ).toEqual([[rejected]]);
      },
    );

    it("ends exactly once after kills at random moments", async () => {
      const table = await freshTable();
      const call = { ...request, table, schema: harness.schema, exportId: exportOf(), fresh: false };
      for (const delayMs of [5, 25, 60, 100]) {
        await exit(startChild({ request: call, step: "1", delayMs: delayMs + Math.floor(Math.random() * 40) }));
        await expireLeases();
      }
      let answer = await harness.load(call);
      for (let tries = 0; answer.status === "working" && tries < 20; tries++) {
        await expireLeases();
        answer = await harness.load(call);
      }
      const { rows, rejected } = oracle(documents);
      expect(told(answer)).toMatchObject({ expected: 6000, staged: 6000, inserted: rows.length, rejected });
      await expectOracle(table, documents);
    });
  },
);

describe("a load that gathers and whose process is killed", () => {
  it.each(["1", "2.0", "2.0 commit", "2.1", "2.2 commit", "3", "4", "4 commit", "5"])(
    "ends exactly once when it is started again after a kill at step %s",
    async (step) => {
      const table = await freshTable();
      const request = { ...gathers, table, schema: harness.schema, exportId, fresh: false };
      const [code, signal] = await exit(startChild({ request, step }));
      expect([code, signal]).toEqual([null, "SIGKILL"]);
      const before = step === "5" ? oracle().rows.length : 0;
      expect(await harness.sql(`SELECT count(*)::int FROM ${harness.schema}.${table}`)).toEqual([[before]]);
      await expireLeases();

      const answer = await harness.load(request);

      const { rows, rejected, deduplicated } = oracle();
      expect(answer.status).toBe("completed");
      expect(told(answer)).toEqual({ expected: 6000, staged: 6000, inserted: rows.length, deduplicated, rejected });
      await expectOracle(table);
      expect(
        await harness.sql(`SELECT count(*)::int FROM ${harness.schema}_state.rejects WHERE load_id = $1`, [
          answer.load_id,
        ]),
      ).toEqual([[rejected]]);
    },
  );

  it("ends exactly once after kills at random moments", async () => {
    const table = await freshTable();
    const request = { ...gathers, table, schema: harness.schema, exportId, fresh: false };
    for (const delayMs of [5, 25, 60]) {
      await exit(startChild({ request, step: "1", delayMs: delayMs + Math.floor(Math.random() * 40) }));
      await expireLeases();
    }
    const answer = await harness.load(request);
    expect(told(answer)).toMatchObject({ expected: 6000, staged: 6000, rejected: oracle().rejected });
    await expectOracle(table);
  });

  it("ends exactly once after a kill in the middle of the merge", async () => {
    const table = await freshTable();
    const request = { ...gathers, table, schema: harness.schema, exportId, fresh: false };
    await exit(startChild({ request, step: "4", delayMs: 15 }));
    await expireLeases();
    let answer = await harness.load(request);
    for (let tries = 0; answer.status === "working" && tries < 20; tries++) {
      // The killed process's statement may run on for some seconds before the server notices.
      await expireLeases();
      answer = await harness.load(request);
    }
    expect(told(answer)).toMatchObject({ expected: 6000, staged: 6000, rejected: oracle().rejected });
    await expectOracle(table);
  });

  it("shows as working while the lease holds, as stalled after it, and keeps its parts for the next holder", async () => {
    const table = await freshTable();
    const request = { ...gathers, table, schema: harness.schema, exportId, fresh: false };
    // One part at a time, so that those before the third are in.
    await exit(startChild({ request, step: "2.2", partsAtOnce: 1 }));
    const held = await harness.load({ ...request, waitSeconds: 1 });
    expect(held).toMatchObject({ status: "working", phase: "staging", figures: { staged: 4000 } });
    expect(held).not.toHaveProperty("stalled");
    await expireLeases();
    const parts = await partTimes(table);

    const answer = await harness.load(request);

    expect(answer.status).toBe("completed");
    expect((await partTimes(table)).slice(0, 2)).toEqual(parts);
    await expectOracle(table);
  }, 90_000);

  it("is taken over by a server that lives long, without the call being made again", async () => {
    const table = await freshTable();
    await exit(
      startChild({ request: { ...gathers, table, schema: harness.schema, exportId, fresh: false }, step: "2.1" }),
    );
    expect(await resumeStalledLoads(harness.context, harness.context.signal)).toBe(0);
    await expireLeases();
    expect(await resumeStalledLoads(harness.context, harness.context.signal)).toBe(1);
    const answer = await harness.load({ ...gathers, table, exportId, fresh: false });
    expect(answer).toMatchObject({ status: "completed", figures: { expected: 6000, rejected: oracle().rejected } });
    await expectOracle(table);
    const loads = await harness.sql(`SELECT epoch FROM ${harness.schema}_state.loads WHERE table_name = $1`, [table]);
    expect(loads).toEqual([[2]]);
  });

  it("is not taken over for a table that was made anew, and the log says so", async () => {
    const table = await freshTable();
    await exit(
      startChild({ request: { ...gathers, table, schema: harness.schema, exportId, fresh: false }, step: "2.1" }),
    );
    await expireLeases();
    await harness.sql(`DROP TABLE ${harness.schema}.${table}`);
    await harness.sql(`CREATE TABLE ${harness.schema}.${table} (id text PRIMARY KEY, v integer)`);
    const lines: string[] = [];
    const logger = createLogger({ level: "warn", write: (line) => lines.push(line) });
    expect(await resumeStalledLoads({ ...harness.context, logger }, harness.context.signal)).toBe(0);
    expect(lines.map((line) => JSON.parse(line))).toMatchObject([{ event: "load_not_resumed", error: "load_changed" }]);
    await harness.sql(`UPDATE ${harness.schema}_state.loads SET status = 'cancelled' WHERE status = 'working'`);
  });

  it("starts its parts over when a crash of PostgreSQL has emptied the stage", async () => {
    const table = await freshTable();
    const request = { ...gathers, table, schema: harness.schema, exportId, fresh: false };
    await exit(startChild({ request, step: "3" }));
    const loads = await harness.sql(`SELECT load_id FROM ${harness.schema}_state.loads WHERE table_name = $1`, [table]);
    // What an unlogged table is after a crash.
    await harness.sql(`TRUNCATE ${harness.schema}_state.stage_${String(loads[0]?.[0])}`);
    await expireLeases();
    const answer = await harness.load(request);
    expect(told(answer)).toMatchObject({ expected: 6000, staged: 6000, rejected: oracle().rejected });
    await expectOracle(table);
  });
});

describe("a load whose process only sleeps", () => {
  it("writes nothing once another process has taken it over", async () => {
    const table = await freshTable();
    const request = { ...gathers, table, schema: harness.schema, exportId, fresh: false };
    const zombie = startChild({ request, step: "2.1", signal: "SIGSTOP", partsAtOnce: 1 });
    const ended = exit(zombie);
    while ((await partTimes(table)).length < 1) await sleep(50);
    await sleep(200);
    await expireLeases();
    const answer = await harness.load(request);
    expect(answer.status).toBe("completed");
    const image = await harness.sql(`SELECT ctid::text, id FROM ${harness.schema}.${table} ORDER BY 1`);

    zombie.kill("SIGCONT");
    expect(await ended).toEqual([0, null]);

    expect(await harness.sql(`SELECT ctid::text, id FROM ${harness.schema}.${table} ORDER BY 1`)).toEqual(image);
    await expectOracle(table);
    expect(
      await harness.sql(`SELECT status, epoch FROM ${harness.schema}_state.loads WHERE load_id = $1`, [answer.load_id]),
    ).toEqual([["completed", 2]]);
  });
});

async function exit(child: ChildProcess): Promise<[number | null, NodeJS.Signals | null]> {
  child.stdout?.resume();
  const [code, signal] = await once(child, "exit");
  return [code, signal];
}

async function partTimes(table: string): Promise<unknown[][]> {
  return harness.sql(
    `SELECT p.part, p.committed_at::text FROM ${harness.schema}_state.parts p
     JOIN ${harness.schema}_state.loads l USING (load_id) WHERE l.table_name = $1 ORDER BY p.part`,
    [table],
  );
}
