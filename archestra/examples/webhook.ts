/**
 * A webhook that starts the Data Transformer's schedule: whatever knows that new data is there posts to it.
 *
 *     WEBHOOK_SECRET=… ARCHESTRA_API_KEY=… SCHEDULE_ID=… npx tsx archestra/examples/webhook.ts
 *     body='{"reason":"nightly import done"}'
 *     curl --data "$body" http://127.0.0.1:8090/ \
 *       --header "X-Signature: sha256=$(printf %s "$body" | openssl dgst -sha256 -hmac "$WEBHOOK_SECRET" -hex | cut -d' ' -f2)"
 *
 * What the agent does stands in the schedule. Nothing of the caller's body reaches the model: it would be an order from
 * outside. One run at a time, whoever calls and however often; calls that come while it is under way start one more when
 * it has ended, because it may have missed the data they tell of. That is kept in memory: after a restart, call again.
 */
import { createHmac, timingSafeEqual } from "node:crypto";
import { createServer } from "node:http";
import { text } from "node:stream/consumers";
import { setTimeout as delay } from "node:timers/promises";

const { ARCHESTRA_URL = "http://localhost:9000", PORT = "8090", LOOK_SECONDS = "15" } = process.env;
const { WEBHOOK_SECRET, ARCHESTRA_API_KEY, SCHEDULE_ID } = process.env;
if (WEBHOOK_SECRET === undefined || ARCHESTRA_API_KEY === undefined || SCHEDULE_ID === undefined) {
  throw new Error("Set WEBHOOK_SECRET, ARCHESTRA_API_KEY and SCHEDULE_ID.");
}
const secret = WEBHOOK_SECRET;
const headers = { authorization: ARCHESTRA_API_KEY, "content-type": "application/json" };

function isSigned(body: string, signature: string | undefined): boolean {
  const expected = Buffer.from(`sha256=${createHmac("sha256", secret).update(body).digest("hex")}`);
  const given = Buffer.from(signature ?? "");
  return given.length === expected.length && timingSafeEqual(given, expected);
}

/** Whether a run is under way, as far as one can know: a platform that does not answer has not ended it. */
async function isRunning(run: string): Promise<boolean> {
  try {
    const response = await fetch(`${ARCHESTRA_URL}/api/schedule-triggers/${SCHEDULE_ID}/runs/${run}`, { headers });
    if (response.status >= 500) return true;
    const answer: unknown = await response.json();
    return typeof answer === "object" && answer !== null && "status" in answer && answer.status === "running";
  } catch {
    return true;
  }
}

async function start(): Promise<string> {
  const url = `${ARCHESTRA_URL}/api/schedule-triggers/${SCHEDULE_ID}/run-now`;
  const response = await fetch(url, { method: "POST", headers, body: "{}" });
  const run: unknown = await response.json();
  if (typeof run !== "object" || run === null || !("id" in run)) throw new Error(`run-now answered ${response.status}`);
  return String(run.id);
}

/** Settles when the run that is under way has begun; two calls at the same moment must not start two. */
let current: Promise<string> | undefined;
/** Whether somebody has called since it began. */
let isCalled = false;

/** Starts a run, or has one follow the one that is under way. */
async function call(): Promise<{ started: boolean; run?: string }> {
  if (current !== undefined) {
    isCalled = true;
    await current;
    return { started: false };
  }
  isCalled = false;
  current = start();
  try {
    const run = await current;
    void follow(run);
    return { started: true, run };
  } catch (error) {
    current = undefined;
    throw error;
  }
}

/** Waits for the end of a run, and starts another one as long as somebody has called meanwhile. */
async function follow(run: string): Promise<void> {
  while (await isRunning(run)) await delay(Number(LOOK_SECONDS) * 1000);
  if (isCalled) {
    isCalled = false;
    return await follow(await startAtLast());
  }
  current = undefined;
}

/** Whoever called has had an answer already, so a platform that is down is asked until it starts the run. */
async function startAtLast(): Promise<string> {
  for (;;) {
    try {
      return await start();
    } catch (error) {
      console.error(error);
      await delay(Number(LOOK_SECONDS) * 1000);
    }
  }
}

/** Calls are few and their bodies short. */
const BODY_BYTES_MAX = 65_536;

const server = createServer((request, response) => {
  const reply = (status: number, body: object) => response.writeHead(status).end(`${JSON.stringify(body)}\n`);
  const answer = async (): Promise<unknown> => {
    if (Number(request.headers["content-length"] ?? BODY_BYTES_MAX + 1) > BODY_BYTES_MAX) return reply(413, {});
    const signature = request.headers["x-signature"];
    if (!isSigned(await text(request), typeof signature === "string" ? signature : undefined)) return reply(401, {});
    return reply(202, await call());
  };
  answer().catch((error: unknown) => {
    console.error(error);
    reply(502, {});
  });
});
server.listen(Number(PORT), "127.0.0.1", () => {
  const address = server.address();
  console.log(`listening on ${typeof address === "object" ? address?.port : address}`);
});
