import type { CallToolResult, Tool } from "@modelcontextprotocol/client";
import { Client } from "@modelcontextprotocol/client";
import { StdioClientTransport } from "@modelcontextprotocol/client/stdio";
import type { FrameLocator, Page } from "playwright-core";
import { z } from "zod";
import type { Shown } from "./host/host.ts";
import { entryPoint, type ServerName, serverEnvironment } from "./servers.ts";

/** What a client says that shows pages. */
export const pagesCapability = {
  extensions: { "io.modelcontextprotocol/ui": { mimeTypes: ["text/html;profile=mcp-app"] } },
};

const toolMetaSchema = z.object({ ui: z.object({ resourceUri: z.string() }) });
const contentsSchema = z.tuple([z.object({ mimeType: z.literal("text/html;profile=mcp-app"), text: z.string() })]);

/** A client that shows pages, with a built server on its other side. */
export class AppClient implements AsyncDisposable {
  readonly client: Client;

  private constructor(client: Client) {
    this.client = client;
  }

  /** Starts a built server, or the program of another build of it. */
  static async open(
    server: ServerName,
    env: Record<string, string>,
    program: string = entryPoint(server),
  ): Promise<AppClient> {
    const client = new Client(
      { name: "app-client", version: "1.0.0" },
      { capabilities: pagesCapability, versionNegotiation: { mode: "auto" } },
    );
    await client.connect(
      new StdioClientTransport({
        command: process.execPath,
        args: [program],
        env: serverEnvironment(env),
        stderr: "ignore",
      }),
    );
    return new AppClient(client);
  }

  async call(name: string, args: Record<string, unknown>): Promise<CallToolResult> {
    return await this.client.callTool({ name, arguments: args });
  }

  /** The page of a tool, by way of the tool's own word for it. */
  async pageOf(name: string): Promise<{ tool: Tool; html: string }> {
    const { tools } = await this.client.listTools();
    const tool = tools.find((one) => one.name === name);
    if (tool === undefined) throw new Error(`there is no tool ${name}`);
    const { resourceUri } = toolMetaSchema.parse(tool._meta).ui;
    const { contents } = await this.client.readResource({ uri: resourceUri });
    return { tool, html: contentsSchema.parse(contents)[0].text };
  }

  /** Lets the host in a browser's page pass on calls to this server. */
  async serve(page: Page): Promise<void> {
    await page.exposeFunction("callServerTool", (name: string, args: Record<string, unknown>) => this.call(name, args));
  }

  /** Shows the page of a tool in that host, as a call of it begins. */
  async show(page: Page, name: string, look: Pick<Shown, "theme"> & Partial<Shown>): Promise<FrameLocator> {
    const shown: Shown = { calls: true, ...(await this.pageOf(name)), ...look };
    await page.evaluate(`host.show(${JSON.stringify(shown)})`);
    return page.frameLocator("iframe").frameLocator("iframe");
  }

  /** Shows what a call began with and what it came to. */
  async showCall(page: Page, name: string, args: Record<string, unknown>): Promise<CallToolResult> {
    await page.evaluate(`host.input(${JSON.stringify(args)})`);
    const result = await this.call(name, args);
    await page.evaluate(`host.result(${JSON.stringify(result)})`);
    return result;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.client.close();
  }
}
