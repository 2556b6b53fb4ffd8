/**
 * The agent over REST: A2A v2. Version 1.2.71 answers a message when the whole run is over, so this client waits
 * without limit; later versions stream, and are asked to where their card says so.
 */
import { randomUUID } from "node:crypto";
import { z } from "zod";
import { calls } from "./api/calls.ts";
import { ApiError, type ArchestraApi } from "./api/client.ts";
import { BundleError } from "./bundle-error.ts";

export interface Approval {
  approvalId: string;
  toolName: string;
}

/** What the agent said, or what it asks before it goes on. */
export type Reply =
  | { kind: "answer"; contextId: string | undefined; texts: readonly string[] }
  | { kind: "approval"; contextId: string; taskId: string; approvals: readonly Approval[] };

const partsSchema = z.array(z.object({ text: z.string().optional() }));
const messageSchema = z.object({ contextId: z.string().optional(), parts: partsSchema });
const taskSchema = z.object({
  id: z.string(),
  contextId: z.string(),
  status: z.object({ state: z.string(), message: messageSchema.optional() }),
  metadata: z
    .object({ approvalRequests: z.array(z.object({ approvalId: z.string(), toolName: z.string() })).optional() })
    .optional(),
  artifacts: z.array(z.object({ parts: partsSchema })).optional(),
});
const resultSchema = z.object({ message: messageSchema.optional(), task: taskSchema.optional() });
const eventSchema = z.object({
  result: z
    .object({
      message: messageSchema.optional(),
      task: taskSchema.optional(),
      statusUpdate: z
        .object({
          taskId: z.string(),
          contextId: z.string(),
          status: taskSchema.shape.status,
          metadata: taskSchema.shape.metadata,
        })
        .optional(),
      artifactUpdate: z
        .object({ contextId: z.string().optional(), artifact: z.object({ parts: partsSchema }) })
        .optional(),
    })
    .optional(),
  error: z.object({ code: z.number(), message: z.string(), data: z.unknown().optional() }).optional(),
});

/** One agent, called by a personal or an organization's token: API keys are refused there. */
export class AgentClient {
  readonly #api: ArchestraApi;
  readonly #agentId: string;
  #isStreaming: boolean | undefined;

  constructor(options: { api: ArchestraApi; token: string; agentId: string }) {
    this.#api = options.api.as({ authorization: `Bearer ${options.token}` });
    this.#agentId = options.agentId;
  }

  /** Sends a text, into an earlier conversation where its id is given. */
  async send(
    text: string,
    options: { contextId?: string | undefined; onText?: (text: string) => void } = {},
  ): Promise<Reply> {
    const { contextId, onText } = options;
    const message = {
      // Another text than a UUID runs the whole conversation and fails when it is stored.
      messageId: randomUUID(),
      role: "ROLE_USER",
      parts: [{ text }],
      ...(contextId === undefined ? {} : { contextId }),
    };
    return (await this.#streams()) ? await this.#stream({ message }, onText) : await this.#message({ message });
  }

  /** Answers what the agent asked, and goes on to its next reply. */
  async decide(reply: Extract<Reply, { kind: "approval" }>, approved: boolean): Promise<Reply> {
    const { taskId, contextId } = reply;
    const approvalDecisions = reply.approvals.map(({ approvalId }) => ({ approvalId, approved }));
    const message = {
      messageId: randomUUID(),
      taskId,
      contextId,
      role: "ROLE_USER",
      parts: [],
      metadata: { taskOps: { approvalDecisions } },
    };
    return await this.#message({ message });
  }

  async #streams(): Promise<boolean> {
    if (this.#isStreaming === undefined) {
      const { capabilities } = await this.#api.call(calls.agentCard, { params: { agentId: this.#agentId } });
      this.#isStreaming = capabilities.streaming;
    }
    return this.#isStreaming;
  }

