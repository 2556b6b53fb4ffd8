import { type EngineUsage, readEngines } from "./engine-usage.ts";
import { readProcess } from "./process-usage.ts";

/** What a contender moved. */
export interface Moved {
  documents: number;
  bytes: number;
}

/** Something that is measured, ready to begin, in processes of its own. */
export interface Contender {
  pids: readonly number[];
  run(): Promise<Moved>;
}

/** One run of one contender. CPU is the contender's own processes' alone; memory is the largest of them. */
export interface Measured extends Moved {
  wallSeconds: number;
  cpuSeconds: number;
  elasticsearchCpuSeconds: number | null;
  postgresCpuSeconds: number | null;
  walBytes: number | null;
  /** Highest memory of any process, from its start. */
  rssBytesMax: number;
  /** Memory of the largest process, every `sampleIntervalMs`. */
  rssBytes: number[];
}

/** Time between two looks at a process's memory. */
const sampleIntervalMs = 200;

/** Runs a contender once and reads what it cost. */
export async function measure(
  contender: Contender,
  engines: { elasticsearchUrl: string; databaseUrl?: string },
): Promise<Measured> {
  const { pids } = contender;
  const cpuSeconds = (): number => pids.reduce((sum, pid) => sum + readProcess(pid).cpuSeconds, 0);
  const rss = (): number => Math.max(...pids.map((pid) => readProcess(pid).rssBytes));
  const rssBytes = [rss()];
  const enginesBefore = await readEngines(engines);
  const cpuBefore = cpuSeconds();
  const from = performance.now();
  const sampler = setInterval(() => rssBytes.push(rss()), sampleIntervalMs);
  let moved: Moved;
  try {
    moved = await contender.run();
  } finally {
    clearInterval(sampler);
  }
  const wallSeconds = (performance.now() - from) / 1000;
  const cpuAfter = cpuSeconds();
  rssBytes.push(rss());
  const used = difference(await readEngines(engines), enginesBefore);
  const highWater = pids.map((pid) => readProcess(pid).rssBytesMax ?? 0);
  const rssBytesMax = Math.max(...rssBytes, ...highWater);
  return { ...moved, wallSeconds, cpuSeconds: cpuAfter - cpuBefore, ...used, rssBytesMax, rssBytes };
}

function difference(after: EngineUsage, before: EngineUsage): EngineUsage {
  return {
    elasticsearchCpuSeconds: between(after.elasticsearchCpuSeconds, before.elasticsearchCpuSeconds),
    postgresCpuSeconds: between(after.postgresCpuSeconds, before.postgresCpuSeconds),
    walBytes: between(after.walBytes, before.walBytes),
  };
}

function between(later: number | null, earlier: number | null): number | null {
  return later === null || earlier === null ? null : later - earlier;
}

/** The middle of several runs by CPU time: wall time depends on who else uses the machine. */
export function middleRun(runs: readonly Measured[]): Measured {
  const sorted = runs.toSorted((a, b) => a.cpuSeconds - b.cpuSeconds);
  const middle = sorted[Math.floor((sorted.length - 1) / 2)];
  if (middle === undefined) throw new Error("nothing was measured");
  return { ...middle, rssBytesMax: Math.max(...runs.map((run) => run.rssBytesMax)) };
}
