/**
 * Runs one load and stops the process at a numbered step: `kill` is SIGKILL, `stop` is SIGSTOP. Arguments come as one
 * JSON text.
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
  signal: "SIGKILL" | "SIGSTOP";
}

// oxlint-disable-next-line typescript/no-unsafe-type-assertion -- the test that starts this process wrote the text
const given = JSON.parse(process.argv[2] ?? "{}") as ChildArguments;
const store = await openStore({ url: given.stagingUrl });
const context = {
  ...openContext({ databaseUrl: given.databaseUrl, store, stateSchema: given.stateSchema }),
  onLoadStep: (step: string) => {
    if (step !== given.step) return;
    if (given.delayMs === 0) process.kill(process.pid, given.signal);
    else setTimeout(() => process.kill(process.pid, given.signal), given.delayMs);
  },
};
const started = await startLoad(context, { ...requestDefaults, ...given.request }, context.signal);
process.stdout.write(`${started.loadId}\n`);
await started.ended;
await context.postgres.close();
process.stdout.write("ended\n");