  async #message(params: unknown): Promise<Reply> {
    const { result, error } = await this.#api.call(calls.agentMessage, {
      params: { agentId: this.#agentId },
      body: { jsonrpc: "2.0", id: 1, method: "SendMessage", params },
      timeoutMs: null,
    });
    if (error !== undefined) throw agentError(error);
    const { message, task } = resultSchema.parse(result);
    return task === undefined ? answer(message) : ofTask(task);
  }

  /** Reads the events of a run to its end; the texts are told as they come. */
  async #stream(params: unknown, onText: (text: string) => void = () => undefined): Promise<Reply> {
    const body = { jsonrpc: "2.0" as const, id: 1, method: "SendStreamingMessage", params };
    const texts: string[] = [];
    let contextId: string | undefined;
    const told = (parts: z.output<typeof partsSchema> | undefined) => {
      for (const text of textsOf(parts ?? [])) {
        texts.push(text);
        onText(text);
      }
    };
    const events = this.#api.events(
      calls.agentMessage,
      { params: { agentId: this.#agentId }, body },
      // Without it later versions answer in the shapes of the protocol's version 0.3.
      { accept: "text/event-stream", "a2a-version": "1.0" },
    );
    for await (const event of events) {
      const { result, error } = eventSchema.parse(event);
      if (error !== undefined) throw agentError(error);
      const { message, task, statusUpdate, artifactUpdate } = result ?? {};
      contextId =
        message?.contextId ?? task?.contextId ?? statusUpdate?.contextId ?? artifactUpdate?.contextId ?? contextId;
      told(message?.parts);
      told(artifactUpdate?.artifact.parts);
      const asking = task ?? (statusUpdate === undefined ? undefined : { ...statusUpdate, id: statusUpdate.taskId });
      if (asking?.status.state === "TASK_STATE_INPUT_REQUIRED") return ofTask(asking);
      if (asking?.status.state === "TASK_STATE_FAILED")
        throw runFailed(textsOf(asking.status.message?.parts ?? []).join(" "));
    }
    return { kind: "answer", contextId, texts };
  }
}

function ofTask(task: z.output<typeof taskSchema>): Reply {
  const { id: taskId, contextId, status, metadata, artifacts } = task;
  if (status.state === "TASK_STATE_INPUT_REQUIRED") {
    return { kind: "approval", taskId, contextId, approvals: metadata?.approvalRequests ?? [] };
  }
  const said = textsOf([...(artifacts ?? []).flatMap(({ parts }) => parts), ...(status.message?.parts ?? [])]);
  if (status.state === "TASK_STATE_FAILED") throw runFailed(said.join(" "));
  return { kind: "answer", contextId, texts: said };
}

function answer(message: z.output<typeof messageSchema> | undefined): Reply {
  return { kind: "answer", contextId: message?.contextId, texts: textsOf(message?.parts ?? []) };
}

function textsOf(parts: z.output<typeof partsSchema>): string[] {
  return parts.flatMap(({ text }) => (text === undefined || text === "" ? [] : [text]));
}

const reasonSchema = z.object({ reason: z.string() });

function agentError({ code, message, data }: { code: number; message: string; data?: unknown }): BundleError {
  const reason = reasonSchema.safeParse(data).data?.reason;
  if (/resolve actor/i.test(message)) {
    return new BundleError("token_refused", "The agent's interface refused the token.", {
      next: "It takes a personal token or the organization's, not an API key: `npm run --silent archestra -- token` prints one.",
    });
  }
  if (/context not found/i.test(message)) {
    return new BundleError(
      "context_not_found",
      "There is no such conversation, or it belongs to another token's owner.",
      {
        next: "Leave --context out to start a new one.",
      },
    );
  }
  return runFailed(`${message} (${code})${reason === undefined ? "" : `: ${reason}`}`);
}

function runFailed(detail: string): BundleError {
  return new BundleError("run_failed", `The agent's run failed: ${detail}`, {
    next: "Where it names the provider, check the LLM key and model (`npm run archestra:doctor`). What it had started goes on: ask it for the state.",
  });
}

/** The latest tool calls of an agent, oldest first. */
export async function latestToolCalls(
  api: ArchestraApi,
  agentId: string,
): Promise<{ id: string; name: string; arguments: Record<string, unknown> }[]> {
  const query = { agentId, limit: "100", sortBy: "createdAt", sortDirection: "desc" };
  try {
    const { data } = await api.call(calls.listToolCalls, { query });
    return data
      .flatMap(({ id, toolCall }) =>
        toolCall === null ? [] : [{ id, name: toolCall.name, arguments: toolCall.arguments }],
      )
      .toReversed();
  } catch (error) {
    // Progress is a courtesy; the answer comes without it.
    if (error instanceof ApiError) return [];
    throw error;
  }
}
