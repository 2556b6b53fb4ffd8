import { callDuration } from "./instruments.ts";
import type { Attributes, Operation, TraceParent } from "./operation.ts";

/** What a request of the protocol says of itself, as far as a trace of it is concerned. */
export interface RequestOrigin {
  method: string;
  id: string | number;
  _meta?: Record<string, unknown> | undefined;
  protocolVersion?: string | undefined;
  /** The HTTP request that it came by, where it did. */
  headers?: { get(name: string): string | null } | undefined;
}

/** A request that a tool answers, as MCP's semantic conventions have it. Neither arguments nor results are told. */
export function callOperation(tool: string, origin: RequestOrigin): Operation {
  const { method, id, protocolVersion, headers } = origin;
  const attributes: Attributes = {
    "mcp.method.name": method,
    "gen_ai.operation.name": "execute_tool",
    "gen_ai.tool.name": tool,
    "jsonrpc.request.id": String(id),
    "network.transport": headers === undefined ? "pipe" : "tcp",
    ...(protocolVersion === undefined ? {} : { "mcp.protocol.version": protocolVersion }),
  };
  return {
    name: `${method} ${tool}`,
    kind: "server",
    attributes,
    duration: callDuration,
    parent: parentOf(origin),
  };
}

/** The protocol's own field comes first: what carries it may have a trace of its own, beginning at a gateway. */
function parentOf({ _meta: meta = {}, headers }: RequestOrigin): TraceParent {
  const { traceparent, tracestate } = meta;
  if (typeof traceparent === "string") {
    return { traceparent, ...(typeof tracestate === "string" ? { tracestate } : {}) };
  }
  return {
    traceparent: headers?.get("traceparent") ?? undefined,
    tracestate: headers?.get("tracestate") ?? undefined,
  };
}
