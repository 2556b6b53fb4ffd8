import { randomUUID } from "node:crypto";
import { Client, StreamableHTTPClientTransport } from "@modelcontextprotocol/client";
import { StdioClientTransport } from "@modelcontextprotocol/client/stdio";
import { Client as OlderClient } from "@modelcontextprotocol/sdk/client/index.js";
import { StdioClientTransport as OlderStdioTransport } from "@modelcontextprotocol/sdk/client/stdio.js";
import { StreamableHTTPClientTransport as OlderHttpTransport } from "@modelcontextprotocol/sdk/client/streamableHttp.js";
import { ElicitRequestSchema } from "@modelcontextprotocol/sdk/types.js";
import { afterAll, afterEach, beforeAll, describe, expect, test } from "vitest";
import { FixtureProcess, fixturePath, initializeParams, listening } from "./harness.ts";

/** What the person behind a client does with a question. */
type Person = (message: string) => Promise<{ action: "accept" | "decline" | "cancel"; content?: { yes: boolean } }>;

interface Asked {
  /** Every question that reached the person. */
  questions: string[];
  callTool(args: Record<string, unknown>): Promise<{ isError: boolean; data: Record<string, unknown> }>;
  close(): Promise<void>;
}

const info = { name: "test", version: "1" };
const capabilities = { elicitation: {} };
const child = { command: process.execPath, args: [fixturePath], stderr: "ignore" as const };
const impatient = { ...child, env: { PATH: process.env["PATH"] ?? "", FIXTURE_ASK_SECONDS: "1" } };

let http: FixtureProcess;
let url: URL;

beforeAll(async () => {
  http = new FixtureProcess({ args: ["--http"], env: { MCP_HTTP_PORT: "0" } });
  url = await listening(http);
});
afterAll(() => http.stop());

async function older(transport: OlderStdioTransport | OlderHttpTransport, person?: Person): Promise<Asked> {
  const client = new OlderClient(info, person === undefined ? {} : { capabilities });
  const questions: string[] = [];
  if (person !== undefined) {
    client.setRequestHandler(ElicitRequestSchema, async ({ params }) => {
      questions.push(params.message);
      return await person(params.message);
    });
  }
  await client.connect(transport);
  return asked(
    questions,
    (args) => client.callTool({ name: "erase", arguments: args }),
    () => client.close(),
  );
}

async function newer(
  transport: StdioClientTransport | StreamableHTTPClientTransport,
  mode: "auto" | "legacy",
  person?: Person,
): Promise<Asked> {
  const client = new Client(info, {
    versionNegotiation: { mode },
    ...(person === undefined ? {} : { capabilities }),
  });
  const questions: string[] = [];
  if (person !== undefined) {
    client.setRequestHandler("elicitation/create", async ({ params }) => {
      questions.push(params.message);
      return await person(params.message);
    });
  }
  await client.connect(transport);
  return asked(
    questions,
    (args) => client.callTool({ name: "erase", arguments: args }),
    () => client.close(),
  );
}

function asked(
  questions: string[],
  call: (args: Record<string, unknown>) => Promise<Record<string, unknown>>,
  close: () => Promise<void>,
): Asked {
  return {
    questions,
    async callTool(args) {
      const { isError, content } = await call(args);
      const [block] = Array.isArray(content) ? content : [];
      return { isError: isError === true, data: JSON.parse(block.text) };
    },
    close,
  };
}

const accept: Person = async () => ({ action: "accept", content: { yes: true } });

const ways: [string, (person?: Person) => Promise<Asked>][] = [
  ["the v1 client over stdio", (person) => older(new OlderStdioTransport(child), person)],
  [
    "the v2 client over stdio, as the 2026 generation",
    (person) => newer(new StdioClientTransport(child), "auto", person),
  ],
  [
    "the v2 client over stdio, as the 2025 generation",
    (person) => newer(new StdioClientTransport(child), "legacy", person),
  ],
  [
    "the v2 client over HTTP, as the 2026 generation",
    (person) => newer(new StreamableHTTPClientTransport(url), "auto", person),
  ],
];

describe.each(ways)("%s", (_name, connect) => {
  let client: Asked | undefined;
  afterEach(() => client?.close());

  test("does what was asked for after a yes, and asks once", async () => {
    client = await connect(accept);
    const { isError, data } = await client.callTool({ rows: 5 });
    expect({ isError, data }).toEqual({ isError: false, data: { erased: 5, asked: true } });
    expect(client.questions).toEqual(["Erase 5 rows?"]);
  });

  test("asks nothing where nothing is lost", async () => {
    client = await connect(accept);
    expect((await client.callTool({ rows: 0 })).data).toEqual({ erased: 0, asked: false });
    expect(client.questions).toEqual([]);
  });

  test.each([
    ["declines", { action: "decline" }, "declined"],
    ["closes the question", { action: "cancel" }, "not_confirmed"],
    ["sends the form without the yes", { action: "accept", content: { yes: false } }, "declined"],
  ] as const)("does nothing where the person %s", async (_what, answer, code) => {
    client = await connect(async () => answer);
    const { isError, data } = await client.callTool({ rows: 5 });
    expect(isError).toBe(true);
    expect(data["error"]).toMatchObject({ code, next: expect.any(String) });
    expect(client.questions).toEqual(["Erase 5 rows?"]);
  });

  test("asks nobody where the client cannot ask", async () => {
    client = await connect();
    expect((await client.callTool({ rows: 5 })).data).toEqual({ erased: 5, asked: false });
  });

  test("takes a yes for the question that was asked, and asks again where that has changed", async () => {
    client = await connect(accept);
    const { isError, data } = await client.callTool({ rows: 5, grows: { name: randomUUID(), times: 1 } });
    expect({ isError, data }).toEqual({ isError: false, data: { erased: 6, asked: true } });
    expect(client.questions).toEqual(["Erase 5 rows?", "Erase 6 rows?"]);
  });
});

