/** The built program as people run it: what it prints where, its exit codes, and Ctrl-C. */
import { spawn } from "node:child_process";
import { fileURLToPath } from "node:url";
import { expect, it } from "vitest";
import { type Bench, openBench } from "./harness.ts";

const program = fileURLToPath(new URL("../dist/main.js", import.meta.url));

interface Ended {
  code: number | null;
  stdout: string;
  stderr: string;
}

function start(bench: Bench, parameters: readonly string[]) {
  const env = { ...process.env, ...bench.cluster.environment, ...bench.environment };
  const child = spawn(process.execPath, [program, ...parameters], { env, stdio: ["ignore", "pipe", "pipe"] });
  let [stdout, stderr] = ["", ""];
  child.stdout.setEncoding("utf8").on("data", (text: string) => (stdout += text));
  child.stderr.setEncoding("utf8").on("data", (text: string) => (stderr += text));
  const ended = new Promise<Ended>((resolve) => child.once("close", (code) => resolve({ code, stdout, stderr })));
  return { child, ended };
}

it("explains itself, and what was typed wrong", async () => {
  const bench = await openBench();
  expect(await start(bench, ["--help"]).ended).toMatchObject({
    code: 0,
    stdout: expect.stringContaining("archestra:plan"),
  });
  expect(await start(bench, ["aply"]).ended).toMatchObject({
    code: 2,
    stderr: expect.stringContaining("There is no command aply."),
  });
  expect(await start(bench, ["plan", "--yml"]).ended).toMatchObject({
    code: 2,
    stderr: expect.stringContaining("--yml"),
  });
  expect(await start(bench, ["destroy"]).ended).toMatchObject({
    code: 0,
    stdout: expect.stringContaining("Nothing of this program"),
  });
});

it("fails with a sentence and what to do, without a stack", async () => {
  const bench = await openBench({ password: "another" });
  const { code, stdout, stderr } = await start(bench, ["apply"]).ended;
  expect({ code, stdout }).toEqual({ code: 1, stdout: "" });
  expect(stderr).toBe(
    "Archestra refused the password of admin@example.com.\n-> Set ARCHESTRA_AUTH_ADMIN_EMAIL and ARCHESTRA_AUTH_ADMIN_PASSWORD as they were when the platform first started, or ARCHESTRA_API_KEY.\n",
  );
});

it("says what the platform or a command refused, and what to do about it", async () => {
  const bench = await openBench();
  bench.cluster.refuse("PersistentVolumeClaim");
  expect(await start(bench, ["apply"]).ended).toMatchObject({
    code: 1,
    stderr: expect.stringMatching(/^`docker exec .*exceeded quota\n-> Run it by hand/),
  });
  bench.platform.failing.set("GET /api/agents", { status: 403, message: "Forbidden" });
  expect(await start(bench, ["plan"]).ended).toMatchObject({
    code: 1,
    stderr:
      "GET /api/agents answered 403: Forbidden\n-> The user must be an administrator of the organization: check whom the API key belongs to.\n",
  });
});

it("stops at Ctrl-C, says how to go on, and goes on", async () => {
  const bench = await openBench();
  const run = start(bench, ["apply"]);
  bench.platform.onRequest = (moment, name) => {
    if (moment !== "after" || name !== "POST /api/mcp_server") return undefined;
    run.child.kill("SIGINT");
    return "hang";
  };
  const stopped = await run.ended;
  expect(stopped).toMatchObject({ code: 130, stderr: expect.stringContaining("Run the same command again") });
  expect(bench.platform.agents).toEqual([]);
  bench.platform.onRequest = () => undefined;
  expect(await start(bench, ["apply"]).ended).toMatchObject({
    code: 0,
    stdout: expect.stringContaining("agent Data Transformer: 24 tools"),
  });
  expect(await start(bench, ["plan"]).ended).toMatchObject({
    code: 0,
    stdout: expect.stringContaining("Nothing to change."),
  });
});

it("waits for a platform that is still starting", async () => {
  const bench = await openBench();
  bench.platform.orchestrator = false;
  bench.platform.onRequest = (moment, name) => {
    if (moment === "after" && name === "GET /api/config") bench.platform.orchestrator = true;
    return undefined;
  };
  bench.platform.failing.set("GET /health", { status: 503, message: "Starting", times: 2 });
  const run = start(bench, ["plan", "--wait", "30"]);
  expect(await run.ended).toMatchObject({
    code: 0,
    stdout: expect.stringMatching(
      /waiting: GET \/health answered 503: Starting\n(.*\n)*waiting: The platform has not reached its Kubernetes yet\./,
    ),
  });
});

it("keeps answers on stdout and progress on stderr", async () => {
  const bench = await openBench();
  await bench.run("apply");
  bench.platform.agent = () => ({ texts: ["Starting.", "15 rows."] });
  const { code, stdout, stderr } = await start(bench, ["chat", "Copy", "products"]).ended;
  expect({ code, stdout }).toEqual({ code: 0, stdout: "15 rows.\n" });
  expect(stderr).toContain("Starting.\nto go on: ");
});
