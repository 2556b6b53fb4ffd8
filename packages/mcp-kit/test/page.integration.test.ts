import { createHash } from "node:crypto";
import { once } from "node:events";
import { Client as ClientV2, StreamableHTTPClientTransport as HttpV2 } from "@modelcontextprotocol/client";
import { StdioClientTransport as StdioV2 } from "@modelcontextprotocol/client/stdio";
import { Client as ClientV1 } from "@modelcontextprotocol/sdk/client/index.js";
import { StdioClientTransport as StdioV1 } from "@modelcontextprotocol/sdk/client/stdio.js";
import { StreamableHTTPClientTransport as HttpV1 } from "@modelcontextprotocol/sdk/client/streamableHttp.js";
import { afterEach, describe, expect, test } from "vitest";
import { FixtureProcess, fixturePath, listening } from "./harness.ts";

const running: (() => Promise<unknown>)[] = [];

afterEach(async () => {
  for (const stop of running.splice(0).toReversed()) await stop();
});

const withPage = { FIXTURE_PAGE: "true" };
const pages = { extensions: { "io.modelcontextprotocol/ui": { mimeTypes: ["text/html;profile=mcp-app"] } } };
const others = { extensions: { "io.modelcontextprotocol/ui": { mimeTypes: ["text/html;profile=another"] } } };
const about = { name: "test", version: "1" };
const resource = {
  uri: "ui://fixture/jobs",
  name: "jobs",
  title: "Jobs",
  description: "How jobs go.",
  mimeType: "text/html;profile=mcp-app",
  _meta: {
    ui: {
      csp: { connectDomains: [], resourceDomains: [], frameDomains: [], baseUriDomains: [] },
      prefersBorder: true,
    },
  },
};

async function startHttp(env: Record<string, string> = {}): Promise<URL> {
  const server = new FixtureProcess({ args: ["--http"], env: { MCP_HTTP_PORT: "0", ...withPage, ...env } });
  running.push(() => server.stop());
  return await listening(server);
}

type Line = "v1" | "v2";
type Transport = "stdio" | "http";

/** A real client of either line, which says that it can do what it is given. */
async function connect(line: Line, transport: Transport, capabilities: object, env = {}) {
  const pipe = { command: process.execPath, args: [fixturePath], env: { ...withPage, ...env } };
  const url = transport === "http" ? await startHttp(env) : undefined;
  if (line === "v1") {
    const client = new ClientV1(about, { capabilities });
    await client.connect(url === undefined ? new StdioV1(pipe) : new HttpV1(url));
    running.push(() => client.close());
    return client;
  }
  const client = new ClientV2(about, { capabilities, versionNegotiation: { mode: "auto" } });
  await client.connect(url === undefined ? new StdioV2(pipe) : new HttpV2(url));
  running.push(() => client.close());
  return client;
}

async function shownTo(
  client: Awaited<ReturnType<typeof connect>>,
): Promise<{ tools: unknown[]; resources: unknown[] }> {
  const { tools } = await client.listTools();
  const { resources } = await client.listResources();
  return {
    tools: tools.flatMap(({ name, _meta }) => (_meta?.["ui"] === undefined ? [] : [[name, _meta]])),
    resources: resources.filter(({ uri }) => uri.startsWith("ui://")),
  };
}

function hash(text: string): string {
  return `'sha256-${createHash("sha256").update(text).digest("base64")}'`;
}

const ways: [Line, Transport][] = [
  ["v1", "stdio"],
  ["v2", "stdio"],
  ["v1", "http"],
  ["v2", "http"],
];

describe.each(ways)("a client of the line %s over %s", (line, transport) => {
  test("that shows pages is told of the page and can read it", async () => {
    const client = await connect(line, transport, pages);
    expect(await shownTo(client)).toEqual({
      tools: [["start_job", { ui: { resourceUri: "ui://fixture/jobs" } }]],
      resources: [resource],
    });
    const { contents } = await client.readResource({ uri: "ui://fixture/jobs" });
    const { uri, mimeType, _meta } = resource;
    expect(contents).toEqual([{ uri, mimeType, _meta, text: expect.stringContaining('<script>""</script>') }]);
    expect(client.getServerCapabilities()?.extensions).toEqual({ "io.modelcontextprotocol/ui": {} });
  });
});

