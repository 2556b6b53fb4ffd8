/**
 * A webhook that starts the Data Transformer's schedule: whatever knows that new data is there posts to it.
 *
 *     WEBHOOK_SECRET=… ARCHESTRA_API_KEY=… SCHEDULE_ID=… npx tsx archestra/examples/webhook.ts
 *     body='{"reason":"nightly import done"}'
 *     curl --data "$body" http://127.0.0.1:8090/ \
 *       --header "X-Signature: sha256=$(printf %s "$body" | openssl dgst -sha256 -hmac "$WEBHOOK_SECRET" -hex | cut -d' ' -f2)"
 *
 * What the agent does stands in the schedule. Nothing of the caller's body reaches the model: it would be an order from
 * outside. A call while a run is under way starts none.
 */
import { createHmac, timingSafeEqual } from "node:crypto";
import { createServer } from "node:http";
import { text } from "node:stream/consumers";

const { ARCHESTRA_URL = "http://localhost:9000", PORT = "8090" } = process.env;
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

let lastRun: string | undefined;

async function isRunning(): Promise<boolean> {
  if (lastRun === undefined) return false;
  const response = await fetch(`${ARCHESTRA_URL}/api/schedule-triggers/${SCHEDULE_ID}/runs/${lastRun}`, { headers });
  const run: unknown = await response.json();
  return typeof run === "object" && run !== null && "status" in run && run.status === "running";
}

async function start(): Promise<string> {
  const url = `${ARCHESTRA_URL}/api/schedule-triggers/${SCHEDULE_ID}/run-now`;
  const response = await fetch(url, { method: "POST", headers, body: "{}" });
  const run: unknown = await response.json();
  if (typeof run !== "object" || run === null || !("id" in run)) throw new Error(`run-now answered ${response.status}`);
  return String(run.id);
}

/** Calls are few and their bodies short. */
const BODY_BYTES_MAX = 65_536;

const server = createServer((request, response) => {
  const reply = (status: number, body: object) => response.writeHead(status).end(`${JSON.stringify(body)}\n`);
  const answer = async (): Promise<unknown> => {
    if (Number(request.headers["content-length"] ?? BODY_BYTES_MAX + 1) > BODY_BYTES_MAX) return reply(413, {});
    const signature = request.headers["x-signature"];
    if (!isSigned(await text(request), typeof signature === "string" ? signature : undefined)) return reply(401, {});
    if (await isRunning()) return reply(202, { run: lastRun, started: false });
    lastRun = await start();
    return reply(202, { run: lastRun, started: true });
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
