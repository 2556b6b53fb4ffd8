/**
 * `npm run eval`: an agent with agent-prompt.md and both servers over stdio does the twelve tasks, and the databases are
 * asked what came of it. A model is named by EVAL_MODEL; without one, the recordings play its part.
 */
import { mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { acquireEngines } from "@es-to-pg/engines";
import { ModelFailed } from "../agent/conversation.ts";
import { formatReport, reportData } from "./report.ts";
import { type Driver, type Outcome, runTask, taskLimits } from "./run-task.ts";
import { readDriver } from "./settings.ts";
import type { Task } from "./task.ts";
import { tasks } from "./tasks/index.ts";

const usage = `Usage: npm run eval -- [options]
  --task NAME        only this task; may be given several times
  --json             the outcomes as JSON
  --transcripts DIR  write what was said and called, a file for each task
  --calls-max N      tool calls of one task, ${taskLimits.callsMax}
  --tokens-max N     tokens of one task, ${taskLimits.tokensMax}
  --minutes-max N    time of one task, ${taskLimits.durationMsMax / 60_000}
  --help

  EVAL_MODEL         the model; without it, recordings are played
  EVAL_PROTOCOL      openai (chat completions) or anthropic (messages); openai
  EVAL_BASE_URL      where it is served, as clients of the protocol take it; the protocol's maker
  EVAL_API_KEY       its key

Tasks: ${tasks.map(({ name }) => name).join(", ")}
Exit code: 0 if all tasks succeeded, 1 if not, 2 if they could not be run.
`;

const ending = new AbortController();
// Not once: npm and tsx pass on the signal that the terminal has sent already, and the second must not kill the way out.
for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const) process.on(signal, () => ending.abort());
let exitCode = 2;
try {
  exitCode = await main(ending.signal);
} catch (error) {
  if (ending.signal.aborted) exitCode = 130;
  else process.stderr.write(`${error instanceof Error ? error.message : String(error)}\n`);
}
process.exit(exitCode);

async function main(signal: AbortSignal): Promise<number> {
  const { values } = parseArgs({
    options: {
      task: { type: "string", multiple: true, default: [] },
      json: { type: "boolean", default: false },
      transcripts: { type: "string" },
      "calls-max": { type: "string", default: String(taskLimits.callsMax) },
      "tokens-max": { type: "string", default: String(taskLimits.tokensMax) },
      "minutes-max": { type: "string", default: String(taskLimits.durationMsMax / 60_000) },
      help: { type: "boolean", default: false },
    },
  });
  if (values.help) {
    process.stdout.write(usage);
    return 0;
  }
  const limits = {
    callsMax: positive("--calls-max", values["calls-max"]),
    tokensMax: positive("--tokens-max", values["tokens-max"]),
    durationMsMax: positive("--minutes-max", values["minutes-max"]) * 60_000,
  };
  const chosen = chooseTasks(values.task);
  const driver = readDriver(process.env);
  process.stderr.write(`${describeDriver(driver)}\n`);
  const engines = await acquireEngines();
  const outcomes: Outcome[] = [];
  try {
    for (const task of chosen) {
      const outcome = await runTask(task, { engines, driver, limits, signal });
      outcomes.push(outcome);
      process.stderr.write(`  ${outcome.success ? "yes" : "NO "} ${task.name}\n`);
      if (values.transcripts !== undefined) await writeTranscript(values.transcripts, outcome);
    }
  } catch (error) {
    if (signal.aborted || !(error instanceof ModelFailed)) throw error;
    process.stderr.write(`${error.message}\nCheck EVAL_BASE_URL, EVAL_API_KEY, EVAL_MODEL and EVAL_PROTOCOL.\n`);
  } finally {
    await engines.stop();
  }
  process.stdout.write(
    values.json ? `${JSON.stringify(reportData(outcomes, driver), null, 2)}\n` : `\n${formatReport(outcomes)}\n`,
  );
  if (outcomes.length < chosen.length) return 2;
  return outcomes.every(({ success }) => success) ? 0 : 1;
}

function describeDriver(driver: Driver): string {
  return "model" in driver
    ? `The model ${driver.model.model}, over the protocol of ${driver.model.protocol}`
    : `No EVAL_MODEL is set: recordings play the model, over the protocol of ${driver.recordedOver}`;
}

function chooseTasks(names: readonly string[]): readonly Task[] {
  const unknown = names.filter((name) => !tasks.some((task) => task.name === name));
  if (unknown.length > 0) {
    throw new Error(`There is no task ${unknown.join(", ")}; there are ${tasks.map(({ name }) => name).join(", ")}.`);
  }
  return names.length === 0 ? tasks : tasks.filter(({ name }) => names.includes(name));
}

function positive(name: string, text: string): number {
  const value = Number(text);
  if (value > 0 && Number.isFinite(value)) return value;
  throw new Error(`${name} is a number above 0, not ${JSON.stringify(text)}.`);
}

async function writeTranscript(directory: string, { task, transcript }: Outcome): Promise<void> {
  await mkdir(directory, { recursive: true });
  await writeFile(join(directory, `${task}.json`), `${JSON.stringify(transcript, null, 2)}\n`);
}
