/** `chat`: one message to the Data Transformer, with the tools it calls shown as they are called. */
import { createInterface } from "node:readline/promises";
import { setTimeout as delay } from "node:timers/promises";
import { AgentClient, latestToolCalls, type Reply } from "./a2a.ts";
import { calls } from "./api/calls.ts";
import { BundleError } from "./bundle-error.ts";
import { readAgent } from "./resources/agents.ts";
import type { World } from "./world.ts";

/** How long the arguments of a call are in a line of progress, in characters. */
const ARGUMENTS_LENGTH_MAX = 100;

export interface ChatOptions {
  text: string;
  contextId?: string | undefined;
  /** What to answer when the agent asks for approval; asks the terminal where it is left out. */
  approve?: boolean | undefined;
  /** Progress and questions; the answer itself goes to `answer`. */
  progress: (line: string) => void;
  answer: (text: string) => void;
}

export async function chat(world: World, options: ChatOptions): Promise<void> {
  const { row } = await readAgent("agent", world);
  if (row === undefined) {
    throw new BundleError("no_agent", "There is no agent Data Transformer on this platform.", {
      next: "Run `npm run archestra:apply`.",
    });
  }
  const { value: token } = await world.api.call(calls.personalToken);
  const client = new AgentClient({ api: world.api, token, agentId: row.id });
  // Told apart by their ids and not by time: the platform's clock may be another.
  const seen = new Set((await latestToolCalls(world.api, row.id)).map(({ id }) => id));
  const ending = new AbortController();
  const watching = watchTools(world, { agentId: row.id, seen, ending: ending.signal, progress: options.progress });
  let told = 0;
  const onText = (text: string) => {
    told += 1;
    options.progress(text);
  };
  try {
    let reply = await client.send(options.text, { contextId: options.contextId, onText });
    while (reply.kind === "approval") {
      reply = await client.decide(reply, await decision(reply, options));
      // That answer does not stream.
      told = 0;
    }
    ending.abort();
    await watching;
    // A stream has told them as they came.
    for (const text of reply.texts.slice(told, -1)) options.progress(text);
    options.answer(reply.texts.at(-1) ?? "(the agent said nothing)");
    if (reply.contextId === undefined) return;
    options.progress(`to go on: npm run archestra:chat -- --context ${reply.contextId} "…"`);
  } finally {
    ending.abort();
    await watching.catch(() => undefined);
  }
}

/** Tells each tool call that was not seen before once, until `ending`; then once more, for what came last. */
async function watchTools(
  { api, timing, signal }: World,
  options: { agentId: string; seen: Set<string>; ending: AbortSignal; progress: (line: string) => void },
): Promise<void> {
  const { seen } = options;
  for (;;) {
    const isLast = options.ending.aborted;
    for (const { id, name, arguments: given } of await latestToolCalls(api, options.agentId)) {
      if (seen.has(id)) continue;
      seen.add(id);
      const text = JSON.stringify(given);
      options.progress(
        `  ${name} ${text.length > ARGUMENTS_LENGTH_MAX ? `${text.slice(0, ARGUMENTS_LENGTH_MAX)}…` : text}`,
      );
    }
    if (isLast) return;
    await delay(timing.pollMs, undefined, { signal: AbortSignal.any([signal, options.ending]) }).catch(() => undefined);
    signal.throwIfAborted();
  }
}

async function decision(
  reply: Extract<Reply, { kind: "approval" }>,
  { approve, progress }: ChatOptions,
): Promise<boolean> {
  const tools = reply.approvals.map(({ toolName }) => toolName).join(", ");
  if (approve !== undefined) {
    progress(`${approve ? "approved" : "declined"}: ${tools}`);
    return approve;
  }
  if (!process.stdin.isTTY) {
    progress(`declined, because nobody can be asked: ${tools}. --approve says yes.`);
    return false;
  }
  const terminal = createInterface({ input: process.stdin, output: process.stderr });
  try {
    const answer = await terminal.question(`The agent asks to run ${tools}. Approve? [y/N] `);
    return /^y(es)?$/i.test(answer.trim());
  } finally {
    terminal.close();
  }
}
