import { fileURLToPath } from "node:url";
import { Client } from "@modelcontextprotocol/client";
import { StdioClientTransport } from "@modelcontextprotocol/client/stdio";
import { z } from "zod";

const resultSchema = z.object({
  isError: z.boolean().optional(),
  content: z.tuple([z.object({ type: z.literal("text"), text: z.string() })]),
});

/** What a tool answered, as the text that a model reads. */
export interface Answer {
  isError: boolean;
  bytes: number;
  // oxlint-disable-next-line typescript/no-explicit-any -- JSON whose shape each test asserts
  data: any;
}

/** The built server over stdio, and a client on it. */
export interface Session extends AsyncDisposable {
  tools(): Promise<string[]>;
  call(tool: string, given?: Record<string, unknown>, options?: { signal: AbortSignal }): Promise<Answer>;
  stderr(): string;
}

/** Starts the built server with nothing but this environment. */
export async function openSession(env: Record<string, string>): Promise<Session> {
  const transport = new StdioClientTransport({
    command: process.execPath,
    args: [fileURLToPath(new URL("../dist/main.js", import.meta.url))],
    env: { PATH: process.env["PATH"] ?? "", HOME: process.env["HOME"] ?? "/tmp", ...env },
    stderr: "pipe",
  });
  let errors = "";
  transport.stderr?.on("data", (chunk: Buffer) => {
    errors += chunk.toString();
  });
  const client = new Client({ name: "es-mcp-test", version: "0.0.0" });
  await client.connect(transport);
  return {
    tools: async () => (await client.listTools()).tools.map(({ name }) => name),
    async call(tool, given = {}, options) {
      const result = resultSchema.parse(await client.callTool({ name: tool, arguments: given }, options));
      const { text } = result.content[0];
      const data: unknown = JSON.parse(text);
      return { isError: result.isError === true, bytes: Buffer.byteLength(text), data };
    },
    stderr: () => errors,
    [Symbol.asyncDispose]: () => client.close(),
  };
}
