import { countTokens } from "gpt-tokenizer/encoding/o200k_base";
import OpenAI from "openai";
import type { ServerName, Session } from "../../src/servers.ts";

type Message = OpenAI.Chat.Completions.ChatCompletionMessageParam;

/** What the agent has at hand. */
export interface AgentOptions {
  baseURL: string;
  model: string;
  systemPrompt: string;
  sessions: Record<ServerName, Session>;
}

/** As the platform bounds a run. */
const stepsMax = 500;

/**
 * The agent's loop as a host runs it: the model's calls go to the servers, side by side, and the texts of their answers
 * go back, until the model has nothing left to call. It reads nothing and decides nothing itself.
 */
export class Agent {
  readonly messages: Message[];
  /** The tools that the model called, turn by turn. */
  readonly turns: string[][] = [];
  /** Texts of all tool answers. */
  readonly answers: string[] = [];
  readonly #client: OpenAI;
  readonly #options: AgentOptions;

  constructor(options: AgentOptions) {
    this.#options = options;
    // A key is demanded, and looked at by nobody. Without retries an answer of 400 shows at once.
    this.#client = new OpenAI({ baseURL: options.baseURL, apiKey: "none", maxRetries: 0 });
    this.messages = [{ role: "system", content: options.systemPrompt }];
  }

  /** Tokens of all tool answers, as the tokenizer of OpenAI's models since GPT-4o counts them. */
  get answerTokens(): number {
    return this.answers.reduce((sum, text) => sum + countTokens(text), 0);
  }

  /** Says something to the agent and returns what it says once it has done what it will. */
  async say(content: string): Promise<string> {
    const { model } = this.#options;
    const tools = await this.#tools();
    this.messages.push({ role: "user", content });
    for (let step = 0; step < stepsMax; step++) {
      const stream = this.#client.chat.completions.stream({ model, messages: this.messages, tools, stream: true });
      const message = (await stream.finalChatCompletion()).choices[0]?.message;
      if (message === undefined) throw new Error("the model answered nothing");
      const calls = (message.tool_calls ?? []).filter((call) => call.type === "function");
      this.messages.push({
        role: "assistant",
        content: message.content,
        ...(calls.length === 0
          ? {}
          : {
              tool_calls: calls.map(({ id, type, function: { name, arguments: args } }) => ({
                id,
                type,
                function: { name, arguments: args },
              })),
            }),
      });
      if (calls.length === 0) return message.content ?? "";
      this.turns.push(calls.map((call) => call.function.name.replace(/^.*__/, "")));
      const texts = await Promise.all(calls.map((call) => this.#call(call.function.name, call.function.arguments)));
      for (const [index, call] of calls.entries()) {
        const text = texts[index] ?? "";
        this.answers.push(text);
        this.messages.push({ role: "tool", tool_call_id: call.id, content: text });
      }
    }
    throw new Error(`the model has not come to an end within ${stepsMax} steps`);
  }

  async #call(name: string, args: string): Promise<string> {
    const [server, tool] = name.split("__");
    if ((server !== "es-mcp" && server !== "pg-mcp") || tool === undefined) throw new Error(`there is no tool ${name}`);
    return (await this.#options.sessions[server].call(tool, JSON.parse(args))).text;
  }

  async #tools(): Promise<OpenAI.Chat.Completions.ChatCompletionTool[]> {
    const listed = await Promise.all(
      Object.entries(this.#options.sessions).map(async ([server, session]) =>
        (await session.listTools()).map(({ name, description = "", inputSchema }) => ({
          type: "function" as const,
          function: { name: `${server}__${name}`, description, parameters: { ...inputSchema } },
        })),
      ),
    );
    return listed.flat();
  }
}
