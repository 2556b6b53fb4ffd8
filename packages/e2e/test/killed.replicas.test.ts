/** One of three replicas is killed at work: another goes on by itself once the lease has run out, and nothing is lost. */
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { createProductsTable, seedProducts } from "@es-to-pg/seed";
import { afterEach, beforeEach, expect, inject, it } from "vitest";
import { z } from "zod";
import {
  accountedFor,
  Caller,
  exportIndex,
  followExport,
  followLoad,
  startExport,
  startLoad,
  verifyLoad,
} from "../src/course.ts";
import { balance, openReplicas, type Replica } from "./replicas.ts";
import { makePlace, type Place } from "./support.ts";

/** Four parts: enough for a kill between the first and the last. */
const count = 400_000;

let place: Place;

beforeEach(async () => {
  place = await makePlace();
  await seedProducts({ elasticsearchUrl: inject("elasticsearchUrl"), index: place.index, generate: { count } });
  await createProductsTable(inject("databaseUrl"), place.schema);
});

afterEach(async () => {
  await place[Symbol.asyncDispose]();
});

async function until(isSo: () => Promise<boolean>): Promise<void> {
  while (!(await isSo())) await sleep(5);
}

/**
 * What Prometheus would have seen of stalled jobs in a survivor until `ended`, a sample each second with repetitions left
 * out. The alert JobStalled is tested with series of this shape (`archestra/monitoring/prometheus/rules.test.yml`).
 */
async function stalledSeries(survivor: Replica | undefined, kind: string, ended: Promise<unknown>): Promise<number[]> {
  const series: number[] = [];
  const over = new AbortController();
  const end = () => over.abort();
  ended.then(end, end);
  const look = async (): Promise<void> => {
    const text = (await survivor?.metrics()) ?? "";
    const line = text
      .split("\n")
      .find((one) => one.startsWith("etl_jobs{") && one.includes(`kind="${kind}"`) && one.includes('state="stalled"'));
    const value = Number(line?.split(" ")[1]);
    if (series.at(-1) !== value) series.push(value);
  };
  while (!over.signal.aborted) {
    await look();
    await sleep(1_000);
  }
  await look();
  return series;
}

const manifestSchema = z.looseObject({ status: z.string(), parts: z.array(z.unknown()) });

async function manifestOf(exportId: string): Promise<z.infer<typeof manifestSchema>> {
  return manifestSchema.parse(JSON.parse(await readFile(join(place.staging, exportId, "manifest.json"), "utf8")));
}

it("an export", async () => {
  await using replicas = await openReplicas(place, "es-mcp");
  const [owner, ...others] = replicas.all;
  if (owner === undefined) throw new Error("three were started");
  const caller = new Caller({});
  const started = await startExport(caller, owner, place.index);
  await until(async () => (await manifestOf(started.export_id)).parts.length > 0);
  owner.kill();
  const atKill = await manifestOf(started.export_id);
  expect(atKill.status).toBe("working");
  expect(atKill.parts.length).toBeLessThan(4);

  const following = followExport(caller, balance(others), started);
  expect(await stalledSeries(others[0], "export", following)).toEqual([0, 1, 0]);
  expect(await following).toMatchObject({ documents: count, expected: count });
  expect(others.filter((other) => other.log().includes("export_resumed"))).toHaveLength(1);
});

it("a load", async () => {
  const es = await place.open("es-mcp");
  const caller = new Caller({});
  const { export_id } = await exportIndex(caller, es, place.index);
  const { schema } = place;
  await using replicas = await openReplicas(place, "pg-mcp");
  const [owner, ...others] = replicas.all;
  if (owner === undefined) throw new Error("three were started");
  const proposed = await caller.call(owner, "propose_mapping", { table: "products", schema, export_id });
  const args = { table: "products", schema, export_id, mapping: proposed.data["mapping_id"] };
  const started = await startLoad(caller, owner, args);
  const rows = async (): Promise<number> => {
    const [[n] = []] = await place.sql(`SELECT count(*)::text FROM ${schema}.products`);
    return Number(n);
  };
  await until(async () => (await rows()) > 0);
  owner.kill();
  expect(await rows()).toBeLessThan(count);

  const following = followLoad(caller, balance(others), started);
  expect(await stalledSeries(others[0], "load", following)).toEqual([0, 1, 0]);
  const load = await following;
  expect(load.figures).toMatchObject({ expected: count, staged: count });
  expect(accountedFor(load.figures)).toBe(count);
  expect(others.filter((other) => other.log().includes("loads_resumed"))).toHaveLength(1);
  expect(await rows()).toBe(count);
  expect(await verifyLoad(caller, balance(others), load.load_id)).toMatchObject({
    matched: count,
    missing: 0,
    different: 0,
  });
});
