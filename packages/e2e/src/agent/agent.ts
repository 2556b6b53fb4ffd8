import { countTokens } from "gpt-tokenizer/encoding/o200k_base";
import type { Answer, ServerName, Session } from "../servers.ts";
import { anthropicConversation } from "./anthropic.ts";
import type { CallResult, Conversation, ModelAddress, ModelCall, ModelTool, Reply } from "./conversation.ts";
import { openaiConversation } from "./openai.ts";

/** What the agent has at hand. */
export interface AgentOptions {
  address: ModelAddress;
  systemPrompt: string;
  sessions: Record<ServerName, Session>;
  limits?: Partial<Limits>;
  /** Ends what the agent does, between two calls or while the model thinks. */
  signal?: AbortSignal;
}

/** What one agent may cost; a model that runs in circles ends here. */
export interface Limits {
  /** Calls of tools. */
  callsMax: number;
  /** Tokens of all requests and replies. */
  tokensMax: number;
  durationMsMax: number;
}

/** The calls are as many as the platform lets a run have steps. */
const defaultLimits: Limits = { callsMax: 500, tokensMax: 50_000_000, durationMsMax: 3_600_000 };

/** A call of a tool, and what came of it. */
export interface AgentCall {
  tool: string;
  args: Record<string, unknown>;
  answer: Pick<Answer, "isError" | "text" | "data">;
}

/** One piece of what was said, by whom. */
export type Entry =
  | { role: "user"; text: string }
  | { role: "model"; text: string; calls: ModelCall[] }
  | { role: "tools"; calls: AgentCall[] };

/** What an agent has used so far. */
export interface Spent {
  calls: number;
  /** Answers of tools that were errors. */
  errors: number;
  inputTokens: number;
  outputTokens: number;
  /** Whether the tokens were counted here, because the model's interface does not tell. */
  isEstimate: boolean;
}

/** An agent that has reached one of its limits. */
export class LimitReached extends Error {
  constructor(limit: keyof Limits, value: number) {
    super(`the model has not come to an end within ${limit} = ${value}`);
    this.name = "LimitReached";
  }
}

/**
 * The agent's loop as a host runs it: the model's calls go to the servers, side by side, and the texts of their answers
 * go back, until the model has nothing left to call. It reads nothing and decides nothing itself.
 */
export class Agent {
  readonly transcript: Entry[] = [];
  readonly spent: Spent = { calls: 0, errors: 0, inputTokens: 0, outputTokens: 0, isEstimate: false };
  readonly #options: AgentOptions;
  readonly #limits: Limits;
  readonly #deadline: number;
  /** Tokens of everything that the next request sends, for an interface that does not count. */
  #contextTokens = 0;
  #conversation: Conversation | undefined;

  constructor(options: AgentOptions) {
    this.#options = options;
    this.#limits = { ...defaultLimits, ...options.limits };
    this.#deadline = Date.now() + this.#limits.durationMsMax;
  }

  /** All calls in the order of the model's wishes. */
  get calls(): AgentCall[] {
    return this.transcript.flatMap((entry) => (entry.role === "tools" ? entry.calls : []));
  }

  /** The tools that the model called, turn by turn. */
  get turns(): string[][] {
    return this.transcript.flatMap((entry) => (entry.role === "tools" ? [entry.calls.map(({ tool }) => tool)] : []));
  }

  /** Tokens of all tool answers, as the tokenizer of OpenAI's models since GPT-4o counts them. */
  get answerTokens(): number {
    return this.calls.reduce((sum, { answer }) => sum + countTokens(answer.text), 0);
  }

