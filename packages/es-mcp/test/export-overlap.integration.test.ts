import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { afterAll, expect, inject, it } from "vitest";
import { startExport } from "../src/export/start-export.ts";
import { randomName, stagedLines, TestIndices } from "./export-harness.ts";
import { type KillCase, openCase, requestFor } from "./export-kill.ts";
import { forbidden, openProxy } from "./proxy.ts";

const indices = new TestIndices(inject("elasticsearchUrl"));
afterAll(() => indices.dispose());

async function exported(kill: KillCase, since?: string) {
  const { exportId } = await startExport(kill.context, requestFor(kill.task.index, { since }), {
    fresh: true,
    signal: AbortSignal.timeout(30_000),
  });
  while (kill.context.jobs.isRunning(exportId)) await new Promise((resolve) => setTimeout(resolve, 10));
  const manifest = await kill.store.read(exportId);
  expect(manifest.status).toBe("completed");
  const ids = (await stagedLines(kill.root, manifest)).map(({ id }) => id).sort();
  return { exportId, ids, manifest };
}

/** As if the export had been made two hours ago. */
async function age(kill: KillCase, exportId: string): Promise<void> {
  const path = join(kill.root, exportId, "manifest.json");
  const manifest = JSON.parse(await readFile(path, "utf8"));
  manifest.source.pit_time = new Date(Date.now() - 7_200_000).toISOString();
  await writeFile(path, JSON.stringify(manifest));
}

it("loses nothing between exports where it may not refresh: what may be missing comes again", async () => {
  await using proxy = await openProxy(inject("elasticsearchUrl"), ({ path }) =>
    path.endsWith("/_refresh") ? forbidden("indices:admin/refresh") : undefined,
  );
  const index = randomName("overlap");
  await indices.create(index, { settings: { number_of_replicas: 0, refresh_interval: "1h" } });
  const kill = await openCase({ elasticsearchUrl: proxy.url, index, partDocumentsMax: 1000 });
  try {
    await indices.put(index, "a", "{}");
    await indices.refresh(index);
    // Processed, and not to be seen yet.
    await indices.put(index, "b", "{}");
    const first = await exported(kill);
    expect(first.ids).toEqual(["a"]);
    expect(first.manifest.watermark).toMatchObject([{ checkpoint: -1, processed: 1 }]);
    expect(first.manifest.warnings.join()).toContain("repeats everything");

    await age(kill, first.exportId);
    await indices.refresh(index);
    await indices.put(index, "c", "{}");
    const second = await exported(kill, first.exportId);
    expect(second.ids).toEqual(["a", "b"]);
    expect(second.manifest.watermark).toMatchObject([{ checkpoint: 1, processed: 2 }]);

    await indices.refresh(index);
    await indices.put(index, "d", "{}");
    await indices.refresh(index);
    const third = await exported(kill, second.exportId);
    expect(third.ids).toEqual(["c", "d"]);
  } finally {
    await kill.dispose();
  }
});
