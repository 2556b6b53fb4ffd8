/**
 * Runs one load, and at a numbered step ends the process, puts it to sleep, or tells where it is. Arguments come as
 * one JSON text.
 */
import { openStore } from "@es-to-pg/staging";
import { type LoadRequest, startLoad } from "../src/load/start.ts";
import { openContext, requestDefaults } from "./load-harness.ts";

interface ChildArguments {
  databaseUrl: string;
  stagingUrl: string;
  stateSchema: string;
  request: Partial<LoadRequest> & { table: string };
  step: string;
  delayMs: number;
  signal: "SIGKILL" | "SIGSTOP" | "tell";
}

// oxlint-disable-next-line typescript/no-unsafe-type-assertion -- the test that starts this process wrote the text
const given = JSON.parse(process.argv[2] ?? "{}") as ChildArguments;
const store = await openStore({ url: given.stagingUrl });
const context = {
  ...openContext({ databaseUrl: given.databaseUrl, store, stateSchema: given.stateSchema }),
  onLoadStep: (step: string) => {
    if (step !== given.step) return;
    const { signal, delayMs } = given;
    if (signal === "tell") process.stdout.write(`at ${step}\n`);
    else if (delayMs === 0) process.kill(process.pid, signal);
    else setTimeout(() => process.kill(process.pid, signal), delayMs);
  },
};
const started = await startLoad(context, { ...requestDefaults, ...given.request }, context.signal);
process.stdout.write(`${started.loadId}\n`);
await started.ended;
await context.postgres.close();
process.stdout.write("ended\n");
