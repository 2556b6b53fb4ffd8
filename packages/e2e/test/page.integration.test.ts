import { Client as ClientV1 } from "@modelcontextprotocol/sdk/client/index.js";
import { StreamableHTTPClientTransport as HttpV1 } from "@modelcontextprotocol/sdk/client/streamableHttp.js";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { AppClient, pagesCapability } from "../src/app-client.ts";
import { entryPoint, type HttpServer, type ServerName, startHttpServer } from "../src/servers.ts";
import { makePlace, type Place } from "./support.ts";

const pages = {
  "es-mcp": { uri: "ui://es-mcp/exports", list: "list_exports", tools: ["bulk_export", "get_export", "list_exports"] },
  "pg-mcp": {
    uri: "ui://pg-mcp/loads",
    list: "list_loads",
    tools: ["bulk_insert", "get_load", "list_loads", "verify_load"],
  },
};
const token = "a-token-of-this-test";

let place: Place;

beforeAll(async () => {
  place = await makePlace();
});

afterAll(async () => {
  await place[Symbol.asyncDispose]();
});

describe.each(["es-mcp", "pg-mcp"] as const)("the page of %s", (name: ServerName) => {
  const { uri, tools, list } = pages[name];

  it("is named by the tools whose answers it shows, and read by clients that show pages", async () => {
    await using app = await AppClient.open(name, place.env);
    const listed = (await app.client.listTools()).tools;
    const shown = listed.filter(({ _meta }) => _meta !== undefined);
    expect(shown.map((tool) => tool.name)).toEqual(tools);
    for (const tool of tools) {
      const { html, tool: found } = await app.pageOf(tool);
      expect(found._meta).toEqual({ ui: { resourceUri: uri } });
      expect(html).toMatch(/^<!doctype html>[^]*<\/html>\n?$/);
      expect(html).toContain('data-endpoint=""');
    }
  });

  describe("over HTTP", () => {
    let server: HttpServer;

    beforeAll(async () => {
      server = await startHttpServer(entryPoint(name), { ...place.env, MCP_HTTP_TOKEN: token });
    });

    afterAll(async () => {
      await server.stop();
    });

    it("is served at / without data, and no data is to be had without the token", async () => {
      const response = await fetch(new URL("/", server.url));
      expect(response.headers.get("content-security-policy")).toMatch(
        /^default-src 'none'; script-src 'sha256-[^']+'; style-src 'sha256-[^']+'; img-src data:; connect-src 'self'; .*frame-ancestors 'none'/,
      );
      const html = await response.text();
      expect(html).toContain('data-endpoint="mcp"');
      for (const secret of [place.index, place.staging, "postgres://", token]) expect(html).not.toContain(secret);
      for (const authorization of [undefined, "Bearer wrong"]) {
        expect((await listJobs(authorization)).status).toBe(401);
      }
    });

    it("gets its data by the request that the page makes", async () => {
      const response = await listJobs(`Bearer ${token}`);
      expect(response.status).toBe(200);
      expect(await response.text()).toContain('"structuredContent":');
    });

    it("is read by a client of the older line, too", async () => {
      const client = new ClientV1({ name: "app", version: "1" }, { capabilities: pagesCapability });
      const headers = { Authorization: `Bearer ${token}` };
      await client.connect(new HttpV1(new URL(server.url), { requestInit: { headers } }));
      const { resources } = await client.listResources();
      expect(resources).toContainEqual(expect.objectContaining({ uri, mimeType: "text/html;profile=mcp-app" }));
      const { contents } = await client.readResource({ uri });
      expect(contents).toEqual([
        expect.objectContaining({
          uri,
          mimeType: "text/html;profile=mcp-app",
          text: expect.stringMatching(/^<!doctype/),
        }),
      ]);
      await client.close();
    });

    /** The page's own request, header by header. */
    async function listJobs(authorization: string | undefined): Promise<Response> {
      const version = "2026-07-28";
      return await fetch(server.url, {
        method: "POST",
        headers: {
          "Content-Type": "application/json",
          Accept: "application/json, text/event-stream",
          "MCP-Protocol-Version": version,
          "Mcp-Method": "tools/call",
          "Mcp-Name": list,
          Origin: new URL(server.url).origin,
          ...(authorization === undefined ? {} : { Authorization: authorization }),
        },
        body: JSON.stringify({
          jsonrpc: "2.0",
          id: 1,
          method: "tools/call",
          params: {
            name: list,
            arguments: {},
            _meta: {
              "io.modelcontextprotocol/protocolVersion": version,
              "io.modelcontextprotocol/clientInfo": { name: "job-page", version: "0.1.0" },
              "io.modelcontextprotocol/clientCapabilities": {},
            },
          },
        }),
      });
    }
  });
});
