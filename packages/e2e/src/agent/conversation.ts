/** How a model is reached. */
export interface ModelAddress {
  protocol: Protocol;
  /** As the clients of the protocol take it; without it, that of the protocol's maker. */
  baseUrl?: string | undefined;
  apiKey: string;
  model: string;
}

/** The two interfaces that models are served by. */
export const protocols = ["openai", "anthropic"] as const;
export type Protocol = (typeof protocols)[number];

/** A tool as a model is told of it. */
export interface ModelTool {
  name: string;
  description: string;
  inputSchema: Record<string, unknown>;
}

/** A call that the model wants. */
export interface ModelCall {
  id: string;
  name: string;
  /** JSON text as the model wrote it, which may be none. */
  args: string;
}

/** What came of a call. */
export interface CallResult {
  id: string;
  text: string;
  isError: boolean;
}

/** What the model says in one turn; without calls, it has come to an end. */
export interface Reply {
  text: string;
  calls: ModelCall[];
  /** Tokens that the request and the reply cost, if the interface says so. */
  usage: { input: number; output: number } | null;
}

/**
 * A conversation in the form of its protocol. What a model said goes back to it as it came: some models demand parts
 * of it that this program has no name for.
 */
export interface Conversation {
  say(text: string, signal: AbortSignal): Promise<Reply>;
  answer(results: readonly CallResult[], signal: AbortSignal): Promise<Reply>;
}

/** What a conversation begins with. */
export interface ConversationStart {
  address: ModelAddress;
  systemPrompt: string;
  tools: readonly ModelTool[];
}

/** The model's interface did not answer as it should: an address, a key, a limit, or what it was sent. */
export class ModelFailed extends Error {
  /** Whether the interface refused what this conversation sent, and may take another. */
  readonly isRefusal: boolean;

  constructor(status: number | undefined, cause: Error) {
    super(`the model's interface failed: ${cause.message}`, { cause });
    this.name = "ModelFailed";
    this.isRefusal = status === 400 || status === 413 || status === 422;
  }
}
