import { startPostgresVariant } from "@es-to-pg/engines";
import { afterAll, beforeAll, expect, it } from "vitest";
import { gathers, type Harness, openHarness, type StagedDocument, told } from "./load-harness.ts";

/** What makes the planner share even the smallest table between processes, of which the first only looks on. */
const SHARING = {
  min_parallel_table_scan_size: "0",
  parallel_setup_cost: "0",
  parallel_tuple_cost: "0",
  parallel_leader_participation: "off",
  max_parallel_workers_per_gather: "2",
};

let server: Awaited<ReturnType<typeof startPostgresVariant>>;
let harness: Harness;

beforeAll(async () => {
  server = await startPostgresVariant({ settings: SHARING });
  harness = await openHarness(server.url);
}, 120_000);
afterAll(async () => {
  await harness?.close();
  await server?.stop();
});

const documents = (count: number, source: (n: number) => Record<string, unknown>): StagedDocument[] =>
  Array.from({ length: count }, (_, n) => ({ id: `d${n}`, source: { id: `d${n}`, ...source(n) } }));

/** A function of the user's that notes by a sequence whether a parallel process runs it, or refuses to run in one. */
async function createFunction(name: string, inWorker: string): Promise<void> {
  await harness.sql(`CREATE FUNCTION ${harness.schema}.${name}(v integer) RETURNS integer
    LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE AS $f$
    BEGIN
      IF (SELECT backend_type FROM pg_stat_activity WHERE pid = pg_backend_pid()) = 'parallel worker' THEN ${inWorker} END IF;
      RETURN v;
    END $f$`);
}

async function load(table: string, expression: string, functionName: string) {
  await harness.sql(`CREATE TABLE ${harness.schema}.${table} (id text PRIMARY KEY, v integer)`);
  await harness.sql(`INSERT INTO ${harness.schema}.${table} SELECT 'd' || n, n FROM generate_series(0, 199) AS n`);
  const exportId = await harness.stage([documents(300, (n) => ({ v: n < 100 ? n : n + 1 }))]);
  const mapping = {
    columns: [
      { column: "id" },
      { column: "given", from: "v", load: false, staged_as: "integer" },
      { column: "v", expression },
    ],
  };
  const { settings } = harness.context;
  const allowed = { ...settings, PG_MCP_ALLOW_FUNCTIONS: [`${harness.schema}.${functionName}`] };
  return harness.load({ table, exportId, mapping, ...gathers }, { ...harness.context, settings: allowed });
}

const EXPECTED = { expected: 300, staged: 300, inserted: 100, updated: 100, unchanged: 100 };

it("lets several processes of the server share the comparison with the table", async () => {
  await createFunction("told", "v := v + 1000;");
  const answer = await load("shared", `${harness.schema}.told(given)`, "told");
  // Every value went through a parallel process, so that none is what the table holds.
  expect(told(answer)).toEqual({ expected: 300, staged: 300, inserted: 100, updated: 200 });
});

it("compares with one process where the server lacks what several need", async () => {
  await createFunction("starved", "RAISE EXCEPTION 'could not resize shared memory segment' USING ERRCODE = '53100';");
  const answer = await load("alone", `${harness.schema}.starved(given)`, "starved");
  expect(answer.status).toBe("completed");
  expect(told(answer)).toEqual(EXPECTED);
});

it("finds the rows that do not fit where several processes meet them", async () => {
  await createFunction("picky", "IF v = 150 THEN RAISE EXCEPTION 'not this one' USING ERRCODE = '22000'; END IF;");
  const answer = await load("refused", `${harness.schema}.picky(given)`, "picky");
  // In the row-by-row way one process judges, and this function refuses nothing there.
  expect(told(answer)).toEqual(EXPECTED);
});
