import { CallFailed, type CallTool } from "./calls.ts";
import { fieldsOf, textOf } from "./fields.ts";

const VERSION = "2026-07-28";

/** Longest time for one answer, in milliseconds: the page never asks a server to wait. */
const TIMEOUT_MS = 30_000;

/**
 * Calls tools of the server that this page came from. The protocol's generation of 2026 needs no session: each request
 * says all that there is to say.
 */
export function serverCalls(endpoint: string, token: () => string | undefined): CallTool {
  let requests = 0;
  return async (tool, args) => {
    const id = ++requests;
    const bearer = token();
    const response = await fetch(endpoint, {
      method: "POST",
      headers: {
        "Content-Type": "application/json",
        Accept: "application/json, text/event-stream",
        "MCP-Protocol-Version": VERSION,
        "Mcp-Method": "tools/call",
        "Mcp-Name": tool,
        ...(bearer === undefined ? {} : { Authorization: `Bearer ${bearer}` }),
      },
      body: JSON.stringify({ jsonrpc: "2.0", id, method: "tools/call", params: paramsOf(tool, args) }),
      credentials: "omit",
      cache: "no-store",
      redirect: "error",
      signal: AbortSignal.timeout(TIMEOUT_MS),
    }).catch((): never => {
      throw new CallFailed("unreachable", "The server does not answer.");
    });
    const text = await response.text().catch(() => "");
    const message = messageIn(text, id);
    const problem = textOf(fieldsOf(message["error"]), "message");
    if (response.status === 401) throw new CallFailed("denied", "The server refused this token.");
    if (response.status === 403)
      throw new CallFailed("refused", problem ?? "The server takes no calls from this page.");
    if (message["result"] !== undefined) return message["result"];
    throw new CallFailed("unreachable", problem ?? `The server answered with status ${response.status}.`);
  };
}

function paramsOf(tool: string, args: Record<string, unknown>): object {
  const meta = {
    "io.modelcontextprotocol/protocolVersion": VERSION,
    "io.modelcontextprotocol/clientInfo": { name: "job-page", version: "0.1.0" },
    "io.modelcontextprotocol/clientCapabilities": {},
  };
  return { name: tool, arguments: args, _meta: meta };
}

/** The answer to one request, out of a JSON body or a stream of events. */
function messageIn(text: string, id: number): Record<string, unknown> {
  const texts = text.trimStart().startsWith("{")
    ? [text]
    : text.split("\n").flatMap((line) => (line.startsWith("data:") ? [line.slice(5)] : []));
  for (const one of texts) {
    try {
      const message = fieldsOf(JSON.parse(one));
      if (message["id"] === id || message["id"] === null) return { ...message };
    } catch {
      // Not a message: a proxy's page, or half of an answer. The status tells what to make of it.
    }
  }
  return {};
}
