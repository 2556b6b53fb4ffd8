/** Several processes of each server behind one address: who answers makes no difference. */
import { seedProducts } from "@es-to-pg/seed";
import { afterEach, beforeEach, expect, inject, it } from "vitest";
import { accountedFor, Caller, followExport, runCourse, startExport } from "../src/course.ts";
import { openReplicas } from "./replicas.ts";
import { makePlace, type Place } from "./support.ts";

let place: Place;

beforeEach(async () => {
  place = await makePlace();
});

afterEach(async () => {
  await place[Symbol.asyncDispose]();
});

it("goes the whole way with every call answered by another replica", async () => {
  const generate = { count: 3000, dirty: true };
  await seedProducts({ elasticsearchUrl: inject("elasticsearchUrl"), index: place.index, generate });
  await using es = await openReplicas(place, "es-mcp");
  await using pg = await openReplicas(place, "pg-mcp");
  const { index, schema } = place;
  const { load, verified } = await runCourse({ es: es.balanced, pg: pg.balanced, index, schema, table: "t" });
  expect(load.figures.expected).toBe(3000);
  expect(accountedFor(load.figures)).toBe(3000);
  expect(load.figures.rejected).toBeGreaterThan(0);
  expect(verified).toMatchObject({ missing: 0, different: 0 });
  // Every page of rejects comes from another replica than the cursor to it.
  const seen = new Set<string>();
  const caller = new Caller({});
  let cursor: unknown;
  do {
    const { data } = await caller.call(pg.balanced, "list_rejects", {
      load_id: load.load_id,
      ...(cursor === undefined ? {} : { cursor }),
    });
    const rejects = data["rejects"];
    if (!Array.isArray(rejects)) throw new Error(`no rejects in ${JSON.stringify(data)}`);
    for (const reject of rejects) seen.add(JSON.stringify(reject));
    cursor = data["next_cursor"];
  } while (cursor !== undefined);
  expect(seen.size).toBe(load.figures.rejected);
});

it("shows, follows and cancels on every replica what one of them does", async () => {
  const generate = { count: 30_000 };
  await seedProducts({ elasticsearchUrl: inject("elasticsearchUrl"), index: place.index, generate });
  await using replicas = await openReplicas(place, "es-mcp");
  const [first, second, third] = replicas.all;
  if (first === undefined || second === undefined || third === undefined) throw new Error("three were started");
  const caller = new Caller({});
  const started = await startExport(caller, first, place.index);
  // The same call elsewhere finds the work, and starts none.
  const again = await caller.call(second, "bulk_export", { index: place.index, wait_seconds: 0 });
  expect(again.data).toMatchObject({ export_id: started.export_id, reused: true });
  expect(await followExport(caller, third, started)).toMatchObject({ documents: 30_000, expected: 30_000 });

  const other = await startExport(caller, first, place.index);
  await caller.call(second, "cancel_export", { export_id: other.export_id });
  const ended = await caller.call(third, "get_export", { export_id: other.export_id, wait_seconds: 45 });
  // Cancelled, unless it was faster: never working for ever.
  expect(["cancelled", "completed"]).toContain(ended.data["status"]);
});
