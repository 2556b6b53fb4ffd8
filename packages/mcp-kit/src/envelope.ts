const PREFIX = "io.modelcontextprotocol/";

/**
 * What a request of the 2026 generation says of its sender in its `_meta`: who it is, what it can do, which version it
 * speaks. Undefined where it says nothing, and in the older generation, which has no envelope.
 */
export function toldByEnvelope(
  envelope: object | undefined,
  member: "clientInfo" | "clientCapabilities" | "protocolVersion",
): unknown {
  return Object.entries(envelope ?? {}).find(([key]) => key === PREFIX + member)?.[1];
}
