import type { Caller } from "./call.ts";

/** Whether tools publish output schemas and answer with structured content: always, never, or by who asks. */
export type StructuredOutput = boolean | "auto";

/**
 * What clients' names begin with that must not know of output schemas. Gemini CLI 0.61.0 copies the text of every
 * result into its structured content, errors too, and then tells its model that they do not match the schema, in place
 * of what went wrong (`mcp-compliance-transport.ts` of its core).
 */
const TEXT_CLIENTS = ["gemini-cli-mcp-client"];

/**
 * Whether one client gets structured content. A client that the protocol lets say nothing of itself, which is any of
 * the 2025 generation over HTTP without sessions, gets it; so does every client that is not known to misread it.
 */
export function answersStructured(setting: StructuredOutput, caller: Caller | undefined): boolean {
  if (setting !== "auto") return setting;
  return !TEXT_CLIENTS.some((name) => caller?.name.startsWith(name));
}
