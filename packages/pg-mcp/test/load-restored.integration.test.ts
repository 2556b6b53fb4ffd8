/** A database that was restored from a dump: every table has another oid than its loads were made for. */
import { afterAll, beforeAll, expect, inject, it } from "vitest";
import { type Harness, openHarness } from "./load-harness.ts";

let harness: Harness;

beforeAll(async () => {
  harness = await openHarness(inject("databaseUrl"));
});
afterAll(async () => {
  await harness.close();
});

/** Makes a table anew with what it held, which is what pg_restore does. */
async function restore(table: string): Promise<void> {
  await harness.sql(`ALTER TABLE ${table} RENAME TO dumped`);
  const dumped = table.replace(/[^.]+$/, "dumped");
  await harness.sql(`CREATE TABLE ${table} (LIKE ${dumped} INCLUDING ALL)`);
  await harness.sql(`INSERT INTO ${table} SELECT * FROM ${dumped}`);
  await harness.sql(`DROP TABLE ${dumped} CASCADE`);
}

it("knows what was appended before, and a table that somebody made anew from one that was restored", async () => {
  const { schema } = harness;
  const name = await harness.table("v integer");
  const exportId = await harness.stage([[{ id: "a", source: { v: 1 } }]]);
  const append = () => harness.load({ table: name, exportId, mode: "append", fresh: false });
  const first = await append();
  const rows = async () => (await harness.sql(`SELECT count(*)::int FROM ${schema}.${name}`))[0]?.[0];

  await harness.sql(`DROP TABLE ${schema}.${name}`);
  await harness.sql(`CREATE TABLE ${schema}.${name} (v integer)`);
  const second = await append();
  expect(second.load_id).not.toBe(first.load_id);
  expect(await rows()).toBe(1);

  await restore(`${schema}.${name}`);
  await restore(`${schema}_state.loads`);
  expect(await append()).toMatchObject({ load_id: second.load_id, already_loaded: true });
  expect(await rows()).toBe(1);
});
