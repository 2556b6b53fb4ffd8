import { connect, type Socket } from "node:net";
import { setTimeout as sleep } from "node:timers/promises";
import { afterAll, beforeAll, expect, test, vi } from "vitest";
import { Cursors } from "../src/cursor.ts";
import { httpAccess, serveHttp } from "../src/http.ts";
import { createLogger } from "../src/log.ts";
import { serverFactory } from "../src/server.ts";
import { kitSettings, readSettings } from "../src/settings.ts";

const token = "a-token-of-this-test";
const settings = readSettings(kitSettings, { MCP_HTTP_PORT: "0", MCP_HTTP_TOKEN: token });
const limits = {
  headersTimeoutMs: 300,
  requestTimeoutMs: 600,
  checkIntervalMs: 50,
  connectionsMax: 8,
  headerBytesMax: 4_096,
  bodiesBytesMax: 17_000_000,
};
const logger = createLogger({ level: "error" });

let serving: Awaited<ReturnType<typeof serveHttp>>;
let port: number;

beforeAll(async () => {
  const server = serverFactory({
    name: "limited",
    title: "Limited",
    version: "1.0.0",
    instructions: "None.",
    tools: [],
    prompts: [],
    resources: [],
    context: {},
    structuredOutput: true,
    askMs: 0,
    cursors: new Cursors(),
    logger,
  });
  serving = await serveHttp({ server, settings, access: httpAccess(settings), ready: async () => {}, logger, limits });
  port = Number(new URL(serving.url).port);
});

afterAll(() => serving.close());

/** A connection, all that came back on it, and whether the other side has ended it. */
class Caller {
  readonly socket: Socket;
  received = "";
  ended = false;

  constructor() {
    this.socket = connect(port, "127.0.0.1");
    this.socket.on("data", (chunk) => {
      this.received += chunk.toString("latin1");
    });
    this.socket.on("error", () => {});
    this.socket.on("close", () => {
      this.ended = true;
    });
  }

  /** Sends a text bit by bit, as slowly as a patient attacker. */
  async trickle(text: string, intervalMs: number): Promise<void> {
    for (const character of text) {
      if (this.ended) return;
      this.socket.write(character);
      await sleep(intervalMs);
    }
  }
}

const headers = `POST /mcp HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer ${token}\r\nContent-Type: application/json\r\nAccept: application/json, text/event-stream\r\n`;

const body = '{"jsonrpc":"2.0","id":1,"method":"ping"}';
const length = `Content-Length: ${body.length}\r\n`;

async function health(): Promise<number> {
  const response = await fetch(`http://127.0.0.1:${port}/healthz`, { headers: { connection: "close" } });
  return response.status;
}

test("cuts off who sends headers for ever", async () => {
  const caller = new Caller();
  await caller.trickle(`GET /healthz HTTP/1.1\r\nX-Slow: ${"a".repeat(200)}`, 20);
  expect(caller.ended).toBe(true);
  expect(caller.received).toMatch(/^HTTP\/1\.1 408 /);
});

test("cuts off who connects and says nothing", async () => {
  const caller = new Caller();
  await vi.waitFor(() => expect(caller.ended).toBe(true), { timeout: 5_000 });
});

test("cuts off who sends a body for ever", async () => {
  const caller = new Caller();
  caller.socket.write(`${headers}Content-Length: 1000\r\n\r\n{`);
  await caller.trickle(" ".repeat(200), 20);
  expect(caller.ended).toBe(true);
});

test("reads no body of a caller without the token", async () => {
  const caller = new Caller();
  caller.socket.write(headers.replace(token, "another") + "Content-Length: 1000000\r\n\r\n{");
  await vi.waitFor(() => expect(caller.ended).toBe(true), { timeout: 5_000 });
  expect(caller.received).toMatch(/^HTTP\/1\.1 401 /);
});

test.each(["/healthz", "/readyz", "/other"])("reads no body that is sent to %s, whoever sends it", async (path) => {
  const caller = new Caller();
  caller.socket.write(headers.replace("/mcp", path) + "Content-Length: 1000000000\r\n\r\n{");
  await vi.waitFor(() => expect(caller.ended).toBe(true), { timeout: 5_000 });
  expect(caller.received).toMatch(/^HTTP\/1\.1 (200|404) /);
});

