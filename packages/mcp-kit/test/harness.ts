import { type ChildProcess, spawn } from "node:child_process";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";

/** The fixture server's file. Node strips its types itself. */
export const fixturePath = fileURLToPath(new URL("fixture/server.ts", import.meta.url));

/** A JSON-RPC message as it came, for tests to look into. */
export interface Message {
  id?: number | string | null;
  method?: string;
  params?: Record<string, unknown>;
  // A test says by its expectation what a result holds; `unknown` would only add casts.
  // oxlint-disable-next-line typescript/no-explicit-any -- see above
  result?: any;
  error?: { code: number; message: string; data?: unknown };
}

/** A process of the fixture, talked to by lines. */
export class FixtureProcess {
  readonly child: ChildProcess;
  /** Every line on stdout, whatever it holds. */
  readonly lines: string[] = [];
  stderr = "";
  readonly exited: Promise<{ code: number | null; signal: string | null }>;
  readonly #waiting = new Set<() => void>();

  constructor(options: { args?: string[]; env?: Record<string, string> } = {}) {
    this.child = spawn(process.execPath, [fixturePath, ...(options.args ?? [])], {
      env: { PATH: process.env["PATH"], ...options.env },
      stdio: "pipe",
    });
    const { stdout, stderr } = this.child;
    if (stdout === null || stderr === null) throw new Error("the child has no pipes");
    createInterface({ input: stdout }).on("line", (line) => {
      this.lines.push(line);
      this.#wake();
    });
    stderr.on("data", (chunk) => {
      this.stderr += String(chunk);
      this.#wake();
    });
    this.exited = new Promise((resolve) => {
      this.child.on("close", (code, signal) => {
        resolve({ code, signal });
        this.#wake();
      });
    });
  }

  /** Every message on stdout; throws where a line is not one. */
  get messages(): Message[] {
    return this.lines.map((line) => JSON.parse(line));
  }

  write(text: string): void {
    this.child.stdin?.write(text);
  }

  send(message: object): void {
    this.write(`${JSON.stringify({ jsonrpc: "2.0", ...message })}\n`);
  }

  /** Sends a request and waits for its answer. */
  async request(id: number | string, method: string, params: object = {}): Promise<Message> {
    this.send({ id, method, params });
    return this.answer(id);
  }

  async answer(id: number | string): Promise<Message> {
    const from = this.lines.length;
    const find = () => this.messages.slice(from).find((message) => message.id === id && message.method === undefined);
    return this.waitFor(find, `an answer to ${id}`);
  }

  /** Waits until `find` finds something, at most 10 s. */
  async waitFor<T>(find: () => T | undefined | false, what: string): Promise<T> {
    const deadline = performance.now() + 10_000;
    for (;;) {
      const found = find();
      if (found !== undefined && found !== false) return found;
      if (performance.now() > deadline) throw new Error(`no ${what} in time; stderr: ${this.stderr}`);
      await new Promise<void>((resolve) => {
        const timer = setTimeout(resolve, 100);
        this.#waiting.add(() => {
          clearTimeout(timer);
          resolve();
        });
      });
    }
  }

  /** Runs `end`, and tells how the process ended and after how long. */
  async endsAfter(end: () => void): Promise<{ code: number | null; signal: string | null; ms: number }> {
    const startedAt = performance.now();
    end();
    return { ...(await this.exited), ms: performance.now() - startedAt };
  }

  async stop(): Promise<void> {
    this.child.kill("SIGKILL");
    await this.exited;
  }

  #wake(): void {
    for (const resolve of this.#waiting) resolve();
    this.#waiting.clear();
  }
}

const testClient = { name: "test", version: "1" };

/** Gemini CLI 0.61.0, as it names itself. */
export const geminiClient = { name: "gemini-cli-mcp-client", version: "0.61.0" };

/** The parameters of a request of the 2026 generation. */
export function modern(params: Record<string, unknown> = {}, clientInfo: object = testClient): object {
  return {
    ...params,
    _meta: {
      "io.modelcontextprotocol/protocolVersion": "2026-07-28",
      "io.modelcontextprotocol/clientInfo": clientInfo,
      "io.modelcontextprotocol/clientCapabilities": {},
    },
  };
}

/** The parameters of `initialize` of the generation before. */
export function initializeParams(protocolVersion: string, clientInfo: object = testClient): object {
  return { protocolVersion, capabilities: {}, clientInfo };
}

/** Waits until a fixture started with `--http` says where it listens. */
export async function listening(server: FixtureProcess): Promise<URL> {
  const find = () => /"event":"listening","url":"([^"]+)"/.exec(server.stderr)?.[1];
  return new URL(await server.waitFor(find, "address"));
}
