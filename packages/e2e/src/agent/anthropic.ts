import Anthropic, { APIError } from "@anthropic-ai/sdk";
import { type Conversation, type ConversationStart, ModelFailed, type Reply } from "./conversation.ts";

/** The protocol demands a limit of one reply; calls and reports are far shorter. */
const outputTokensMax = 8_192;

/** A conversation with a model behind Anthropic's messages. */
export function anthropicConversation({ address, systemPrompt, tools }: ConversationStart): Conversation {
  const { baseUrl, apiKey, model } = address;
  const client = new Anthropic({ apiKey, ...(baseUrl === undefined ? {} : { baseURL: baseUrl }) });
  const messages: Anthropic.MessageParam[] = [];
  const listed = tools.map(({ name, description, inputSchema }) => ({
    name,
    description,
    input_schema: { ...inputSchema, type: "object" as const },
  }));

  const next = async (content: Anthropic.ContentBlockParam[], signal: AbortSignal): Promise<Reply> => {
    messages.push({ role: "user", content });
    const message = await client.messages
      .create(
        {
          model,
          max_tokens: outputTokensMax,
          // Tools and prompt are the same in each request: a mark at their end lets them be read from the cache.
          system: [{ type: "text", text: systemPrompt, cache_control: { type: "ephemeral" } }],
          tools: listed,
          messages,
        },
        { signal },
      )
      .catch((error: unknown) => {
        if (error instanceof APIError && !signal.aborted) throw new ModelFailed(error.status, error);
        throw error;
      });
    messages.push({ role: "assistant", content: message.content });
    return {
      text: message.content.flatMap((block) => (block.type === "text" ? [block.text] : [])).join("\n"),
      calls: message.content
        .filter((block) => block.type === "tool_use")
        .map(({ id, name, input }) => ({ id, name, args: JSON.stringify(input) })),
      usage: usageOf(message.usage),
    };
  };

  return {
    say: (text, signal) => next([{ type: "text", text }], signal),
    answer: (results, signal) =>
      next(
        results.map(({ id, text, isError }) => ({
          type: "tool_result",
          tool_use_id: id,
          content: text,
          is_error: isError,
        })),
        signal,
      ),
  };
}

/** All that was read, from the cache or not; a server that only resembles Anthropic's may not tell. */
function usageOf(usage: Anthropic.Usage | undefined): Reply["usage"] {
  if (usage === undefined) return null;
  const cached = (usage.cache_creation_input_tokens ?? 0) + (usage.cache_read_input_tokens ?? 0);
  return { input: usage.input_tokens + cached, output: usage.output_tokens };
}
