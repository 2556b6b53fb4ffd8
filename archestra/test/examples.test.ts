/** The examples as they are shipped, against the stand-in platform. */
import { spawn } from "node:child_process";
import { createHmac } from "node:crypto";
import { once } from "node:events";
import { fileURLToPath } from "node:url";
import { expect, it, onTestFinished } from "vitest";
import { type Bench, openBench } from "./harness.ts";

interface Ended {
  code: number | null;
  stdout: string;
  stderr: string;
}

async function applied(values: Record<string, string> = {}): Promise<Bench> {
  const bench = await openBench();
  bench.values = { ...bench.values, ...values };
  await bench.run("apply");
  return bench;
}

function start(bench: Bench, name: string, parameters: readonly string[], values: Record<string, string> = {}) {
  const file = fileURLToPath(new URL(`../examples/${name}`, import.meta.url));
  const command = name.endsWith(".sh") ? "sh" : process.execPath;
  const env = {
    ...process.env,
    ARCHESTRA_URL: bench.platform.url,
    ARCHESTRA_TOKEN: bench.platform.personalToken,
    ARCHESTRA_API_KEY: bench.platform.apiKeys[0]?.key,
    AGENT_ID: bench.platform.agents.find(({ agentType }) => agentType === "agent")?.id,
    SCHEDULE_ID: bench.platform.schedules[0]?.id,
    ...values,
  };
  const child = spawn(command, [file, ...parameters], { env, stdio: ["ignore", "pipe", "pipe"] });
  let [stdout, stderr] = ["", ""];
  child.stdout.setEncoding("utf8").on("data", (text: string) => {
    stdout += text;
  });
  child.stderr.setEncoding("utf8").on("data", (text: string) => {
    stderr += text;
  });
  const ended = new Promise<Ended>((resolve) => child.once("close", (code) => resolve({ code, stdout, stderr })));
  return { child, ended };
}

it.each(["send-message.sh", "send-message.ts"])("%s prints the agent's answer", async (name) => {
  const bench = await applied();
  bench.platform.agent = (text) => ({ texts: ["Starting.", `Did: ${text}`] });
  const { code, stdout } = await start(bench, name, ['Copy "products"']).ended;
  expect({ code, stdout }).toEqual({ code: 0, stdout: 'Did: Copy "products"\n' });
});

it("send-message.sh goes on with a conversation and tells errors", async () => {
  const bench = await applied();
  const first = await start(bench, "send-message.sh", ["one"]).ended;
  const CONTEXT_ID = /context (\S+)/.exec(first.stderr)?.[1] ?? "";
  expect(await start(bench, "send-message.sh", ["two"], { CONTEXT_ID }).ended).toMatchObject({ code: 0 });
  expect(await start(bench, "send-message.sh", ["three"], { ARCHESTRA_TOKEN: "arch_wrong" }).ended).toMatchObject({
    code: 1,
    stderr: expect.stringContaining("Failed to resolve actor from token"),
  });
});

it("decide.sh answers what send-message.sh was asked", async () => {
  const bench = await applied();
  bench.platform.agent = () => ({ ask: "pg_mcp__bulk_insert" });
  const asked = await start(bench, "send-message.sh", ["replace it"]).ended;
  expect(asked.code).toBe(3);
  const [, TASK_ID = "", CONTEXT_ID = ""] = /task (\S+), context (\S+)/.exec(asked.stderr) ?? [];
  const [, approval = ""] = /"approvalId":"([^"]+)"/.exec(asked.stdout) ?? [];
  const { code, stdout } = await start(bench, "decide.sh", ["true", approval], { TASK_ID, CONTEXT_ID }).ended;
  expect(code).toBe(0);
  expect(stdout).toContain("Replaced.");
});

it("send-message.ts agrees to nothing by itself", async () => {
  const bench = await applied();
  bench.platform.agent = () => ({ ask: "es_mcp__delete_export" });
  expect(await start(bench, "send-message.ts", ["delete it"]).ended).toMatchObject({
    code: 0,
    stdout: "Tool execution denied.\n",
    stderr: expect.stringContaining("declined: es_mcp__delete_export"),
  });
});

