import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { seedProducts } from "@es-to-pg/seed";
import { afterEach, beforeEach, describe, expect, inject, it } from "vitest";
import { z } from "zod";
import { accountedFor, Caller, exportIndex, loadExport } from "../src/course.ts";
import { makePlace, type Place } from "./support.ts";
import { initialize, legacy, openWire, type Wire } from "./wire.ts";

/** Enough for a job to be in the middle when its server is told to end. */
const count = 30_000;
const exitMsMax = 4000;

let place: Place;
let wire: Wire | undefined;

beforeEach(async () => {
  place = await makePlace();
  await seedProducts({ elasticsearchUrl: inject("elasticsearchUrl"), index: place.index, generate: { count } });
});

afterEach(async () => {
  wire?.process.kill("SIGKILL");
  await place[Symbol.asyncDispose]();
});

const stops: [string, (wire: Wire) => void][] = [
  ["the end of its input", ({ process }) => process.stdin?.end()],
  ["SIGTERM", ({ process }) => process.kill("SIGTERM")],
];

/** Starts a job by a bare call, so that no client library softens the end, and reads the handle from its answer. */
async function startJob(
  server: "es-mcp" | "pg-mcp",
  tool: string,
  args: object,
): Promise<{ wire: Wire; answer: string }> {
  wire = openWire(server, place.env);
  wire.send(initialize(1));
  await wire.answer(1);
  wire.send(legacy(2, "tools/call", { name: tool, arguments: { ...args, wait_seconds: 0 } }));
  return { wire, answer: JSON.stringify(await wire.answer(2)) };
}

describe.each(stops)("a server that meets %s while a job runs", (_name, stop) => {
  it("ends within 4 s and leaves an export that the same call completes", async () => {
    const { index } = place;
    const { wire: running, answer } = await startJob("es-mcp", "bulk_export", { index });
    const exportId = /exp_[0-9a-z]{26}/.exec(answer)?.[0] ?? "";
    stop(running);
    const { ms } = await running.exit();
    expect(ms).toBeLessThan(exitMsMax);
    const manifestSchema = z.looseObject({ status: z.enum(["working", "completed"]) });
    manifestSchema.parse(JSON.parse(await readFile(join(place.staging, exportId, "manifest.json"), "utf8")));

    const es = await place.open("es-mcp");
    const caller = new Caller({});
    const again = await caller.call(es, "bulk_export", { index, wait_seconds: 45 });
    expect(again.data).toMatchObject({ export_id: exportId, status: "completed", documents: count, expected: count });
  });

  it("ends within 4 s and leaves a load that the same call completes, with every document accounted for", async () => {
    const { index, schema } = place;
    const es = await place.open("es-mcp");
    const caller = new Caller({});
    const { export_id } = await exportIndex(caller, es, index);
    await place.sql(`CREATE TABLE ${schema}.t (id text PRIMARY KEY, name text, price numeric(10,2))`);
    const columns = ["id", "name", "price"].map((column) => ({ column, from: column }));
    const args = { table: "t", schema, export_id, mapping: { columns, key: ["id"] } };
    const { wire: running } = await startJob("pg-mcp", "bulk_insert", args);
    stop(running);
    const { ms } = await running.exit();
    expect(ms).toBeLessThan(exitMsMax);
    const [[rows] = []] = await place.sql(`SELECT count(*)::text FROM ${schema}.t`);
    expect(["0", String(count)]).toContain(rows);

    const pg = await place.open("pg-mcp");
    const load = await loadExport(caller, pg, args);
    expect(load.figures.expected).toBe(count);
    expect(accountedFor(load.figures)).toBe(count);
    const [[total] = []] = await place.sql(`SELECT count(*)::text FROM ${schema}.t`);
    expect(total).toBe(String(count));
  });
});
