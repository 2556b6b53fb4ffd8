import OpenAI, { APIError } from "openai";
import { type Conversation, type ConversationStart, ModelFailed, type Reply } from "./conversation.ts";

type Message = OpenAI.Chat.Completions.ChatCompletionMessageParam;

/** A conversation with a model behind OpenAI's chat completions. */
export function openaiConversation({ address, systemPrompt, tools }: ConversationStart): Conversation {
  const { baseUrl, apiKey, model } = address;
  const client = new OpenAI({ apiKey, ...(baseUrl === undefined ? {} : { baseURL: baseUrl }) });
  const messages: Message[] = [{ role: "system", content: systemPrompt }];
  const functions = tools.map(({ name, description, inputSchema }) => ({
    type: "function" as const,
    function: { name, description, parameters: inputSchema },
  }));

  const next = async (said: Message[], signal: AbortSignal): Promise<Reply> => {
    messages.push(...said);
    // Whole and not streamed: what a model adds to its calls and wants back can not be put together from pieces.
    const completion = await client.chat.completions
      .create({ model, messages, tools: functions }, { signal })
      .catch((error: unknown) => {
        if (error instanceof APIError && !signal.aborted) throw new ModelFailed(error.status, error);
        throw error;
      });
    const message = completion.choices[0]?.message;
    if (message === undefined) throw new ModelFailed(undefined, new Error("the completion has no choice"));
    messages.push(message);
    const { usage } = completion;
    return {
      text: message.content ?? "",
      calls: (message.tool_calls ?? [])
        .filter((call) => call.type === "function")
        .map((call) => ({ id: call.id, name: call.function.name, args: call.function.arguments })),
      usage: usage == null ? null : { input: usage.prompt_tokens, output: usage.completion_tokens },
    };
  };

  return {
    say: (text, signal) => next([{ role: "user", content: text }], signal),
    answer: (results, signal) =>
      next(
        results.map(({ id, text }) => ({ role: "tool", tool_call_id: id, content: text })),
        signal,
      ),
  };
}
