/**
 * Runs one load, and at a numbered step, or when two parts are under way, ends the process, puts it to sleep, or tells
 * where it is. Arguments come as one JSON text.
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
  /** The n-th time that a part begins, or is about to be committed, beside another one; in the place of `step`. */
  beside?: { when: "begin" | "commit"; nth: number };
  partsAtOnce?: number;
  delayMs: number;
  signal: "SIGKILL" | "SIGSTOP" | "tell";
}

// oxlint-disable-next-line typescript/no-unsafe-type-assertion -- the test that starts this process wrote the text
const given = JSON.parse(process.argv[2] ?? "{}") as ChildArguments;
/** Parts that have begun and not come to their commit. */
const underWay = new Set<string>();
let met = 0;
let hasStruck = false;

/** Whether this step is the one that was asked for. */
function isReached(step: string): boolean {
  const [, part, commit] = /^2\.(\d+)( commit)?$/.exec(step) ?? [];
  if (given.beside === undefined || part === undefined) return step === given.step;
  underWay.add(part);
  const isBeside = underWay.size > 1 && (commit === undefined) === (given.beside.when === "begin");
  if (commit !== undefined) underWay.delete(part);
  if (isBeside) met++;
  return isBeside && met === given.beside.nth;
}

const store = await openStore({ url: given.stagingUrl });
const opened = openContext({ databaseUrl: given.databaseUrl, store, stateSchema: given.stateSchema });
const context = {
  ...opened,
  settings: { ...opened.settings, PG_MCP_PARTS_AT_ONCE: given.partsAtOnce ?? 2 },
  onLoadStep: (step: string) => {
    // A part that was worked beside the first may begin again; who was put to sleep and woken shall not sleep again.
    if (hasStruck || !isReached(step)) return;
    hasStruck = true;
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