test("gives up where the question changes with every answer", async () => {
  const client = await older(new OlderStdioTransport(child), accept);
  const { isError, data } = await client.callTool({ rows: 5, grows: { name: "ever", times: 100 } });
  expect(isError).toBe(true);
  expect(data["error"]).toMatchObject({ code: "not_confirmed" });
  expect(client.questions).toEqual(["Erase 5 rows?", "Erase 6 rows?", "Erase 7 rows?"]);
  await client.close();
});

const slow: Person = () => new Promise(() => {});

test.each([
  ["the v1 client", () => older(new OlderStdioTransport(impatient), slow)],
  ["the v2 client, as the 2025 generation", () => newer(new StdioClientTransport(impatient), "legacy", slow)],
])("does not wait for a person for ever: %s", async (_name, connect) => {
  const client = await connect();
  const { isError, data } = await client.callTool({ rows: 5 });
  expect(isError).toBe(true);
  expect(data["error"]).toMatchObject({ code: "not_confirmed", next: expect.stringContaining("conversation") });
  expect(client.questions).toEqual(["Erase 5 rows?"]);
  await client.close();
});

test("asks nobody where the settings say so", async () => {
  const silent = { ...child, env: { PATH: process.env["PATH"] ?? "", FIXTURE_ASK_SECONDS: "0" } };
  const client = await newer(new StdioClientTransport(silent), "auto", accept);
  expect((await client.callTool({ rows: 5 })).data).toEqual({ erased: 5, asked: false });
  await client.close();
});

test("asks nobody over HTTP as the 2025 generation, which has no session to ask in", async () => {
  const client = await older(new OlderHttpTransport(url), accept);
  expect((await client.callTool({ rows: 5 })).data).toEqual({ erased: 5, asked: false });
  await client.close();
});

describe("on the wire of 2026", () => {
  const call = { name: "erase", arguments: { rows: 5 } };
  const meta = {
    "io.modelcontextprotocol/protocolVersion": "2026-07-28",
    "io.modelcontextprotocol/clientInfo": info,
    "io.modelcontextprotocol/clientCapabilities": { elicitation: { form: {} } },
  };
  const yes = { confirm: { action: "accept", content: { yes: true } } };

  test("a yes counts only with the state of the question that was asked of this call", async () => {
    const server = new FixtureProcess();
    const first = await server.request(1, "tools/call", { ...call, _meta: meta });
    expect(first.result).toMatchObject({
      resultType: "input_required",
      inputRequests: { confirm: { method: "elicitation/create", params: { message: "Erase 5 rows?" } } },
      requestState: expect.any(String),
    });
    const { requestState } = first.result;
    const retry = { ...call, inputResponses: yes, _meta: meta };
    const without = await server.request(2, "tools/call", retry);
    expect(without.result.resultType).toBe("input_required");
    const forged = await server.request(3, "tools/call", { ...retry, requestState: "forged" });
    expect(forged.error).toMatchObject({ code: -32_602, data: { reason: "invalid_request_state" } });
    const other = { ...retry, arguments: { rows: 500 }, requestState };
    expect((await server.request(4, "tools/call", other)).error).toMatchObject({ code: -32_602 });
    expect(server.stderr).not.toContain("erased");
    const right = await server.request(5, "tools/call", { ...retry, requestState });
    expect(right.result.structuredContent).toEqual({ erased: 5, asked: true });
    expect(server.stderr).toContain('"outcome":"input_required"');
    await server.stop();
  });

  test("asks a client that offers addresses only nothing", async () => {
    const server = new FixtureProcess();
    const capabilitiesOf = { ...meta, "io.modelcontextprotocol/clientCapabilities": { elicitation: { url: {} } } };
    const answer = await server.request(1, "tools/call", { ...call, _meta: capabilitiesOf });
    expect(answer.result.structuredContent).toEqual({ erased: 5, asked: false });
    await server.stop();
  });

  test("a client that goes away while its person thinks is not waited for", async () => {
    const server = new FixtureProcess();
    const params = { ...initializeParams("2025-11-25"), capabilities };
    await server.request("init", "initialize", params);
    server.send({ method: "notifications/initialized" });
    server.send({ id: 1, method: "tools/call", params: call });
    await server.waitFor(() => server.messages.find(({ method }) => method === "elicitation/create"), "the question");
    server.send({ method: "notifications/cancelled", params: { requestId: 1 } });
    await server.request(2, "ping");
    expect(server.stderr).not.toContain("erased");
    const { code } = await server.endsAfter(() => server.child.stdin?.end());
    expect(code).toBe(0);
  });
});
