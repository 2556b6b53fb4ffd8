import { setTimeout as sleep } from "node:timers/promises";
import { z } from "zod";
import { untraced } from "./telemetry/operation.ts";
import type { ToolCall } from "./tool.ts";

/** The abort reason of a job's signal: a person cancelled it, or the process ends and another may take it over. */
export class JobStopped extends Error {
  override readonly name = "JobStopped";
  readonly reason: "cancelled" | "shutdown";

  constructor(reason: "cancelled" | "shutdown") {
    super(reason === "cancelled" ? "The job was cancelled." : "The server is stopping.");
    this.reason = reason;
  }
}

interface RunningJob {
  controller: AbortController;
  /** Settles with the job, and never rejects. */
  settled: Promise<void>;
}

/**
 * Runs work that outlives the call that started it. What a job is and how it ended lives in the store of its domain;
 * here is only what runs in this process.
 */
export class Jobs {
  readonly #running = new Map<string, RunningJob>();
  readonly #onFailure: (handle: string, error: unknown) => void;
  #stopping = false;

  /** `onFailure` hears of a job that threw instead of recording its own outcome, which is a programmer's error. */
  constructor(onFailure: (handle: string, error: unknown) => void = () => {}) {
    this.#onFailure = onFailure;
  }

  /** Starts `run` in the background with a signal of its own. `run` records its own outcome, also when it is aborted. */
  start(handle: string, run: (signal: AbortSignal) => Promise<void>): void {
    if (this.#running.has(handle)) throw new Error(`job ${handle} is running already`);
    const controller = new AbortController();
    if (this.#stopping) controller.abort(new JobStopped("shutdown"));
    const settled = this.#settle(handle, run, controller.signal);
    this.#running.set(handle, { controller, settled });
  }

  /** Whether the job runs in this process. Another process may run it all the same: ask its lease. */
  isRunning(handle: string): boolean {
    return this.#running.has(handle);
  }

  /** Settles with a job of this process, and never rejects; undefined where it does not run here. */
  end(handle: string): Promise<void> | undefined {
    return this.#running.get(handle)?.settled;
  }

  /** Aborts the job and waits until it has settled; false if it does not run in this process. */
  async cancel(handle: string): Promise<boolean> {
    const job = this.#running.get(handle);
    if (job === undefined) return false;
    job.controller.abort(new JobStopped("cancelled"));
    await job.settled;
    return true;
  }

  /** Aborts every job, also those started from now on, and waits until all have settled. The caller bounds the wait. */
  async shutdown(): Promise<void> {
    this.#stopping = true;
    while (this.#running.size > 0) {
      const jobs = [...this.#running.values()];
      for (const { controller } of jobs) controller.abort(new JobStopped("shutdown"));
      await Promise.all(jobs.map(({ settled }) => settled));
    }
  }

  async #settle(handle: string, run: (signal: AbortSignal) => Promise<void>, signal: AbortSignal): Promise<void> {
    // A turn later, so that `start` has noted the job before `run` can end, and so that a throw at once is caught here too.
    await Promise.resolve();
    try {
      await run(signal);
    } catch (error) {
      if (!(error instanceof JobStopped)) this.#onFailure(handle, error);
    } finally {
      this.#running.delete(handle);
    }
  }
}

/** Longest time that one call may wait for a job: clients give up after 60 s, and not all of them say so. */
export const WAIT_SECONDS_MAX = 45;

/** The input field `wait_seconds` of every tool that starts or shows a job. */
export const waitSeconds = z
  .int()
  .min(0)
  .max(WAIT_SECONDS_MAX)
  .optional()
  .describe("Seconds to wait; 0 answers at once.");

/**
 * Reads a job's state until it is done, the time is up or the caller has gone away, and returns the last state read.
 * Progress goes to a caller who asked for it.
 */
export async function waitForJob<State>(options: {
  read: () => Promise<State>;
  isDone: (state: State) => boolean;
  waitSeconds: number;
  call: Pick<ToolCall, "signal" | "progress">;
  progress?: (state: State) => { done: number; total?: number; message?: string };
  /** The end of the job where it runs in this process (`Jobs.end`): the state is read at that moment and not at the next look. */
  end?: Promise<void> | undefined;
  /** Longest pause between two reads; the first ones are shorter, so that a short job is answered at once. Default 500. */
  pollIntervalMs?: number;
}): Promise<State> {
  const { read, isDone, call, progress, pollIntervalMs = 500 } = options;
  const deadline = performance.now() + Math.min(options.waitSeconds, WAIT_SECONDS_MAX) * 1000;
  let pauseMs = Math.min(25, pollIntervalMs);
  let { end } = options;
  const rate = rateMeter();
  for (;;) {
    const state = await untraced(read);
    if (progress !== undefined) call.progress(withRate(progress(state), rate));
    const leftMs = deadline - performance.now();
    if (isDone(state) || leftMs <= 0 || call.signal.aborted) return state;
    const ended = await pause(Math.min(pauseMs, leftMs), call.signal, end);
    // Once it has ended it would end every later pause too.
    if (ended) end = undefined;
    pauseMs = Math.min(pauseMs * 2, pollIntervalMs);
  }
}

/** Shortest time over which a rate says something, in milliseconds. */
const RATE_MS_MIN = 200;

/** How many a second, since the first look at the job. */
function rateMeter(): (done: number) => number | undefined {
  let first: { done: number; at: number } | undefined;
  return (done) => {
    first ??= { done, at: performance.now() };
    const elapsedMs = performance.now() - first.at;
    return elapsedMs < RATE_MS_MIN || done <= first.done ? undefined : ((done - first.done) / elapsedMs) * 1000;
  };
}

function withRate(
  update: { done: number; total?: number; message?: string },
  rate: (done: number) => number | undefined,
): { done: number; total?: number; message?: string } {
  const perSecond = rate(update.done);
  if (perSecond === undefined) return update;
  const shown = `${Math.round(perSecond).toLocaleString("en")} per second`;
  return { ...update, message: update.message === undefined ? shown : `${update.message}, ${shown}` };
}

/** Waits, or returns early when the signal aborts or the job ends; true for the latter. */
async function pause(durationMs: number, signal: AbortSignal, end: Promise<void> | undefined): Promise<boolean> {
  const slept = new AbortController();
  try {
    return await Promise.race([
      sleep(durationMs, false, { signal: AbortSignal.any([signal, slept.signal]) }),
      ...(end === undefined ? [] : [end.then(() => true)]),
    ]);
  } catch (error) {
    if (!signal.aborted) throw error;
    return false;
  } finally {
    slept.abort();
  }
}
