import { type ChildProcess, fork } from "node:child_process";
import { once } from "node:events";
import { fileURLToPath } from "node:url";
import { z } from "zod";
import type { Contender, Moved } from "./measure.ts";

/** What a contender's process is told. Each task takes what it needs. */
export const taskOptions = z.object({
  elasticsearchUrl: z.string(),
  databaseUrl: z.string().optional(),
  index: z.string(),
  /** Documents to move, where a task is too slow for all of them. */
  documentsMax: z.int(),
  /** A directory of its own. */
  directory: z.string(),
  /** Part files of a staged export. */
  parts: z.array(z.string()).default([]),
  /** COPY text made before. */
  copyFile: z.string().default(""),
  schema: z.string().default(""),
});
export type TaskOptions = z.input<typeof taskOptions>;

/** Makes ready what is not measured and returns what is. */
export type Task = (options: z.output<typeof taskOptions>) => Promise<() => Promise<Moved>>;

const reply = z.union([
  z.object({ ready: z.literal(true) }),
  z.object({ moved: z.object({ documents: z.number(), bytes: z.number() }) }),
  z.object({ failed: z.string() }),
]);

/** Starts a task in a process of its own and waits until it is ready. */
export async function startTask(task: string, options: TaskOptions): Promise<Contender & AsyncDisposable> {
  const child = fork(fileURLToPath(new URL("contender-process.js", import.meta.url)), { serialization: "advanced" });
  const stop = async (): Promise<void> => {
    if (child.exitCode !== null || child.signalCode !== null) return;
    const exited = once(child, "exit");
    if (child.connected) child.disconnect();
    await exited;
  };
  try {
    child.send({ task, options });
    await nextReply(child);
    if (child.pid === undefined) throw new Error("a process without an id");
    return {
      pids: [child.pid],
      run: async () => {
        child.send({ go: true });
        const answer = await nextReply(child);
        if (!("moved" in answer)) throw new Error("the task is ready twice");
        return answer.moved;
      },
      [Symbol.asyncDispose]: stop,
    };
  } catch (error) {
    await stop();
    throw error;
  }
}

async function nextReply(child: ChildProcess): Promise<{ ready: true } | { moved: Moved }> {
  const ended = new AbortController();
  const exited = once(child, "exit", { signal: ended.signal }).then(([code, signal]): never => {
    throw new Error(`the contender's process ended with ${String(code ?? signal)}`);
  });
  try {
    const [message]: unknown[] = await Promise.race([once(child, "message", { signal: ended.signal }), exited]);
    const answer = reply.parse(message);
    if ("failed" in answer) throw new Error(`the contender failed: ${answer.failed}`);
    return answer;
  } finally {
    exited.catch(() => {});
    ended.abort();
  }
}
