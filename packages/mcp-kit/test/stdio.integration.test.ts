import { setTimeout as sleep } from "node:timers/promises";
import { afterEach, expect, test } from "vitest";
import { FixtureProcess, geminiClient, initializeParams, modern } from "./harness.ts";

const running: FixtureProcess[] = [];

function start(options?: ConstructorParameters<typeof FixtureProcess>[0]): FixtureProcess {
  const server = new FixtureProcess(options);
  running.push(server);
  return server;
}

async function startInitialized(options?: ConstructorParameters<typeof FixtureProcess>[0]): Promise<FixtureProcess> {
  const server = start(options);
  await server.request("init", "initialize", initializeParams("2025-11-25"));
  server.send({ method: "notifications/initialized" });
  return server;
}

afterEach(async () => {
  await Promise.all(running.splice(0).map((server) => server.stop()));
});

const echo = (message: string) => ({ name: "echo", arguments: { message } });

test("writes the protocol and nothing else to stdout", async () => {
  const server = await startInitialized();
  await server.request(1, "tools/call", echo("a"));
  await server.request(2, "tools/call", { name: "fail", arguments: { how: "bug" } });
  expect(server.messages.map(({ id }) => id)).toEqual(["init", 1, 2]);
  expect(server.stderr).toContain("printed by a tool");
  expect(server.stderr).toContain("written by a tool");
});

test("answers initialize again and again, at each version that is asked for", async () => {
  const server = start();
  for (const version of ["2025-11-25", "2024-11-05", "2025-06-18"]) {
    const { result } = await server.request(version, "initialize", initializeParams(version));
    expect(result).toMatchObject({
      protocolVersion: version,
      serverInfo: { name: "fixture", version: "1.2.3" },
      instructions: "A server for tests.",
    });
  }
  expect((await server.request(9, "tools/list")).result.tools).toHaveLength(4);
});

test("goes on after a line that is no message", async () => {
  const server = await startInitialized();
  server.write('not json\n{"jsonrpc":"2.0"}\n[]\n\n{"broken\n');
  expect((await server.request(1, "ping")).result).toEqual({});
});

test("serves both generations on one pipe, the newer one first", async () => {
  const server = start();
  expect((await server.request(1, "server/discover", modern())).result.supportedVersions).toEqual(["2026-07-28"]);
  expect((await server.request(2, "tools/call", modern(echo("new")))).result.structuredContent).toEqual({
    message: "new",
  });
  const { result } = await server.request(3, "initialize", initializeParams("2025-06-18"));
  expect(result.protocolVersion).toBe("2025-06-18");
  expect((await server.request(4, "tools/call", echo("old"))).result.structuredContent).toEqual({ message: "old" });
  expect((await server.request(5, "tools/call", modern(echo("new")))).result.resultType).toBe("complete");
});

test("serves both generations on one pipe, the older one first", async () => {
  const server = await startInitialized();
  expect((await server.request(1, "tools/call", echo("old"))).result.structuredContent).toEqual({ message: "old" });
  const { result } = await server.request(2, "tools/list", modern());
  expect(result).toMatchObject({ ttlMs: 300_000, cacheScope: "private" });
  expect(result.tools).toHaveLength(4);
  expect((await server.request(3, "ping")).result).toEqual({});
});

test("lists its tools in one order, without output schemas where they are off", async () => {
  const on = await startInitialized();
  const off = await startInitialized({ env: { MCP_STRUCTURED_OUTPUT: "off" } });
  const { tools } = (await on.request(1, "tools/list")).result;
  const bare = (await off.request(1, "tools/list")).result.tools;
  expect(tools.map(({ name }: { name: string }) => name)).toEqual(["echo", "fail", "start_job", "erase"]);
  expect(bare.map(({ name }: { name: string }) => name)).toEqual(["echo", "fail", "start_job", "erase"]);
  expect(tools[0]).toHaveProperty("outputSchema");
  expect(bare[0]).not.toHaveProperty("outputSchema");
  expect((await off.request(2, "tools/call", echo("a"))).result).toEqual({
    content: [{ type: "text", text: '{"message":"a"}' }],
  });
});

