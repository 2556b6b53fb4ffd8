import { randomBytes } from "node:crypto";
import { mkdir, mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { parseArgs } from "node:util";
import { acquireEngines, type Engines } from "@es-to-pg/engines";
import { requestElasticsearch, seedProducts } from "@es-to-pg/seed";
import { z } from "zod";
import { elasticsearchEnvironment } from "../elasticsearch-environment.ts";
import { ProgressBar } from "../progress-bar.ts";
import { openSession, type Session } from "../servers.ts";
import { type Contender, type Measured, measure, middleRun } from "./measure.ts";
import { describeMachine, formatMeasured, type Line } from "./report.ts";
import { startTask, type TaskOptions } from "./task.ts";

/** What a benchmark was asked for. */
export interface BenchOptions {
  documents: number;
  rounds: number;
  json: boolean;
  /** An index that stays; without it, one is written and removed. */
  index: string | undefined;
  /** Contenders to run, by parts of their names; all without it. */
  only: string[];
  /** A directory for CPU profiles of the servers. */
  profile: string | undefined;
}

/** One contender of a benchmark: how it is made ready, and what to check and clean after it. */
export interface Entry {
  name: string;
  floor?: true;
  usesPostgres?: true;
  /** Before it is made ready: what it moves into must be empty, for one. */
  before?(): Promise<void>;
  open(): Promise<Contender & AsyncDisposable>;
  /** Throws if the contender did not do what it should. */
  after?(measured: Measured): Promise<void>;
}

/** Engines, an index of generated documents and a directory, for as long as the benchmark lasts. */
export interface Place extends AsyncDisposable {
  engines: Engines;
  index: string;
  directory: string;
  taskOptions: TaskOptions;
  /** Undoes this too when the benchmark ends or is interrupted, before what was there earlier. */
  atEnd(step: () => Promise<unknown>): void;
  /** Starts a built server in its own process, as a host does. */
  openServer(server: "es-mcp" | "pg-mcp", env?: Record<string, string>): Promise<Session>;
}

/** Documents that are read before anything is measured: the engine's compiler needs some work to see what is hot. */
const warmUpDocuments = 200_000;

/** Reads the command line of a benchmark; writes the usage and ends the process where that is what it asks for. */
export function benchOptions(what: string, documentsDefault = 1_000_000): BenchOptions {
  const usage = `${what}
  --documents N     documents of about 400 bytes (${documentsDefault})
  --rounds N        run all contenders N times and show the middle run of each (1)
  --index NAME      use this index, or write it, and leave it there
  --only A,B        only contenders whose names hold one of these
  --profile DIR     write CPU profiles of the servers there
  --json            print JSON
`;
  const { values } = parseArgs({
    options: {
      documents: { type: "string", default: String(documentsDefault) },
      rounds: { type: "string", default: "1" },
      index: { type: "string" },
      only: { type: "string" },
      profile: { type: "string" },
      json: { type: "boolean", default: false },
      help: { type: "boolean", default: false },
    },
  });
  const { help, json, index, profile } = values;
  const documents = Number(values.documents);
  const rounds = Number(values.rounds);
  const legal = Number.isSafeInteger(documents) && documents > 0 && Number.isSafeInteger(rounds) && rounds > 0;
  if (help || !legal) {
    (help ? process.stdout : process.stderr).write(usage);
    process.exit(help ? 0 : 2);
  }
  return { documents, rounds, json, index, profile, only: values.only?.split(",") ?? [] };
}

/** Brings up what a benchmark needs. */
async function openPlace(options: BenchOptions): Promise<Place> {
  const undo: (() => Promise<unknown>)[] = [];
  // An interruption and the failure that comes of it meet here: both wait for the one way down.
  let disposed: Promise<void> | undefined;
  const dispose = (): Promise<void> => {
    disposed ??= (async () => {
      for (const step of undo.toReversed()) {
        await step().catch((error: unknown) => process.stderr.write(`while cleaning up: ${String(error)}\n`));
      }
    })();
    return disposed;
  };
  try {
    const engines = await acquireEngines();
    undo.push(() => engines.stop());
    const directory = await mkdtemp(join(tmpdir(), "es-to-pg-bench-"));
    undo.push(() => rm(directory, { recursive: true, force: true }));
    const { elasticsearchUrl, databaseUrl } = engines;
    const index = options.index ?? `bench-${randomBytes(5).toString("hex")}`;
    if (options.index === undefined) {
      undo.push(() => requestElasticsearch(elasticsearchUrl, { method: "DELETE", path: index }, [404]));
    }
    await fillIndex(elasticsearchUrl, index, options.documents);
    const place: Place = {
      engines,
      index,
      directory,
      atEnd: (step) => void undo.push(step),
      taskOptions: { elasticsearchUrl, databaseUrl, index, directory, documentsMax: options.documents },
      async openServer(server, env = {}) {
        const staging = join(directory, "staging");
        await mkdir(staging, { recursive: true, mode: 0o700 });
        const own = server === "es-mcp" ? elasticsearchEnvironment(elasticsearchUrl) : { DATABASE_URL: databaseUrl };
        const profiling =
          options.profile === undefined ? {} : { NODE_OPTIONS: `--cpu-prof --cpu-prof-dir=${options.profile}` };
        return openSession({
          server,
          env: { ...own, ...profiling, STAGING_URL: pathToFileURL(staging).href, ...env },
        });
      },
      [Symbol.asyncDispose]: dispose,
    };
    await warmUp(place);
    return place;
  } catch (error) {
    await dispose();
    throw error;
  }
}

const countAnswer = z.object({ count: z.number() });

async function fillIndex(elasticsearchUrl: string, index: string, documents: number): Promise<void> {
  const path = encodeURIComponent(index);
  const counted = await requestElasticsearch(elasticsearchUrl, { method: "GET", path: `${path}/_count` }, [404]);
  const found = countAnswer.safeParse(JSON.parse(counted)).data?.count;
  if (found === documents) return;
  if (found !== undefined) throw new Error(`the index ${index} holds ${found} documents, not ${documents}`);
  const bar = new ProgressBar(process.stderr);
  await seedProducts({
    elasticsearchUrl,
    index,
    generate: { count: documents },
    onProgress: (progress) => bar.show("seeding", { progress, total: documents }),
  });
  bar.clear();
  await mergesSettled(elasticsearchUrl, path);
}

const mergesAnswer = z.object({ _all: z.object({ total: z.object({ merges: z.object({ current: z.number() }) }) }) });

/** Merges that run on after writing would be counted as the first contender's. */
async function mergesSettled(elasticsearchUrl: string, path: string): Promise<void> {
  for (;;) {
    const answer = await requestElasticsearch(elasticsearchUrl, { method: "GET", path: `${path}/_stats/merge` });
    if (mergesAnswer.parse(JSON.parse(answer))._all.total.merges.current === 0) return;
    await new Promise((resolve) => setTimeout(resolve, 500));
  }
}

/** Reads the index until about `warmUpDocuments` documents have been read. */
async function warmUp({ taskOptions }: Place): Promise<void> {
  for (let read = 0; read < warmUpDocuments; read += taskOptions.documentsMax) {
    await using task = await startTask("read-raw", taskOptions);
    await task.run();
  }
}

/** Runs the contenders round by round, so that all meet the machine in like moods, and prints the result. */
export async function runBench(
  title: string,
  options: BenchOptions,
  place: Place,
  entries: readonly Entry[],
): Promise<void> {
  const wanted = entries.filter(
    ({ name }) => options.only.length === 0 || options.only.some((part) => name.includes(part)),
  );
  const bar = new ProgressBar(process.stderr);
  const runs = new Map<Entry, Measured[]>(wanted.map((entry) => [entry, []]));
  const machineBefore = describeMachine();
  for (let round = 1; round <= options.rounds; round++) {
    for (const entry of wanted) {
      bar.show(`${entry.name}, round ${round}`, { progress: wanted.indexOf(entry), total: wanted.length });
      runs.get(entry)?.push(await runEntry(entry, place));
    }
  }
  bar.clear();
  const lines: Line[] = wanted.map((entry) => ({
    name: entry.name,
    ...(entry.floor === undefined ? {} : { floor: entry.floor }),
    measured: middleRun(runs.get(entry) ?? []),
  }));
  const machine = { before: machineBefore, after: describeMachine() };
  if (options.json) {
    const result = {
      title,
      documents: options.documents,
      machine,
      contenders: wanted.map((entry) => ({ name: entry.name, floor: entry.floor === true, runs: runs.get(entry) })),
    };
    process.stdout.write(`${JSON.stringify(result, null, 2)}\n`);
    return;
  }
  process.stdout.write(
    `${title}: ${options.documents.toLocaleString("en")} documents, ${options.rounds} round(s)\n` +
      `before: ${machine.before}\nafter:  ${machine.after}\n\n${formatMeasured(lines)}\n`,
  );
}

async function runEntry(entry: Entry, place: Place): Promise<Measured> {
  await entry.before?.();
  await using contender = await entry.open();
  // What is interrupted holds locks on what has to be removed. A number is forgotten while it surely is the contender's.
  const running = new Set(contender.pids);
  place.atEnd(async () => {
    for (const pid of running) process.kill(pid);
  });
  try {
    const { elasticsearchUrl, databaseUrl } = place.engines;
    // What does not touch PostgreSQL shall not be shown what others do there.
    const measured = await measure(contender, { elasticsearchUrl, ...(entry.usesPostgres ? { databaseUrl } : {}) });
    await entry.after?.(measured);
    return measured;
  } finally {
    running.clear();
  }
}

/** Ends the process with the benchmark's outcome; everything that was brought up is taken down first. */
export async function main(options: BenchOptions, bench: (place: Place) => Promise<void>): Promise<never> {
  let exitCode = 0;
  try {
    await using place = await openPlace(options);
    for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const) {
      process.once(signal, () => void place[Symbol.asyncDispose]().then(() => process.exit(130)));
    }
    await bench(place);
  } catch (error) {
    process.stderr.write(
      `The benchmark stopped: ${error instanceof Error ? (error.stack ?? error.message) : String(error)}\n`,
    );
    exitCode = 1;
  }
  process.exit(exitCode);
}
