/**
 * Sends a message to the Data Transformer from TypeScript, in a few lines that can be copied into a program of one's own:
 *
 *     ARCHESTRA_TOKEN=… AGENT_ID=… npx tsx archestra/examples/send-message.ts "Copy the products index to PostgreSQL"
 *
 * With `--poll` the platform answers at once with a task, which is asked for until it ends: needs a version after 1.2.71.
 */
import { randomUUID } from "node:crypto";
import { setTimeout as delay } from "node:timers/promises";
import { Agent, fetch } from "undici";

interface Part {
  text?: string;
}

interface Task {
  id: string;
  contextId: string;
  status: { state: string };
  metadata?: { approvalRequests?: { approvalId: string; toolName: string }[] };
  artifacts?: { parts: Part[] }[];
}

interface Result {
  message?: { contextId: string; parts: Part[] };
  task?: Task;
}

const { ARCHESTRA_URL = "http://localhost:9000", ARCHESTRA_TOKEN, AGENT_ID } = process.env;
const [text, mode] = process.argv.slice(2);
if (ARCHESTRA_TOKEN === undefined || AGENT_ID === undefined || text === undefined) {
  throw new Error("Set ARCHESTRA_TOKEN and AGENT_ID, and give a message.");
}

// Version 1.2.71 answers when the run is over, and Node's own fetch gives up after five minutes.
const dispatcher = new Agent({ headersTimeout: 0, bodyTimeout: 0 });

async function call(method: string, params: object): Promise<Result & Task> {
  const response = await fetch(`${ARCHESTRA_URL}/v2/a2a/${AGENT_ID}`, {
    method: "POST",
    dispatcher,
    headers: { authorization: `Bearer ${ARCHESTRA_TOKEN}`, "content-type": "application/json", "a2a-version": "1.0" },
    body: JSON.stringify({ jsonrpc: "2.0", id: 1, method, params }),
  });
  if (!response.ok) throw new Error(`${response.status} ${await response.text()}`);
  // oxlint-disable-next-line typescript/no-unsafe-type-assertion -- an example; src/a2a.ts looks closer
  const answer = (await response.json()) as { result: Result & Task; error?: { code: number; message: string } };
  // Errors come with status 200.
  if (answer.error !== undefined) throw new Error(`${answer.error.code} ${answer.error.message}`);
  return answer.result;
}

let result: Result = await call("SendMessage", {
  // The id must be a UUID. To go on with a conversation, send its contextId along.
  message: { messageId: randomUUID(), role: "ROLE_USER", parts: [{ text }] },
  ...(mode === "--poll" ? { configuration: { returnImmediately: true } } : {}),
});

while (result.task?.status.state === "TASK_STATE_SUBMITTED" || result.task?.status.state === "TASK_STATE_WORKING") {
  await delay(2000);
  result = { task: await call("GetTask", { id: result.task.id }) };
}

// What deletes or replaces is asked about first; this program never agrees to it by itself.
while (result.task?.status.state === "TASK_STATE_INPUT_REQUIRED") {
  const { id: taskId, contextId, metadata } = result.task;
  const approvalRequests = metadata?.approvalRequests ?? [];
  console.error(`declined: ${approvalRequests.map(({ toolName }) => toolName).join(", ")}`);
  const approvalDecisions = approvalRequests.map(({ approvalId }) => ({ approvalId, approved: false }));
  const decision = { messageId: randomUUID(), taskId, contextId, role: "ROLE_USER", parts: [] };
  result = await call("SendMessage", { message: { ...decision, metadata: { taskOps: { approvalDecisions } } } });
}

const parts = result.message?.parts ?? result.task?.artifacts?.flatMap((artifact) => artifact.parts) ?? [];
console.log(parts.at(-1)?.text);
