import { createServer, type IncomingHttpHeaders } from "node:http";
import { text as bodyText } from "node:stream/consumers";
import { listenOnLoopback } from "@es-to-pg/engines";
import { anthropicWire } from "./anthropic-wire.ts";
import type { ModelAddress, Protocol } from "./conversation.ts";
import { openaiWire } from "./openai-wire.ts";
import type { Heard, Script, Turn } from "./script.ts";

/** A model behind an interface, played by a script. */
interface ServedModel<Address> extends AsyncDisposable {
  address: Address;
}

/** A model behind OpenAI's or Anthropic's interface, which the agent of this project can talk to. */
export type ScriptedModel = ServedModel<ModelAddress>;

/** One piece of what was said so far, whatever the protocol. */
export type Said =
  | { by: "user"; text: string }
  /** The ids of its calls, in order. */
  | { by: "model"; calls: string[] }
  /** Texts by the id of the call. */
  | { by: "tools"; answers: Map<string, string> };

/** A request as the script needs it. */
export interface Asked {
  /** Names of the tools that the model may call. */
  tools: string[];
  said: Said[];
  /** Whether the reply is wanted piece by piece. */
  isStreamed: boolean;
}

/** Tokens of one request and its reply. */
export interface Usage {
  input: number;
  output: number;
}

/** What a reply holds besides its turn. */
export interface Reply {
  id: number;
  model: string;
  /** The name under which a tool is listed. */
  toolName: (tool: string) => string;
  usage: Usage | null;
}

/** One protocol, from the server's side: as strict as its maker's, as far as a conversation with tools goes. */
export interface Wire {
  path(model: string): string;
  /** What a client's base address ends in. */
  base: string;
  keyOf(headers: IncomingHttpHeaders): string | undefined;
  read(body: unknown): Asked;
  write(turn: Turn, reply: Reply): object;
  /** The events of a reply that is streamed; without it, none is. */
  writeEvents?(turn: Turn, reply: Reply): string;
  writeError(type: string, message: string): object;
}

/** How a scripted model is served. */
export interface ScriptedModelOptions {
  script: (wish: string) => Script;
  /** What each reply says that it cost; without it, replies say nothing of it. */
  usage?: Usage;
}

const wires: Record<Protocol, Wire> = { openai: openaiWire, anthropic: anthropicWire };
const model = "scripted-1";
const apiKey = "the-only-key";

/** Serves one of the agent's protocols. */
export async function serveScript({
  protocol = "openai",
  ...options
}: ScriptedModelOptions & { protocol?: Protocol }): Promise<ScriptedModel> {
  const served = await serveWire(wires[protocol], options);
  return { ...served, address: { protocol, ...served.address } };
}

/** Serves one protocol on a free port of loopback. Nothing is kept between two requests. */
export async function serveWire(
  wire: Wire,
  { script, usage }: ScriptedModelOptions,
): Promise<ServedModel<Omit<ModelAddress, "protocol">>> {
  const server = createServer((request, response) => {
    const reply = (status: number, body: object): void => {
      response.writeHead(status, { "content-type": "application/json" });
      response.end(JSON.stringify(body));
    };
    const answer = async (): Promise<void> => {
      if (request.method !== "POST" || request.url?.replace(/\?.*/, "") !== wire.path(model)) {
        return reply(404, wire.writeError("not_found_error", "no such path"));
      }
      if (wire.keyOf(request.headers) !== apiKey) {
        return reply(401, wire.writeError("authentication_error", "not the key"));
      }
      const { tools, said, isStreamed } = wire.read(JSON.parse(await bodyText(request)));
      const toolName = (tool: string): string => listedName(tool, tools);
      const turn = nextTurn(said, script);
      const own = { id: said.length, model, toolName, usage: usage ?? null };
      if (!isStreamed || wire.writeEvents === undefined) return reply(200, wire.write(turn, own));
      const events = wire.writeEvents(turn, own);
      response.writeHead(200, { "content-type": "text/event-stream" });
      response.end(events);
    };
    answer().catch((error: unknown) => {
      reply(400, wire.writeError("invalid_request_error", error instanceof Error ? error.message : String(error)));
    });
  });
  const port = await listenOnLoopback(server);
  return {
    address: { baseUrl: `http://127.0.0.1:${port}${wire.base}`, apiKey, model },
    async [Symbol.asyncDispose]() {
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}

/**
 * As the platform names them: the server's name, two underscores, the tool's; or as Gemini CLI does, mcp_es_list_indices.
 * A whole name goes as it is, like one that a model invents.
 */
function listedName(tool: string, tools: readonly string[]): string {
  if (tool.includes("__")) return tool;
  const name = tools.find((listed) => listed.endsWith(`__${tool}`) || listed.replace(/^mcp_[^_]+_/, "") === tool);
  if (name === undefined) throw new Error(`the script wants ${tool}, which is not among the tools`);
  return name;
}

/** Runs the script over what was said so far, and answers its next turn. */
function nextTurn(said: readonly Said[], script: (wish: string) => Script): Turn {
  const [wish, ...rest] = said;
  if (wish?.by !== "user") throw new Error("the conversation should begin with the user's wish");
  let running = script(wish.text);
  let step = running.next([]);
  if (rest.length % 2 !== 0) throw new Error("each turn of the model should have one answer");
  for (let at = 0; at < rest.length; at += 2) {
    const heard = heardAfter(turnOf(step), rest[at], rest[at + 1]);
    // After its last words, what the user says next is a new wish.
    if (step.done === true) running = script(heard[0] ?? "");
    step = running.next(heard);
  }
  return turnOf(step);
}

function turnOf(step: IteratorResult<Turn, string>): Turn {
  return step.done === true ? { say: step.value } : step.value;
}

/** What came of a turn that was taken already. */
function heardAfter(turn: Turn, taken: Said | undefined, answered: Said | undefined): Heard {
  if (taken?.by !== "model") throw new Error("what follows an answer should be the model's");
  const expected = "say" in turn ? 0 : turn.calls.length;
  if (taken.calls.length !== expected) throw new Error(`the model's turn should have ${expected} calls`);
  if (expected === 0) {
    if (answered?.by !== "user") throw new Error("what follows the model's words should be the user's");
    return [answered.text];
  }
  if (answered?.by !== "tools") throw new Error("what follows calls should be their answers");
  return taken.calls.map((id) => {
    const text = answered.answers.get(id);
    if (text === undefined) throw new Error(`no answer is there to ${id}`);
    return text;
  });
}
