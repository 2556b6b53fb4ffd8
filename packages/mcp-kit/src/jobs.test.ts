import { expect, test, vi } from "vitest";
import { JobStopped, Jobs, waitForJob } from "./jobs.ts";
import type { ToolCall } from "./tool.ts";

/** A job that goes on until it is stopped, and tells why it was. */
function untilStopped(ended: { reason?: unknown }) {
  return (signal: AbortSignal) =>
    new Promise<void>((resolve) => {
      const stop = () => {
        ended.reason = signal.reason;
        resolve();
      };
      if (signal.aborted) stop();
      else signal.addEventListener("abort", stop);
    });
}

test("runs a job until it ends", async () => {
  const jobs = new Jobs();
  const { promise, resolve } = Promise.withResolvers<void>();
  jobs.start("load_1", () => promise);
  expect(jobs.isRunning("load_1")).toBe(true);
  resolve();
  await vi.waitFor(() => expect(jobs.isRunning("load_1")).toBe(false));
});

test("cancels with a reason and waits until the job has settled", async () => {
  const jobs = new Jobs();
  const ended: { reason?: unknown } = {};
  jobs.start("load_1", untilStopped(ended));
  expect(await jobs.cancel("load_1")).toBe(true);
  expect(ended.reason).toMatchObject({ name: "JobStopped", reason: "cancelled" });
  expect(jobs.isRunning("load_1")).toBe(false);
});

test("says that a job it does not run was not cancelled", async () => {
  expect(await new Jobs().cancel("load_1")).toBe(false);
});

test("refuses to run one handle twice at a time", () => {
  const jobs = new Jobs();
  jobs.start("load_1", () => new Promise(() => {}));
  expect(() => jobs.start("load_1", async () => {})).toThrow("running already");
});

test("stops every job at shutdown, and those that start after it", async () => {
  const jobs = new Jobs();
  const first: { reason?: unknown } = {};
  const second: { reason?: unknown } = {};
  jobs.start("load_1", untilStopped(first));
  await jobs.shutdown();
  jobs.start("load_2", untilStopped(second));
  await jobs.shutdown();
  expect(first.reason).toMatchObject({ reason: "shutdown" });
  expect(second.reason).toMatchObject({ reason: "shutdown" });
});

test("reports a job that throws, but not one that ends by being stopped", async () => {
  const failures: [string, unknown][] = [];
  const jobs = new Jobs((handle, error) => failures.push([handle, error]));
  const bug = new Error("bug");
  jobs.start("load_1", () => {
    throw bug;
  });
  jobs.start("load_2", async () => {
    throw new JobStopped("cancelled");
  });
  await vi.waitFor(() => expect(jobs.isRunning("load_1") || jobs.isRunning("load_2")).toBe(false));
  expect(failures).toEqual([["load_1", bug]]);
});

function call(signal = new AbortController().signal) {
  return { signal, progress: vi.fn<ToolCall["progress"]>() };
}

test("waits for the end and reports each state on the way", async () => {
  let done = 0;
  const waiting = call();
  const state = await waitForJob({
    read: async () => ({ done: ++done }),
    isDone: (read) => read.done === 3,
    waitSeconds: 20,
    call: waiting,
    progress: (read) => ({ done: read.done, total: 3 }),
    pollIntervalMs: 1,
  });
  expect(state).toEqual({ done: 3 });
  expect(waiting.progress.mock.calls).toEqual([
    [{ done: 1, total: 3 }],
    [{ done: 2, total: 3 }],
    [{ done: 3, total: 3 }],
  ]);
});

test("reads the state at the moment a job of this process ends", async () => {
  const jobs = new Jobs();
  const { promise, resolve } = Promise.withResolvers<void>();
  let state = "working";
  jobs.start("load_1", async () => {
    await promise;
    state = "completed";
  });
  let reads = 0;
  const order: string[] = [];
  const read = async (): Promise<string> => {
    // The pause after the third look is one of 100 ms.
    if (++reads === 3) {
      setTimeout(() => order.push("the next look would be due"), 90);
      setImmediate(() => resolve());
    }
    return state;
  };
  const end = jobs.end("load_1");
  await waitForJob({ read, isDone: (seen) => seen === "completed", waitSeconds: 40, call: call(), end });
  order.push("answered");
  expect({ order, reads }).toEqual({ order: ["answered"], reads: 4 });
  expect(jobs.end("load_1")).toBeUndefined();
});

test("reads once and answers at once where nothing is to be waited for", async () => {
  const read = vi.fn<() => Promise<string>>(async () => "working");
  await waitForJob({ read, isDone: () => false, waitSeconds: 0, call: call() });
  expect(read).toHaveBeenCalledTimes(1);
});

test("reads once more when the time is up", async () => {
  const read = vi.fn<() => Promise<string>>(async () => "working");
  const startedAt = performance.now();
  await waitForJob({ read, isDone: () => false, waitSeconds: 0.05, call: call() });
  expect(performance.now() - startedAt).toBeGreaterThanOrEqual(49);
  expect(read.mock.calls.length).toBeGreaterThan(1);
});

test("stops waiting when the caller goes away", async () => {
  const controller = new AbortController();
  setTimeout(() => controller.abort(), 10);
  const state = await waitForJob({
    read: async () => "working",
    isDone: () => false,
    waitSeconds: 45,
    call: call(controller.signal),
  });
  expect(state).toBe("working");
});

test("tells how many a second, after the caller's own words", async () => {
  const messages: (string | undefined)[] = [];
  let done = 0;
  await waitForJob({
    read: async () => ++done,
    isDone: (state) => state === 12,
    waitSeconds: 10,
    call: { signal: new AbortController().signal, progress: ({ message }) => messages.push(message) },
    progress: (state) => ({ done: state, total: 12, ...(state % 2 === 0 ? { message: "merging" } : {}) }),
    pollIntervalMs: 50,
  });
  expect(messages[1]).toBe("merging");
  expect(messages.at(-1)).toMatch(/^merging, [\d,]+ per second$/);
  expect(messages.at(-2)).toMatch(/^[\d,]+ per second$/);
});
