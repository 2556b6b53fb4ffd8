import { readFile } from "node:fs/promises";
import { Agent, type Entry, LimitReached, type Limits, type Spent } from "../agent/agent.ts";
import { type ModelAddress, ModelFailed, type Protocol } from "../agent/conversation.ts";
import { play, type Recording } from "../agent/recording.ts";
import { serveScript } from "../agent/scripted-model.ts";
import type { Finding } from "./findings.ts";
import { type EngineAddresses, makePlace, type Place } from "./place.ts";
import { judgeSurroundings, look } from "./surroundings.ts";
import { defaultReply, repliesMax, type Task, withNames } from "./task.ts";

/** Who drives the tasks: a model, or the recordings over one of the protocols. */
export type Driver = { model: ModelAddress } | { recordedOver: Protocol };

/** What one task came to. */
export interface Outcome {
  task: string;
  level: string;
  success: boolean;
  findings: Finding[];
  /** Why the model did not come to an end by itself. */
  stopped: string | null;
  spent: Spent;
  /** Tokens of the tools' answers alone. */
  answerTokens: number;
  seconds: number;
  transcript: Entry[];
}

/** What a task may cost; a whole run of the fifteen products takes about a dozen calls. */
export const taskLimits: Limits = { callsMax: 60, tokensMax: 1_000_000, durationMsMax: 600_000 };

const promptFile = new URL("../../../../agent-prompt.md", import.meta.url);

/** Runs one task in a place of its own and judges it. Fails only if it could not be run: `ModelFailed`, or an engine. */
export async function runTask(
  task: Task,
  options: { engines: EngineAddresses; driver: Driver; limits?: Partial<Limits>; signal?: AbortSignal },
): Promise<Outcome> {
  await using place = await makePlace(options.engines, task.indices);
  await task.prepare(place);
  const documents = (await Promise.all(task.indices.map((name) => place.documents(name)))).flat();
  const before = await look(place, task);
  await using model = await openModel(options.driver, withNames(task.recording, place.names));
  const agent = new Agent({
    address: model.address,
    systemPrompt: await readFile(promptFile, "utf8"),
    sessions: place.sessions,
    limits: { ...taskLimits, ...options.limits },
    ...(options.signal === undefined ? {} : { signal: options.signal }),
  });
  const from = performance.now();
  const stopped = await converse(agent, task, place);
  const seconds = (performance.now() - from) / 1000;
  const run = { calls: agent.calls, transcript: agent.transcript };
  const after = await look(place, task);
  const findings = [...(await task.check(place, run)), ...judgeSurroundings(task, { before, after, documents, run })];
  return {
    task: task.name,
    level: task.level,
    success: stopped === null && findings.every(({ holds }) => holds),
    findings,
    stopped,
    spent: agent.spent,
    answerTokens: agent.answerTokens,
    seconds,
    transcript: agent.transcript,
  };
}

async function openModel(driver: Driver, recording: Recording): Promise<AsyncDisposable & { address: ModelAddress }> {
  if ("model" in driver) return { address: driver.model, [Symbol.asyncDispose]: async () => {} };
  return await serveScript({ protocol: driver.recordedOver, script: () => play(recording) });
}

/** Lets the user say the wish and answer questions; answers why it ended early, if it did. */
async function converse(agent: Agent, task: Task, place: Place): Promise<string | null> {
  try {
    let words = await agent.say(withNames(task.wish, place.names));
    for (let replies = 0; isQuestion(words) && replies < repliesMax; replies++) {
      words = await agent.say(task.reply ?? defaultReply);
    }
    return null;
  } catch (error) {
    if (error instanceof LimitReached || (error instanceof ModelFailed && error.isRefusal)) return error.message;
    throw error;
  }
}

/** Whether the model waits for the user; whether it should have asked is for the task to judge. */
function isQuestion(words: string): boolean {
  return /[?？]/.test(words);
}