/** Requests that a proxy before this server and the server itself could take for different ones, or the token for sent. */
test.each([
  ["two lengths", `${headers}${length}Content-Length: 5\r\n\r\n${body}`, 400],
  ["a length and chunks", `${headers}${length}Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n`, 400],
  ["an encoding that is not known", `${headers}Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n`, 400],
  ["a folded header", `${headers}X-A: a\r\n b\r\n${length}\r\n${body}`, 400],
  ["a length below zero", `${headers}Content-Length: -1\r\n\r\n`, 400],
  ["a chunk beyond all numbers", `${headers}Transfer-Encoding: chunked\r\n\r\nFFFFFFFFFFFFFFFFF\r\n`, 400],
  ["line ends of another kind", `${headers}${length}\r\n${body}`.replaceAll("\r\n", "\n"), 400],
  ["no host", `${headers.replace("Host: localhost\r\n", "")}${length}\r\n${body}`, 400],
  [
    "the token in the address",
    `${headers.replace(token, "x").replace("/mcp", `/mcp?token=${token}`)}${length}\r\n${body}`,
    401,
  ],
  [
    "the token in a cookie",
    `${headers.replace(`Bearer ${token}`, "x")}Cookie: token=${token}\r\n${length}\r\n${body}`,
    401,
  ],
  [
    "the token in a second header",
    `${headers.replace(token, "x")}Authorization: Bearer ${token}\r\n${length}\r\n${body}`,
    401,
  ],
  [
    "the token in a trailer",
    `${headers.replace(token, "x")}Transfer-Encoding: chunked\r\n\r\n0\r\nAuthorization: Bearer ${token}\r\n\r\n`,
    401,
  ],
  [
    "the body of a form",
    `${headers.replace("application/json", "text/plain")}${length}Connection: close\r\n\r\n${body}`,
    415,
  ],
  ["another address than its own", `${headers.replace("/mcp", "http://evil.example/mcp")}${length}\r\n${body}`, 404],
])("refuses a request with %s", async (_what, request, status) => {
  const caller = new Caller();
  caller.socket.write(request);
  await vi.waitFor(() => expect(caller.received).toMatch(/^HTTP\/1\.1 /), { timeout: 5_000 });
  expect(caller.received).toMatch(new RegExp(`^HTTP/1\\.1 ${status} `));
  caller.socket.destroy();
});

test.each([
  ["of a known length", "Content-Length: 16500000\r\n\r\n{"],
  ["in chunks", "Transfer-Encoding: chunked\r\n\r\n1\r\n{\r\n"],
])("reads large bodies %s a few at a time, and small ones meanwhile", async (_what, rest) => {
  const first = new Caller();
  first.socket.write(`${headers}Content-Length: 600000\r\n\r\n{`);
  await sleep(100);
  const second = new Caller();
  second.socket.write(headers + rest);
  await vi.waitFor(() => expect(second.ended).toBe(true), { timeout: 5_000 });
  expect(second.received).toMatch(/^HTTP\/1\.1 503 /);
  const small = new Caller();
  small.socket.write(`${headers}${length}\r\n${body}`);
  await vi.waitFor(() => expect(small.received).toMatch(/^HTTP\/1\.1 200 /), { timeout: 5_000 });
  first.socket.destroy();
  small.socket.destroy();
  await sleep(100);
  const large = JSON.stringify({ jsonrpc: "2.0", id: 1, method: "ping", params: { a: "x".repeat(600_000) } });
  const third = new Caller();
  third.socket.write(`${headers}Content-Length: ${large.length}\r\n\r\n${large}`);
  await vi.waitFor(() => expect(third.received).toMatch(/^HTTP\/1\.1 200 /), { timeout: 5_000 });
  third.socket.destroy();
});

test("refuses headers that are too large", async () => {
  const caller = new Caller();
  caller.socket.write(`GET /healthz HTTP/1.1\r\nHost: localhost\r\nX-Large: ${"a".repeat(8_000)}\r\n\r\n`);
  await vi.waitFor(() => expect(caller.received).toMatch(/^HTTP\/1\.1 431 /), { timeout: 5_000 });
});

test("takes no more connections than it can bear, and serves again when they are gone", async () => {
  const callers = Array.from({ length: 20 }, () => new Caller());
  await vi.waitFor(() => expect(callers.filter((caller) => caller.ended).length).toBeGreaterThanOrEqual(12), {
    timeout: 5_000,
  });
  await vi.waitFor(() => expect(callers.every((caller) => caller.ended)).toBe(true), { timeout: 5_000 });
  expect(await health()).toBe(200);
});

test.each(["", token.slice(0, -1), `${token}x`, token.toUpperCase(), "x".repeat(3_000)])(
  "refuses the token %j",
  async (other) => {
    const response = await fetch(serving.url, {
      method: "POST",
      body: "{}",
      headers: { authorization: `Bearer ${other}`, connection: "close" },
    });
    expect(response.status).toBe(401);
  },
);
