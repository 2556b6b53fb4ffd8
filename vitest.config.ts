import { availableParallelism } from "node:os";
import { defineConfig } from "vitest/config";
import { BaseSequencer, type TestSpecification } from "vitest/node";
import { ClosingLine } from "./packages/engines/src/closing-line.ts";

/** Files that take a minute or more, most of it waiting: begun last, they would be waited for alone. */
const long = ["safety", "load-kill", "questions", "eval", "interrupted"];

function isLong({ moduleId }: TestSpecification): boolean {
  return long.some((name) => moduleId.includes(`/test/${name}.`));
}

class LongFirst extends BaseSequencer {
  override async sort(files: TestSpecification[]): Promise<TestSpecification[]> {
    const sorted = await super.sort(files);
    return [...sorted.filter(isLong), ...sorted.filter((file) => !isLong(file))];
  }
}

/** Engines are started once for the whole run by `packages/engines`, and only if an integration project runs. */
export default defineConfig({
  test: {
    reporters: ["default", new ClosingLine()],
    // Two at least: the tests wait for engines and for times to run out more than they compute.
    sequence: { sequencer: LongFirst },
    maxWorkers: Math.max(2, availableParallelism() - 1),
    projects: [
      {
        test: {
          name: "unit",
          include: ["packages/*/src/**/*.test.ts", "seed/src/**/*.test.ts"],
        },
      },
      {
        // The bundle against a platform and a cluster that stand in for the real ones: no image of either can be had here.
        test: {
          name: "archestra",
          include: ["archestra/src/**/*.test.ts", "archestra/test/**/*.test.ts"],
          exclude: ["docker", "kubectl", "python"].map((kind) => `archestra/test/**/*.${kind}.test.ts`),
          testTimeout: 60_000,
        },
      },
      {
        test: {
          name: "integration",
          include: ["packages/*/test/**/*.integration.test.ts"],
          globalSetup: ["packages/engines/src/vitest.ts"],
          testTimeout: 60_000,
          hookTimeout: 120_000,
        },
      },
    ],
  },
});
