/**
 * A process that exports, and dies where its test wants it to: `export-child.ts '<ChildTask as JSON>'`. It says
 * `ready` once its modules are loaded, then one JSON line with what `startExport` answered and one with how it ended.
 */
import fs from "node:fs/promises";
import { syncBuiltinESMExports } from "node:module";
import { relative } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { createLogger, Jobs, readSettings, ToolError } from "@es-to-pg/mcp-kit";
import { openStore, StagingError } from "@es-to-pg/staging";
import { esSettings } from "../src/config.ts";
import type { Elasticsearch, EsRequest } from "../src/elasticsearch/elasticsearch.ts";
import { createElasticsearch } from "../src/elasticsearch/gateway.ts";
import { startExport } from "../src/export/start-export.ts";
import { intercept } from "./export-harness.ts";

export interface ChildTask {
  elasticsearchUrl: string;
  root: string;
  index: string;
  leaseMs: number;
  startLockStaleMs: number;
  partDocumentsMax: number;
  /** Dies with SIGKILL before this event happens for the n-th time. */
  killBefore?: { event: string; nth: number };
  /** Dies before its n-th event, counted from 1. */
  killBeforeEvent?: number;
  /** Falls asleep with SIGSTOP before this event happens for the n-th time. */
  stopBefore?: { event: string; nth: number };
  /** Asks for an export of its own even if an equal one is there. */
  fresh?: boolean;
}

/** What a child says last, if it lives to say it. */
export interface ChildEnd {
  /** Every system call on the staging root and every request that it made, in order. */
  events: string[];
  error: string | null;
}

// The only writer of this argument is the test.
const task: ChildTask = JSON.parse(process.argv[2] ?? "");
const events: string[] = [];

function event(name: string): void {
  events.push(name);
  const { killBefore, killBeforeEvent, stopBefore } = task;
  const times = events.filter((earlier) => earlier === name).length;
  if (killBeforeEvent === events.length || (killBefore?.event === name && killBefore.nth === times)) {
    process.kill(process.pid, "SIGKILL");
  }
  if (stopBefore?.event === name && stopBefore.nth === times) process.kill(process.pid, "SIGSTOP");
}

/** A path of the staging root without what is random in it, or undefined for one elsewhere. */
function inRoot(path: unknown): string | undefined {
  if (typeof path !== "string" || !path.startsWith(task.root)) return undefined;
  return relative(task.root, path)
    .replace(/exp_[0-9a-z]{26}/, "exp")
    .replace(/-[0-9a-f]{16,}/g, "")
    .replace(/\.[0-9a-f]{16}\.tmp$/, "tmp");
}

/** Makes every later call of `node:fs/promises` on the root, from whatever module, an event. */
function watchFiles(): void {
  const { open } = fs;
  fs.open = async (path, flags, mode) => {
    const name = inRoot(path);
    if (name !== undefined) event(`open ${name}`);
    const handle = await open(path, flags, mode);
    if (name === undefined) return handle;
    const sync = handle.sync.bind(handle);
    handle.sync = async () => {
      event(`sync ${name}`);
      await sync();
    };
    const write: unknown = Reflect.get(handle, "write");
    if (typeof write !== "function") throw new Error("a file handle writes");
    Object.assign(handle, {
      write: (...given: unknown[]) => {
        event(`write ${name}`);
        return Reflect.apply(write, handle, given);
      },
    });
    return handle;
  };
  for (const call of ["mkdir", "rename", "rm"] as const) {
    const real = fs[call];
    Object.assign(fs, {
      [call]: async (...given: unknown[]) => {
        const name = inRoot(call === "rename" ? given[1] : given[0]);
        if (name !== undefined) event(`${call} ${name}`);
        return await Reflect.apply(real, fs, given);
      },
    });
  }
  syncBuiltinESMExports();
}

function requestName({ method, path, body }: EsRequest): string {
  if (path[0] === "_search") return JSON.stringify(body).includes("_shard_doc") ? "page" : "look";
  return `${method} ${path.map((segment) => (segment === task.index ? "index" : segment)).join("/")}`;
}

async function around<T>(request: EsRequest, send: () => Promise<T>): Promise<T> {
  event(`send ${requestName(request)}`);
  const answer = await send();
  event(`got ${requestName(request)}`);
  return answer;
}

/** Makes the sending of every request, and the coming of every answer, an event. */
function watched(elasticsearch: Elasticsearch): Elasticsearch {
  return {
    ...intercept(elasticsearch, () => {}),
    json: (request, options) => around(request, () => elasticsearch.json(request, options)),
    bytes: (request, options) => around(request, () => elasticsearch.bytes(request, options)),
  };
}

function say(line: unknown): void {
  process.stdout.write(`${JSON.stringify(line)}\n`);
}

const elasticsearch = createElasticsearch(readSettings(esSettings, { ELASTICSEARCH_URL: task.elasticsearchUrl }));
const jobs = new Jobs();
// Connects; a machine that is busy with other cases may take more than one try.
for (let tries = 1; ; tries++) {
  try {
    await elasticsearch.clusterUuid({ signal: AbortSignal.timeout(60_000) });
    break;
  } catch (error) {
    if (tries === 5) throw error;
  }
}
watchFiles();
say("ready");
let failure: string | null = null;
try {
  const started = await startExport(
    {
      elasticsearch: watched(elasticsearch),
      store: await openStore({ url: `file://${task.root}`, leaseMs: task.leaseMs }),
      jobs,
      slicesAtOnce: 2,
      logger: createLogger({ level: "error" }),
      partDocumentsMax: task.partDocumentsMax,
      startLockStaleMs: task.startLockStaleMs,
    },
    {
      index: [task.index],
      query: undefined,
      fields: undefined,
      maxDocuments: undefined,
      includeHidden: false,
      since: undefined,
    },
    { fresh: task.fresh ?? false, signal: new AbortController().signal },
  );
  say(started);
  while (jobs.isRunning(started.exportId)) await delay(5);
} catch (error) {
  if (!(error instanceof ToolError || error instanceof StagingError)) throw error;
  failure = error.code;
}
const end: ChildEnd = { events, error: failure };
say(end);
await elasticsearch.close();