// A client of the older line says nothing over HTTP once it is connected: it is told, and does not mind.
describe.each(ways.slice(0, 2).concat([["v2", "http"]]))("a client of the line %s over %s", (line, transport) => {
  test.each([
    ["says nothing of pages", {}],
    ["shows other pages", others],
  ])("that %s is told of none", async (_what, capabilities) => {
    expect(await shownTo(await connect(line, transport, capabilities))).toEqual({ tools: [], resources: [] });
  });
});

test("a server without a page speaks of none", async () => {
  const client = await connect("v2", "stdio", pages, { FIXTURE_PAGE: "false" });
  expect(await shownTo(client)).toEqual({ tools: [], resources: [] });
  expect(client.getServerCapabilities()?.extensions).toBeUndefined();
});

describe("over HTTP at /", () => {
  test("the page is served without the token, with what keeps a browser strict", async () => {
    const url = await startHttp({ MCP_HTTP_TOKEN: "geheim", MCP_HTTP_PATH: "/x/mcp" });
    const response = await fetch(new URL("/", url));
    const html = await response.text();
    expect(response.status).toBe(200);
    expect(html).toContain('<script>"x/mcp"</script>');
    const { date: _, connection: _c, "keep-alive": _k, ...headers } = Object.fromEntries(response.headers);
    expect(headers).toEqual({
      "content-type": "text/html; charset=utf-8",
      "content-length": String(html.length),
      "content-security-policy": `default-src 'none'; script-src ${hash('"x/mcp"')}; style-src ${hash("p{}")}; img-src data:; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'`,
      "cross-origin-opener-policy": "same-origin",
      "cross-origin-resource-policy": "same-origin",
      "x-content-type-options": "nosniff",
      "x-frame-options": "DENY",
      "referrer-policy": "no-referrer",
      "cache-control": "no-store",
    });
  });

  test("the page is no way to data: every call still needs the token", async () => {
    const url = await startHttp({ MCP_HTTP_TOKEN: "geheim" });
    const read = await fetch(url, {
      method: "POST",
      headers: { "Content-Type": "application/json", Accept: "application/json, text/event-stream" },
      body: JSON.stringify({ jsonrpc: "2.0", id: 1, method: "resources/list" }),
    });
    expect(read.status).toBe(401);
    for (const path of ["/?x", "/index.html", "/.", "//"]) {
      const text = await (await fetch(new URL(`http://${url.host}${path}`))).text();
      expect(text).not.toContain("alpha");
    }
  });

  test.each([
    ["HEAD", 200],
    ["POST", 405],
    ["OPTIONS", 405],
  ])("%s is answered with %d and no body", async (method, status) => {
    const url = await startHttp();
    const response = await fetch(new URL("/", url), { method });
    expect(response.status).toBe(status);
    expect(await response.text()).toBe("");
    expect(response.headers.get("access-control-allow-origin")).toBeNull();
  });

  test("a name that is not known, or another site, gets no page", async () => {
    const url = await startHttp();
    const foreign = await fetch(new URL("/", url), { headers: { Origin: "https://evil.example" } });
    expect(foreign.status).toBe(404);
    // node:http, because fetch lets nobody choose a Host.
    const { request } = await import("node:http");
    const sent = request({ host: url.hostname, port: url.port, path: "/", headers: { Host: "evil.example" } }).end();
    const [response] = await once(sent, "response");
    expect(response.statusCode).toBe(404);
    response.destroy();
  });

  test("the endpoint itself may be there", async () => {
    const url = await startHttp({ MCP_HTTP_PATH: "/" });
    expect((await fetch(url)).status).toBe(405);
    const client = new ClientV2(about, { capabilities: pages, versionNegotiation: { mode: "auto" } });
    await client.connect(new HttpV2(url));
    expect((await client.listTools()).tools).not.toEqual([]);
    await client.close();
  });
});
