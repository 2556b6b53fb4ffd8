import { once } from "node:events";
import { afterAll, expect, inject, it } from "vitest";
import { randomName, TestIndices } from "./export-harness.ts";
import {
  expectExact,
  expectTidy,
  exportToTheEnd,
  indexCorpus,
  inParallel,
  killSteps,
  openCase,
  SMALL,
  spawnChild,
} from "./export-kill.ts";

/** A selection; `npm run test:chaos:export` has all steps, each system call, and random moments. */
const SELECTED = new Set([
  "3, stored and the start still locked",
  "4, a part open",
  "5, the part with its name and in no list",
  "6, the list beside",
  "8, the snapshot closed",
  "10, ended with its own directory there",
]);

const indices = new TestIndices(inject("elasticsearchUrl"));
afterAll(() => indices.dispose());

it("goes on exactly after kill -9 at its steps, and leaves nothing behind", async () => {
  const corpus = await indexCorpus(indices, randomName("killed"), SMALL.documents);
  const selected = killSteps.filter(([step]) => SELECTED.has(step));
  expect(selected.length).toBe(SELECTED.size);
  await inParallel(selected, 3, async ([step, event, nth]) => {
    const kill = await openCase({ elasticsearchUrl: inject("elasticsearchUrl"), index: corpus.index, ...SMALL });
    try {
      const { process: child } = spawnChild({ ...kill.task, killBefore: { event, nth } });
      await once(child, "exit");
      expect([step, child.signalCode]).toEqual([step, "SIGKILL"]);
      const manifest = await exportToTheEnd(kill.context, corpus.index);
      await expectExact(kill.root, manifest, corpus);
      await expectTidy(kill, manifest);
    } finally {
      await kill.dispose();
    }
  });
  expect(await indices.openContexts(corpus.index)).toBe(0);
});
