/**
 * The process of one contender: it gets its task by message, makes everything ready, says so, waits for the word, works
 * and reports. CPU and memory are read from outside, as those of a server are.
 */
import { z } from "zod";
import { etlTasks } from "./etl-tasks.ts";
import { exportTasks } from "./export-tasks.ts";
import { loadTasks } from "./load-tasks.ts";
import { taskOptions } from "./task.ts";

const tasks = { ...exportTasks, ...loadTasks, ...etlTasks };
const startMessage = z.object({ task: z.string(), options: taskOptions });

async function work(message: unknown): Promise<void> {
  const { task, options } = startMessage.parse(message);
  const prepare = tasks[task];
  if (prepare === undefined) throw new Error(`no task of the name ${task}`);
  const run = await prepare(options);
  const go = new Promise<void>((resolve) => process.once("message", () => resolve()));
  process.send?.({ ready: true });
  await go;
  process.send?.({ moved: await run() });
}

// Whoever started this process ends it by closing the channel, after the last look at its memory.
process.once("disconnect", () => process.exit(0));
process.once("message", (message) => {
  work(message).catch((error: unknown) => {
    process.send?.({ failed: error instanceof Error ? (error.stack ?? error.message) : String(error) });
  });
});
