import { type ChildProcess, spawn } from "node:child_process";
import { fileURLToPath } from "node:url";
import { freePort } from "@es-to-pg/engines";
import { Client as ClientV2, StreamableHTTPClientTransport as HttpV2 } from "@modelcontextprotocol/client";
import { StdioClientTransport as StdioV2 } from "@modelcontextprotocol/client/stdio";
import { Client as ClientV1 } from "@modelcontextprotocol/sdk/client/index.js";
import { StdioClientTransport as StdioV1 } from "@modelcontextprotocol/sdk/client/stdio.js";
import { StreamableHTTPClientTransport as HttpV1 } from "@modelcontextprotocol/sdk/client/streamableHttp.js";
import { ElicitRequestSchema } from "@modelcontextprotocol/sdk/types.js";

export type ServerName = "es-mcp" | "pg-mcp";

/** Which server, how it is reached, and by which line of the client SDK. */
export interface SessionOptions {
  server: ServerName;
  env: Record<string, string>;
  client?: "v1" | "v2";
  transport?: "stdio" | "http";
  /** Who answers the questions of the server; without one the client cannot ask. */
  person?: Person;
}

/** What a person does with a question. */
export type Person = (
  message: string,
) => Promise<{ action: "accept" | "decline" | "cancel"; content?: Record<string, boolean> }>;

/** What a tool answered. */
export interface Answer {
  isError: boolean;
  /** What a model would read. */
  text: string;
  /** The same as data. */
  data: Record<string, unknown>;
  structured: unknown;
}

export interface Progress {
  progress: number;
  total?: number | undefined;
  message?: string | undefined;
}

/** A tool as `tools/list` showed it. */
export interface ListedTool {
  name: string;
  description?: string | undefined;
  inputSchema: { properties?: object | undefined };
}

/** A client that talks to one built server. */
export interface Session extends AsyncDisposable {
  readonly pid: number | null;
  /** Everything the server wrote to stderr. */
  log(): string;
  listTools(): Promise<ListedTool[]>;
  call(tool: string, args?: Record<string, unknown>, onProgress?: (progress: Progress) => void): Promise<Answer>;
  close(): Promise<void>;
}

/** Longer than any answer may take: waiting is bounded by the servers at 45 s. */
const callMsMax = 60_000;
/** A server without work answers within half a second; a busy machine takes longer. */
const listenMsMax = 20_000;

/** The built entry point of a server. */
export function entryPoint(server: ServerName): string {
  return fileURLToPath(new URL(`../../${server}/dist/main.js`, import.meta.url));
}

/** The environment a host gives a server: what it needs to run and what was configured, nothing else. */
export function serverEnvironment(env: Record<string, string>): Record<string, string> {
  return { PATH: process.env["PATH"] ?? "", HOME: process.env["HOME"] ?? "/tmp", ...env };
}

/** Starts a built server and connects to it as a host would. */
export async function openSession(options: SessionOptions): Promise<Session> {
  const { client = "v2", transport = "stdio" } = options;
  if (transport === "stdio") return await openStdio(options, client);
  const http = await startHttpServer(entryPoint(options.server), options.env);
  try {
    const address = new URL(http.url);
    const { person } = options;
    const connected =
      client === "v1" ? await connectV1(new HttpV1(address), person) : await connectV2(new HttpV2(address), person);
    return session(connected, {
      pid: http.process.pid ?? null,
      log: () => http.log(),
      close: async () => {
        await connected.close();
        await http.stop();
      },
    });
  } catch (error) {
    await http.stop();
    throw new Error(`could not connect to ${options.server}: ${http.log()}`, { cause: error });
  }
}

async function openStdio({ server, env, person }: SessionOptions, client: "v1" | "v2"): Promise<Session> {
  return await openCommand(
    { command: process.execPath, args: [entryPoint(server)], env: serverEnvironment(env) },
    client,
    person,
  );
}

/** How a program is started that serves MCP on its stdin and stdout. */
export interface ServerCommand {
  command: string;
  args: string[];
  env: Record<string, string>;
}

/** Starts a program that serves on a pipe, such as `docker run -i`, and connects to it as a host would. */
export async function openCommand(
  command: ServerCommand,
  client: "v1" | "v2" = "v2",
  person?: Person,
): Promise<Session> {
  const parameters = { ...command, stderr: "pipe" as const };
  const pipe = client === "v1" ? new StdioV1(parameters) : new StdioV2(parameters);
  let log = "";
  pipe.stderr?.on("data", (chunk) => {
    log += String(chunk);
  });
  try {
    const connected = pipe instanceof StdioV1 ? await connectV1(pipe, person) : await connectV2(pipe, person);
    return session(connected, { pid: pipe.pid, log: () => log, close: () => connected.close() });
  } catch (error) {
    await pipe.close();
    throw new Error(`could not connect to ${[command.command, ...command.args].join(" ")}: ${log}`, { cause: error });
  }
}