it("send-message.ts polls where the platform can answer at once", async () => {
  const bench = await applied();
  bench.platform.streams = true;
  bench.platform.agent = () => ({ texts: ["Planning.", "Done."] });
  const { code, stdout } = await start(bench, "send-message.ts", ["copy", "--poll"]).ended;
  expect({ code, stdout }).toEqual({ code: 0, stdout: "Done.\n" });
});

it("stream-message.sh prints events as they come", async () => {
  const bench = await applied();
  bench.platform.streams = true;
  bench.platform.agent = () => ({ texts: ["Planning.", "Done."] });
  const { code, stdout } = await start(bench, "stream-message.sh", ["copy"]).ended;
  expect(code).toBe(0);
  expect(stdout.match(/^data: /gm)).toHaveLength(4);
});

it("run-schedule.sh runs the schedule and waits for its end", async () => {
  const bench = await applied({ ARCHESTRA_SCHEDULE_CRON: "0 2 * * *" });
  expect(await start(bench, "run-schedule.sh", []).ended).toMatchObject({
    code: 0,
    stdout: expect.stringContaining("success"),
  });
  expect(bench.platform.runs).toHaveLength(1);
});

/** The webhook at work, and a call of it that is signed with `secret`; answers the status and what it says. */
async function openWebhook(bench: Bench) {
  const { child } = start(bench, "webhook.ts", [], { WEBHOOK_SECRET: "hush", PORT: "0", LOOK_SECONDS: "0.05" });
  onTestFinished(() => void child.kill());
  const [line] = await once(child.stdout, "data");
  const url = `http://127.0.0.1:${/\d+/.exec(String(line))?.[0]}`;
  const body = '{"reason":"import done"}';
  return async (secret = "hush"): Promise<[number, unknown]> => {
    const signature = `sha256=${createHmac("sha256", secret).update(body).digest("hex")}`;
    const response = await fetch(url, { method: "POST", body, headers: { "x-signature": signature } });
    const { started }: { started?: unknown } = JSON.parse(await response.text());
    return [response.status, started];
  };
}

it("webhook.ts starts the schedule for signed calls alone", async () => {
  const bench = await applied({ ARCHESTRA_SCHEDULE_CRON: "0 2 * * *" });
  const call = await openWebhook(bench);
  expect([await call("wrong"), bench.platform.runs.length]).toEqual([[401, undefined], 0]);
  expect([await call(), bench.platform.runs.length]).toEqual([[202, true], 1]);
});

it("webhook.ts makes one run of calls that come together, and one more of all that come meanwhile", async () => {
  const bench = await applied({ ARCHESTRA_SCHEDULE_CRON: "0 2 * * *" });
  bench.platform.runsEnd = false;
  const call = await openWebhook(bench);
  const answers = await Promise.all([call(), call(), call()]);
  expect(answers.map(String).toSorted()).toEqual(["202,false", "202,false", "202,true"]);
  expect(await call()).toEqual([202, false]);
  expect(bench.platform.runs).toHaveLength(1);
  bench.platform.runsEnd = true;
  await expect.poll(() => bench.platform.runs.map(({ status }) => status)).toEqual(["success", "success"]);
  // Everything was taken account of: the next call begins anew.
  await expect.poll(() => call()).toEqual([202, true]);
});

it("webhook.ts answers 502 while the platform starts nothing, and starts a run when it does again", async () => {
  const bench = await applied({ ARCHESTRA_SCHEDULE_CRON: "0 2 * * *" });
  const call = await openWebhook(bench);
  const schedules = bench.platform.schedules.splice(0);
  expect(await Promise.all([call(), call()])).toEqual([
    [502, undefined],
    [502, undefined],
  ]);
  bench.platform.schedules.push(...schedules);
  expect(await call()).toEqual([202, true]);
});