test("tells Gemini CLI of no output schemas unless they are on, in both generations", async () => {
  const old = initializeParams("2025-06-18", geminiClient);
  const text = { content: [{ type: "text", text: '{"message":"a"}' }] };
  const server = start();
  await server.request(1, "initialize", old);
  expect((await server.request(2, "tools/list")).result.tools[0]).not.toHaveProperty("outputSchema");
  expect((await server.request(3, "tools/call", echo("a"))).result).toEqual(text);
  const { tools, cacheScope } = (await server.request(4, "tools/list", modern({}, geminiClient))).result;
  expect(tools[0]).not.toHaveProperty("outputSchema");
  // What it may keep is for nobody else.
  expect(cacheScope).toBe("private");
  const { result } = await server.request(5, "tools/call", modern(echo("a"), geminiClient));
  expect(result).toMatchObject(text);
  expect(result).not.toHaveProperty("structuredContent");
  // On the same pipe another client gets them.
  expect((await server.request(6, "tools/list", modern())).result.tools[0]).toHaveProperty("outputSchema");

  const on = start({ env: { MCP_STRUCTURED_OUTPUT: "on" } });
  await on.request(1, "initialize", old);
  const listed = (await on.request(2, "tools/list", modern({}, geminiClient))).result;
  expect(listed).toMatchObject({ tools: [{ outputSchema: {} }, {}, {}, {}], cacheScope: "public" });
  expect((await on.request(3, "tools/call", echo("a"))).result).toHaveProperty("structuredContent");
});

test("names the nearest tool where there is none of the name", async () => {
  const server = await startInitialized();
  const { error } = await server.request(1, "tools/call", { name: "start_jb", arguments: {} });
  expect(error).toMatchObject({ code: -32_602, message: "There is no tool start_jb; did you mean start_job?" });
});

test("answers wrong arguments as a result that the model reads", async () => {
  const server = await startInitialized();
  const { result } = await server.request(1, "tools/call", { name: "echo", arguments: { message: "a", tons: "loud" } });
  expect(result.isError).toBe(true);
  expect(JSON.parse(result.content[0].text)).toEqual({
    error: {
      code: "invalid_arguments",
      message: "echo: tons is unknown, did you mean tone.",
      retryable: false,
      next: "If that is meant, make the call of example.",
      problems: [{ argument: "tons", nearest: ["tone"] }],
      example: { tool: "echo", arguments: { message: "a", tone: "loud" } },
    },
  });
});

test("answers a message that is too large by its id, and goes on", async () => {
  const server = await startInitialized();
  const { error } = await server.request(1, "tools/call", echo("x".repeat(17 * 1024 * 1024)));
  expect(error).toMatchObject({ code: -32_600 });
  expect((await server.request(2, "tools/call", echo("a"))).result.structuredContent).toEqual({ message: "a" });
});

test("reads a large message", async () => {
  const server = await startInitialized();
  const { result } = await server.request(1, "tools/call", echo("x".repeat(15 * 1024 * 1024)));
  expect(result.content[0].text).toContain("message must have at most 100 characters");
});

test("reports progress to a caller who asked, in both generations", async () => {
  const server = await startInitialized();
  const call = { name: "start_job", arguments: { steps: 4, wait_seconds: 10 } };
  expect((await server.request(1, "tools/call", call)).result.structuredContent.status).toBe("completed");
  expect(server.messages.filter(({ method }) => method !== undefined)).toEqual([]);
  await server.request(2, "tools/call", { ...call, _meta: { progressToken: "old" } });
  const params = JSON.parse(JSON.stringify(modern(call)));
  params._meta.progressToken = "new";
  await server.request(3, "tools/call", params);
  for (const token of ["old", "new"]) {
    const updates = server.messages.flatMap((message) =>
      message.params?.["progressToken"] === token ? [message.params] : [],
    );
    expect(updates.length).toBeGreaterThan(1);
    const done = updates.map((update) => Number(update["progress"]));
    expect(done).toEqual([...new Set(done)].toSorted((a, b) => a - b));
    expect(updates.at(-1)).toMatchObject({ progress: 4, total: 4, message: expect.stringMatching(/^step 4/) });
  }
});

test("ends waiting, but no job, when a call is cancelled", async () => {
  const server = await startInitialized();
  server.send({
    id: 1,
    method: "tools/call",
    params: modern({ name: "start_job", arguments: { steps: 20, wait_seconds: 40 } }),
  });
  await server.request(2, "ping");
  server.send({ method: "notifications/cancelled", params: { requestId: 1, reason: "test" } });
  await server.waitFor(() => server.stderr.includes("job_1 completed"), "end of the job");
  expect(server.messages.map(({ id }) => id)).toEqual(["init", 2]);
});

test("answers what was sent just before the end of input", async () => {
  const server = start();
  server.send({ id: 1, method: "initialize", params: initializeParams("2025-11-25") });
  server.send({ id: 2, method: "tools/list" });
  server.send({ id: 3, method: "tools/call", params: { ...echo("a"), _meta: { progressToken: 1 } } });
  const { code } = await server.endsAfter(() => server.child.stdin?.end());
  expect(code).toBe(0);
  expect(server.messages.map(({ id }) => id)).toEqual([1, 2, 3]);
});

const ends: [string, (server: FixtureProcess) => void][] = [
  ["the end of input", (server) => server.child.stdin?.end()],
  ["SIGTERM", (server) => server.child.kill("SIGTERM")],
  [
    "SIGINT and SIGTERM",
    (server) => {
      server.child.kill("SIGINT");
      server.child.kill("SIGTERM");
    },
  ],
];