  /** Says something to the agent and returns what it says once it has done what it will. */
  async say(text: string): Promise<string> {
    const { callsMax } = this.#limits;
    this.#conversation ??= await this.#begin();
    const conversation = this.#conversation;
    this.transcript.push({ role: "user", text });
    let reply = await this.#take([text], (signal) => conversation.say(text, signal));
    while (reply.calls.length > 0) {
      if (this.spent.calls + reply.calls.length > callsMax) throw new LimitReached("callsMax", callsMax);
      const calls = await Promise.all(reply.calls.map((call) => this.#call(call)));
      this.spent.calls += calls.length;
      this.spent.errors += calls.filter(({ answer }) => answer.isError).length;
      this.transcript.push({ role: "tools", calls });
      const results = reply.calls.map(({ id }, index): CallResult => {
        const { text: answer = "", isError = true } = calls[index]?.answer ?? {};
        return { id, text: answer, isError };
      });
      reply = await this.#take(
        results.map((result) => result.text),
        (signal) => conversation.answer(results, signal),
      );
    }
    return reply.text;
  }

  async #begin(): Promise<Conversation> {
    const { address, systemPrompt } = this.#options;
    const tools = await this.#tools();
    this.#contextTokens = countTokens(systemPrompt) + countTokens(JSON.stringify(tools));
    const start = { address, systemPrompt, tools };
    return address.protocol === "anthropic" ? anthropicConversation(start) : openaiConversation(start);
  }

  /** Lets the model speak, within the limits, and adds up what that cost. */
  async #take(heard: readonly string[], speak: (signal: AbortSignal) => Promise<Reply>): Promise<Reply> {
    const { tokensMax, durationMsMax } = this.#limits;
    const { spent } = this;
    if (spent.inputTokens + spent.outputTokens >= tokensMax) throw new LimitReached("tokensMax", tokensMax);
    const timeout = AbortSignal.timeout(Math.max(0, this.#deadline - Date.now()));
    const ended = this.#options.signal;
    ended?.throwIfAborted();
    const reply = await speak(ended === undefined ? timeout : AbortSignal.any([timeout, ended])).catch(
      (error: unknown) => {
        throw timeout.aborted ? new LimitReached("durationMsMax", durationMsMax) : error;
      },
    );
    const said = [reply.text, ...reply.calls.flatMap(({ name, args }) => [name, args])];
    const [heardTokens, saidTokens] = [heard, said].map((texts) =>
      texts.reduce((sum, text) => sum + countTokens(text), 0),
    );
    this.#contextTokens += heardTokens ?? 0;
    spent.inputTokens += reply.usage?.input ?? this.#contextTokens;
    spent.outputTokens += reply.usage?.output ?? saidTokens ?? 0;
    spent.isEstimate ||= reply.usage === null;
    this.#contextTokens += saidTokens ?? 0;
    this.transcript.push({ role: "model", text: reply.text, calls: reply.calls });
    return reply;
  }

  /** A call that cannot be made is answered like one that failed: the model has to find its way. */
  async #call({ name, args: json }: ModelCall): Promise<AgentCall> {
    const [server, tool = name] = name.split("__");
    let args: Record<string, unknown> = {};
    try {
      args = readArguments(json);
      if (server !== "es-mcp" && server !== "pg-mcp") throw new Error(`There is no tool ${name}.`);
      return { tool, args, answer: await this.#options.sessions[server].call(tool, args) };
    } catch (error) {
      const message = error instanceof Error ? error.message : String(error);
      const data = { error: { code: "call_failed", message } };
      return { tool, args, answer: { isError: true, text: JSON.stringify(data), data } };
    }
  }

  async #tools(): Promise<ModelTool[]> {
    const listed = await Promise.all(
      Object.entries(this.#options.sessions).map(async ([server, session]) =>
        (await session.listTools()).map(({ name, description = "", inputSchema }) => ({
          name: `${server}__${name}`,
          description,
          inputSchema: { ...inputSchema },
        })),
      ),
    );
    return listed.flat();
  }
}

function readArguments(json: string): Record<string, unknown> {
  // Some models write nothing where a tool needs nothing.
  const parsed: unknown = json.trim() === "" ? {} : JSON.parse(json);
  if (typeof parsed === "object" && parsed !== null && !Array.isArray(parsed)) return { ...parsed };
  throw new Error("The arguments of a call are one JSON object.");
}