/** Connects to a server that somebody else started. */
export async function openUrl(url: string, headers: Record<string, string> = {}): Promise<Session> {
  const connected = await connectV2(new HttpV2(new URL(url), { requestInit: { headers } }));
  return session(connected, { pid: null, log: () => "", close: () => connected.close() });
}

/** The part of a result that both lines of the SDK share. */
interface ToolResult {
  [member: string]: unknown;
  isError?: unknown;
  content?: unknown;
  structuredContent?: unknown;
}

/** What both lines of the client SDK can do. */
interface Connected {
  listTools(): Promise<{ tools: ListedTool[] }>;
  callTool(
    request: { name: string; arguments: Record<string, unknown> },
    onProgress: ((progress: Progress) => void) | undefined,
  ): Promise<ToolResult>;
  close(): Promise<void>;
}

const clientInfo = { name: "es-to-pg-e2e", version: "0.1.0" };

/** What a client says that it can do where somebody is there to be asked. */
const asking = { capabilities: { elicitation: {} } };

async function connectV1(transport: StdioV1 | HttpV1, person?: Person): Promise<Connected> {
  const client = new ClientV1(clientInfo, person === undefined ? {} : asking);
  if (person !== undefined) client.setRequestHandler(ElicitRequestSchema, ({ params }) => person(params.message));
  await client.connect(transport);
  return {
    listTools: () => client.listTools(),
    callTool: (request, onprogress) =>
      client.callTool(request, undefined, { timeout: callMsMax, ...(onprogress === undefined ? {} : { onprogress }) }),
    close: () => client.close(),
  };
}

async function connectV2(transport: StdioV2 | HttpV2, person?: Person): Promise<Connected> {
  const client = new ClientV2(clientInfo, {
    versionNegotiation: { mode: "auto" },
    ...(person === undefined ? {} : asking),
  });
  if (person !== undefined) client.setRequestHandler("elicitation/create", ({ params }) => person(params.message));
  await client.connect(transport);
  return {
    listTools: () => client.listTools(),
    callTool: (request, onprogress) =>
      client.callTool(request, { timeout: callMsMax, ...(onprogress === undefined ? {} : { onprogress }) }),
    close: () => client.close(),
  };
}

function session(client: Connected, own: Pick<Session, "pid" | "log" | "close">): Session {
  return {
    ...own,
    listTools: async () => (await client.listTools()).tools,
    async call(tool, args = {}, onProgress) {
      return readAnswer(await client.callTool({ name: tool, arguments: args }, onProgress));
    },
    [Symbol.asyncDispose]: () => own.close(),
  };
}

function readAnswer(result: ToolResult): Answer {
  const block: unknown = Array.isArray(result.content) ? result.content[0] : undefined;
  const text = typeof block === "object" && block !== null && "text" in block ? String(block.text) : "";
  let data: Record<string, unknown>;
  try {
    data = JSON.parse(text);
  } catch {
    data = {};
  }
  return { isError: result.isError === true, text, data, structured: result.structuredContent };
}

/** A built server that listens on a free port of loopback. */
export interface HttpServer {
  url: string;
  process: ChildProcess;
  log(): string;
  stop(): Promise<void>;
}

/** Starts a server's program with `--http` and waits until it says that it is alive. */
export async function startHttpServer(program: string, env: Record<string, string>): Promise<HttpServer> {
  const port = await freePort();
  const child = spawn(process.execPath, [program, "--http"], {
    env: serverEnvironment({ ...env, MCP_HTTP_PORT: String(port) }),
    stdio: ["ignore", "ignore", "pipe"],
  });
  let log = "";
  child.stderr.on("data", (chunk) => {
    log += String(chunk);
  });
  const exited = new Promise<void>((resolve) => child.once("exit", () => resolve()));
  const stop = async (): Promise<void> => {
    child.kill("SIGTERM");
    await exited;
  };
  const deadline = Date.now() + listenMsMax;
  while (!(await isAlive(port))) {
    if (child.exitCode !== null || Date.now() > deadline) {
      await stop();
      throw new Error(`${program} --http did not come up: ${log}`);
    }
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
  return { url: `http://127.0.0.1:${port}/mcp`, process: child, log: () => log, stop };
}

async function isAlive(port: number): Promise<boolean> {
  try {
    const response = await fetch(`http://127.0.0.1:${port}/healthz`, { signal: AbortSignal.timeout(2_000) });
    await response.body?.cancel();
    return response.ok;
  } catch {
    return false;
  }
}