test.each(ends)("at %s stops its jobs, answers who waits for them, and exits", async (_what, end) => {
  const server = await startInitialized();
  server.send({
    id: 1,
    method: "tools/call",
    params: { name: "start_job", arguments: { steps: 10_000, wait_seconds: 40 } },
  });
  await server.request(2, "ping");
  const { code, ms } = await server.endsAfter(() => end(server));
  expect(code).toBe(0);
  expect(ms).toBeLessThan(2000);
  expect(server.stderr).toContain("job_1 stopped");
  expect(server.stderr.indexOf("closed")).toBeGreaterThan(server.stderr.indexOf("job_1 stopped"));
  expect(server.messages.at(-1)).toMatchObject({ id: 1, result: { structuredContent: { status: "stopped" } } });
});

test("exits within 4 s although a job does not stop", async () => {
  const outcomes = ends.map(async ([, end]) => {
    const server = await startInitialized();
    const params = { name: "start_job", arguments: { steps: 10_000, stubborn: true, wait_seconds: 0 } };
    await server.request(1, "tools/call", params);
    const { code, ms } = await server.endsAfter(() => end(server));
    return { code, inTime: ms < 4000, said: server.stderr.includes("stop_timed_out") };
  });
  expect(await Promise.all(outcomes)).toEqual(ends.map(() => ({ code: 1, inTime: true, said: true })));
});

test("exits within 4 s although closing never ends", async () => {
  const server = await startInitialized({ env: { FIXTURE_HANG: "true" } });
  const { code, ms } = await server.endsAfter(() => server.child.kill("SIGTERM"));
  expect(code).toBe(1);
  expect(ms).toBeLessThan(4000);
});

test("after a rejection that nobody handles stops its jobs and exits with 1", async () => {
  const server = await startInitialized();
  await server.request(1, "tools/call", { name: "start_job", arguments: { steps: 10_000, wait_seconds: 0 } });
  server.send({ id: 2, method: "tools/call", params: { name: "fail", arguments: { how: "unawaited" } } });
  expect((await server.exited).code).toBe(1);
  expect(server.stderr).toContain("nobody waits for this");
  expect(server.stderr).toContain("job_1 stopped");
  expect(server.stderr).toContain("closed");
});

test("exits when nobody reads its answers any more", async () => {
  const server = await startInitialized();
  const { ms } = await server.endsAfter(() => {
    server.child.stdout?.destroy();
    server.send({ id: 1, method: "ping" });
    server.send({ id: 2, method: "ping" });
  });
  expect(ms).toBeLessThan(4000);
});

test("exits within 4 s of SIGTERM although nobody reads its answers", async () => {
  const server = await startInitialized();
  const gone = new Promise((resolve) => {
    server.child.once("exit", resolve);
  });
  server.child.stdout?.pause();
  for (let id = 0; id < 500; id++) server.send({ id, method: "tools/list" });
  // Time enough to fill the pipe.
  await sleep(500);
  const startedAt = performance.now();
  server.child.kill("SIGTERM");
  await gone;
  expect(performance.now() - startedAt).toBeLessThan(4000);
  server.child.stdout?.resume();
});

test("prints what it understands, and its version", async () => {
  const help = start({ args: ["--help"] });
  expect((await help.exited).code).toBe(0);
  const text = help.lines.join("\n");
  expect(text).toContain("Usage: fixture [--http]");
  expect(text).toContain("MCP_HTTP_TOKEN");
  expect(text).toContain("FIXTURE_SIZE");
  const version = start({ args: ["--version"] });
  expect((await version.exited).code).toBe(0);
  expect(version.lines).toEqual(["fixture 1.2.3"]);
});

test.each([
  [["--htpp"], /^fixture: Unknown option '--htpp'\. See fixture --help\.$/m],
  [["extra"], /^fixture: Unexpected argument 'extra'/m],
])("refuses the options %s", async (args, message) => {
  const server = start({ args });
  expect((await server.exited).code).toBe(2);
  expect(server.stderr).toMatch(message);
  expect(server.lines).toEqual([]);
});

test("names every problem of its configuration at once, and no secret", async () => {
  const env = { FIXTURE_SIZE: "x", LOG_LEVEL: "loud", FIXTURE_SECRET: "geheim", FIXTURE_SECRET_FILE: "/nowhere" };
  const server = start({ env });
  expect((await server.exited).code).toBe(2);
  expect(server.stderr).toContain("FIXTURE_SIZE: must be a whole number from 1 to 9");
  expect(server.stderr).toContain("LOG_LEVEL: must be debug or info or warn or error");
  expect(server.stderr).toContain("FIXTURE_SECRET: set either");
  expect(server.stderr).not.toContain("geheim");
});
