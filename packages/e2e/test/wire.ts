import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { createInterface } from "node:readline";
import { entryPoint, type ServerName, serverEnvironment } from "../src/servers.ts";

/** A built server on a bare pipe, without any SDK between: what is on the wire is what the test sees. */
export interface Wire {
  process: ChildProcess;
  /** Every line of stdout, as it came. */
  lines: string[];
  send(message: object): void;
  /** The answer to the request of this id. */
  answer(id: number): Promise<Record<string, unknown>>;
  exit(): Promise<{ code: number | null; signal: string | null; ms: number }>;
}

/** Starts a built server on a bare pipe. */
export function openWire(server: ServerName, env: Record<string, string>): Wire {
  const child = spawn(process.execPath, [entryPoint(server)], {
    env: serverEnvironment(env),
    stdio: ["pipe", "pipe", "ignore"],
  });
  const lines: string[] = [];
  const answers = new Map<number, Record<string, unknown>>();
  const waiting = new Map<number, (answer: Record<string, unknown>) => void>();
  createInterface({ input: child.stdout }).on("line", (line) => {
    lines.push(line);
    let message: Record<string, unknown>;
    try {
      message = JSON.parse(line);
    } catch {
      return;
    }
    const { id } = message;
    if (typeof id !== "number") return;
    answers.set(id, message);
    waiting.get(id)?.(message);
  });
  child.stdin.on("error", () => {});
  const exited = once(child, "exit");
  return {
    process: child,
    lines,
    send: (message) => void child.stdin.write(`${JSON.stringify(message)}\n`),
    answer: (id) =>
      new Promise((resolve, reject) => {
        const known = answers.get(id);
        if (known !== undefined) resolve(known);
        const timer = setTimeout(() => reject(new Error(`no answer to ${id}; stdout: ${lines.join("\n")}`)), 20_000);
        waiting.set(id, (answer) => {
          clearTimeout(timer);
          resolve(answer);
        });
      }),
    async exit() {
      const from = performance.now();
      await exited;
      return { code: child.exitCode, signal: child.signalCode, ms: Math.round(performance.now() - from) };
    },
  };
}

/** The request that opens a session of the protocol's first generation. */
export function initialize(id: number, protocolVersion = "2025-06-18"): object {
  const params = { protocolVersion, capabilities: {}, clientInfo: { name: "wire", version: "0" } };
  return { jsonrpc: "2.0", id, method: "initialize", params };
}

/** A request of the protocol's second generation: every one names its version. */
export function modern(id: number, method: string, params: object = {}): object {
  const _meta = {
    "io.modelcontextprotocol/protocolVersion": "2026-07-28",
    "io.modelcontextprotocol/clientInfo": { name: "wire", version: "0" },
    "io.modelcontextprotocol/clientCapabilities": {},
  };
  return { jsonrpc: "2.0", id, method, params: { ...params, _meta } };
}

/** A request of the protocol's first generation. */
export function legacy(id: number, method: string, params: object = {}): object {
  return { jsonrpc: "2.0", id, method, params };
}
