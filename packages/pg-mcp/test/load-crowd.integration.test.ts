/** More loads at a time than a server has connections, each with one statement that takes long. */
import { Client } from "pg";
import { afterAll, beforeAll, expect, inject, it } from "vitest";
import { cancelLoad, showLoad } from "../src/load/show.ts";
import { type StartedLoad, startLoad } from "../src/load/start.ts";
import { type Harness, openHarness, requestDefaults } from "./load-harness.ts";

const LOADS = 8;

let harness: Harness;
/** Beside the server's own connections. */
let admin: Client;

beforeAll(async () => {
  harness = await openHarness(inject("databaseUrl"));
  admin = new Client({ connectionString: inject("databaseUrl") });
  await admin.connect();
});
afterAll(async () => {
  await admin.end();
  await harness.close();
});

/** A table whose rows go in when the gate is open: no lock, of which a statement waits for some seconds only. */
async function gatedTable(): Promise<string> {
  const table = await harness.table("id text PRIMARY KEY");
  await admin.query(
    `CREATE TRIGGER waits AFTER INSERT ON ${harness.schema}.${table} FOR EACH STATEMENT EXECUTE FUNCTION ${harness.schema}.waits()`,
  );
  return table;
}

/** Seconds for which the leases of all loads that work still hold, the shortest first. */
async function leases(): Promise<number[]> {
  const { rows } = await admin.query<{ left: number }>(
    `SELECT extract(epoch FROM lease_until - clock_timestamp())::float AS left
     FROM ${harness.schema}_state.loads WHERE status = 'working' ORDER BY lease_until`,
  );
  return rows.map(({ left }) => left);
}

/** How many of them were renewed just now. */
async function renewed(): Promise<number> {
  return (await leases()).filter((left) => left > 25).length;
}

it("keeps its leases, answers calls and probes, and brings every load to its end", async () => {
  const { schema, context, postgres } = harness;
  await admin.query(`CREATE TABLE ${schema}.gate (is_open boolean)`);
  await admin.query(`CREATE FUNCTION ${schema}.waits() RETURNS trigger LANGUAGE plpgsql AS $f$
    BEGIN
      WHILE NOT EXISTS (SELECT FROM ${schema}.gate) LOOP PERFORM pg_sleep(0.05); END LOOP;
      RETURN NULL;
    END $f$`);
  const exportId = await harness.stage([[{ id: "a", source: { id: "a" } }]]);
  const loads: StartedLoad[] = [];
  for (let at = 0; at < LOADS; at++) {
    const request = { ...requestDefaults, schema, table: await gatedTable(), exportId };
    loads.push(await startLoad(context, request, context.signal));
  }
  const [first] = loads;
  if (first === undefined) throw new Error("loads were started");

  // A lease of 30 s is renewed each 10 s, of loads that wait for their turn too.
  await expect.poll(renewed, { timeout: 20_000, interval: 100 }).toBe(0);
  await expect.poll(renewed, { timeout: 20_000, interval: 100 }).toBe(LOADS);

  await postgres.read((tx) => tx.query("SELECT 1"), { signal: AbortSignal.timeout(2_000), isUpkeep: true });
  const call = { ...context, signal: AbortSignal.timeout(5_000) };
  expect(await showLoad(call, first.loadId, { waitSeconds: 0 })).toMatchObject({ status: "working" });
  expect(await cancelLoad(call, first.loadId)).toMatchObject({ status: "cancelled" });
  expect(postgres.pools()[0]).toMatchObject({ name: "writer", used: 4, waiting: 0 });

  await admin.query(`INSERT INTO ${schema}.gate VALUES (true)`);
  await Promise.all(loads.map(({ ended }) => ended));
  for (const { loadId } of loads.slice(1)) {
    expect(await showLoad(context, loadId, { waitSeconds: 0 })).toMatchObject({
      status: "completed",
      figures: { inserted: 1 },
    });
  }
});
