import { setTimeout as sleep } from "node:timers/promises";
import { expect, it, onTestFinished } from "vitest";
import { repeatInBackground } from "./repeat.ts";

it("looks at once and again, whatever a look throws, until it is stopped", async () => {
  const failures: unknown[] = [];
  const looks = { begun: 0 };
  const reached = Promise.withResolvers<void>();
  const repeating = repeatInBackground({
    intervalMs: 1,
    async look(signal) {
      looks.begun++;
      if (looks.begun === 1) throw new Error("down");
      if (looks.begun < 3) return;
      reached.resolve();
      // Hangs, as a look at a database may, until the server stops.
      await new Promise<void>((_, reject) => signal.addEventListener("abort", () => reject(signal.reason)));
    },
    onFailure: (error) => failures.push(error),
  });
  onTestFinished(() => repeating.stop());
  await reached.promise;
  repeating.stop();
  await sleep(20);
  // What the stop itself makes fail is no failure.
  expect({ begun: looks.begun, failures }).toEqual({ begun: 3, failures: [new Error("down")] });
});
