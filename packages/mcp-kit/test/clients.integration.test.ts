import { Client, StreamableHTTPClientTransport } from "@modelcontextprotocol/client";
import { StdioClientTransport } from "@modelcontextprotocol/client/stdio";
import { Client as OlderClient } from "@modelcontextprotocol/sdk/client/index.js";
import { StdioClientTransport as OlderStdioTransport } from "@modelcontextprotocol/sdk/client/stdio.js";
import { StreamableHTTPClientTransport as OlderHttpTransport } from "@modelcontextprotocol/sdk/client/streamableHttp.js";
import { afterAll, afterEach, beforeAll, describe, expect, test } from "vitest";
import { FixtureProcess, fixturePath, listening } from "./harness.ts";

/** What the tests do with a client, of either SDK. */
interface AnyClient {
  listTools(): Promise<{ tools: { name: string }[] }>;
  callTool(
    request: { name: string; arguments: Record<string, unknown> },
    onprogress?: (progress: { progress: number }) => void,
  ): Promise<{ content?: unknown; structuredContent?: unknown; isError?: unknown }>;
  close(): Promise<void>;
}

const info = { name: "test", version: "1" };
const child = { command: process.execPath, args: [fixturePath], stderr: "ignore" as const };
const token = "geheim";
const headers = { requestInit: { headers: { Authorization: `Bearer ${token}` } } };

let http: FixtureProcess;
let url: URL;

beforeAll(async () => {
  http = new FixtureProcess({ args: ["--http"], env: { MCP_HTTP_PORT: "0", MCP_HTTP_TOKEN: token } });
  url = await listening(http);
});
afterAll(() => http.stop());

async function older(transport: OlderStdioTransport | OlderHttpTransport): Promise<AnyClient> {
  const client = new OlderClient(info);
  await client.connect(transport);
  return {
    listTools: () => client.listTools(),
    async callTool(request, onprogress) {
      const result = await client.callTool(request, undefined, onprogress === undefined ? {} : { onprogress });
      return { content: result["content"], structuredContent: result["structuredContent"], isError: result["isError"] };
    },
    close: () => client.close(),
  };
}

async function newer(
  transport: StdioClientTransport | StreamableHTTPClientTransport,
  mode: "auto" | "legacy",
): Promise<AnyClient> {
  const client = new Client(info, { versionNegotiation: { mode } });
  await client.connect(transport);
  return {
    listTools: () => client.listTools(),
    callTool: (request, onprogress) => client.callTool(request, onprogress === undefined ? {} : { onprogress }),
    close: () => client.close(),
  };
}

const ways: [string, () => Promise<AnyClient>][] = [
  ["the v1 client over stdio", () => older(new OlderStdioTransport(child))],
  ["the v1 client over HTTP", () => older(new OlderHttpTransport(url, headers))],
  ["the v2 client over stdio, as the 2026 generation", () => newer(new StdioClientTransport(child), "auto")],
  ["the v2 client over stdio, as the 2025 generation", () => newer(new StdioClientTransport(child), "legacy")],
  [
    "the v2 client over HTTP, as the 2026 generation",
    () => newer(new StreamableHTTPClientTransport(url, headers), "auto"),
  ],
  [
    "the v2 client over HTTP, as the 2025 generation",
    () => newer(new StreamableHTTPClientTransport(url, headers), "legacy"),
  ],
];

describe.each(ways)("%s", (_name, connect) => {
  let client: AnyClient | undefined;
  afterEach(() => client?.close());

  test("lists tools, calls them, reads failures and sees progress", async () => {
    client = await connect();
    const { tools } = await client.listTools();
    expect(tools.map(({ name }) => name)).toEqual(["echo", "fail", "start_job", "erase"]);

    const answer = await client.callTool({
      name: "echo",
      arguments: { message: "a", times: 2, extra: '{"id":9007199254740993}' },
    });
    expect(answer.structuredContent).toEqual({ message: "aa", extra: { id: "9007199254740993" } });

    const failure = await client.callTool({ name: "fail", arguments: { how: "expected" } });
    expect(failure.isError).toBe(true);
    expect(failure.content).toEqual([
      {
        type: "text",
        text: JSON.stringify({
          error: {
            code: "not_there",
            message: "Could not reach postgres://me:***@db: invalid-token.",
            retryable: true,
            next: "Call echo.",
            nearest: ["echo"],
          },
        }),
      },
    ]);

    await expect(client.callTool({ name: "eco", arguments: {} })).rejects.toThrow(
      /There is no tool eco; did you mean echo\?/,
    );

    const seen: number[] = [];
    const job = { name: "start_job", arguments: { steps: 4, wait_seconds: 10 } };
    const end = await client.callTool(job, ({ progress }) => seen.push(progress));
    expect(end.structuredContent).toMatchObject({ status: "completed", done: 4 });
    expect(seen.length).toBeGreaterThan(1);
    // The last update and the result come together, and the v2 client then lets the result win.
    expect(seen.at(-1)).toBeGreaterThanOrEqual(3);
  });

  test("gets its own answers to calls made at once", async () => {
    client = await connect();
    const connected = client;
    const messages = Array.from({ length: 20 }, (_, index) => `message ${index}`);
    const answers = await Promise.all(
      messages.map((message) => connected.callTool({ name: "echo", arguments: { message } })),
    );
    expect(answers.map(({ structuredContent }) => structuredContent)).toEqual(messages.map((message) => ({ message })));
  });
});
