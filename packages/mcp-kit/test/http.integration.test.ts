import { request } from "node:http";
import { connect } from "node:net";
import { setTimeout as sleep } from "node:timers/promises";
import { afterEach, expect, test } from "vitest";
import { FixtureProcess, geminiClient, initializeParams, listening, modern } from "./harness.ts";

const running: FixtureProcess[] = [];

async function start(env: Record<string, string> = {}): Promise<{ server: FixtureProcess; url: URL }> {
  const server = new FixtureProcess({ args: ["--http"], env: { MCP_HTTP_PORT: "0", ...env } });
  running.push(server);
  return { server, url: await listening(server) };
}

afterEach(async () => {
  await Promise.all(running.splice(0).map((server) => server.stop()));
});

/** One request by node:http, because fetch lets nobody choose a Host. */
function send(
  url: URL,
  options: { path?: string; method?: string; headers?: Record<string, string>; body?: string } = {},
): Promise<{ status: number; headers: Record<string, unknown>; text: string }> {
  const { promise, resolve, reject } = Promise.withResolvers<{
    status: number;
    headers: Record<string, unknown>;
    text: string;
  }>();
  const { hostname, port, pathname } = url;
  const { path = pathname, method = "GET", headers = {}, body } = options;
  const sent = request({ hostname, port, path, method, headers, agent: false }, (response) => {
    let text = "";
    response.on("data", (chunk) => {
      text += String(chunk);
    });
    response.on("end", () => resolve({ status: response.statusCode ?? 0, headers: response.headers, text }));
  });
  sent.on("error", reject);
  sent.end(body);
  return promise;
}

function post(url: URL, message: object, headers: Record<string, string> = {}) {
  return send(url, {
    method: "POST",
    headers: { "Content-Type": "application/json", Accept: "application/json, text/event-stream", ...headers },
    body: JSON.stringify({ jsonrpc: "2.0", ...message }),
  });
}

const initialize = { id: 1, method: "initialize", params: initializeParams("2025-11-25") };

test("serves loopback without a token", async () => {
  const { url } = await start();
  expect(url.hostname).toBe("127.0.0.1");
  expect(url.pathname).toBe("/mcp");
  const { status, text } = await post(url, initialize);
  expect(status).toBe(200);
  expect(text).toContain('"name":"fixture"');
});

test("asks for the token, by any name", async () => {
  const { url } = await start({ MCP_HTTP_TOKEN: "geheim", MCP_HTTP_PATH: "/x/mcp" });
  expect(url.pathname).toBe("/x/mcp");
  const refused = await post(url, initialize);
  expect(refused.status).toBe(401);
  expect(refused.headers["www-authenticate"]).toBe("Bearer");
  expect((await post(url, initialize, { Authorization: "Bearer wrong" })).status).toBe(401);
  expect((await post(url, initialize, { Authorization: "Bearer geheim", Host: "any.name" })).status).toBe(200);
});

test("refuses names that it does not know and pages of the web", async () => {
  const { url } = await start({
    MCP_HTTP_ALLOWED_HOSTS: "es-mcp",
    MCP_HTTP_ALLOWED_ORIGINS: "https://app.example.com",
  });
  expect((await post(url, initialize, { Host: "evil.example" })).status).toBe(403);
  expect((await post(url, initialize, { Host: "es-mcp:8080" })).status).toBe(200);
  expect((await post(url, initialize, { Origin: "https://evil.example" })).status).toBe(403);
  expect((await post(url, initialize, { Origin: "https://app.example.com" })).status).toBe(200);
});

test("listens off loopback only with a token, or none on purpose", async () => {
  const refused = new FixtureProcess({ args: ["--http"], env: { MCP_HTTP_PORT: "0", MCP_HTTP_HOST: "0.0.0.0" } });
  running.push(refused);
  expect((await refused.exited).code).toBe(2);
  expect(refused.stderr).toContain("MCP_HTTP_TOKEN: needed");
  const { url } = await start({ MCP_HTTP_HOST: "0.0.0.0", MCP_HTTP_TOKEN: "none" });
  expect((await post(new URL(`http://127.0.0.1:${url.port}/mcp`), initialize)).status).toBe(200);
});

test("tells that it runs, and whether it can work, to probes without a token", async () => {
  const { url } = await start({ MCP_HTTP_TOKEN: "geheim" });
  expect(await send(url, { path: "/healthz" })).toMatchObject({ status: 200, text: '{"status":"ok"}' });
  expect(await send(url, { path: "/readyz" })).toMatchObject({ status: 200, text: '{"status":"ready"}' });
});

test("tells why it is not ready to those who may call, and lists its tools all the same", async () => {
  const { url } = await start({ MCP_HTTP_TOKEN: "geheim", FIXTURE_DOWN: "true" });
  const headers = { Authorization: "Bearer geheim" };
  expect((await send(url, { path: "/healthz" })).status).toBe(200);
  const blind = await send(url, { path: "/readyz" });
  expect(blind).toMatchObject({ status: 503, text: '{"status":"not_ready","code":"unreachable"}' });
  const told = await send(url, { path: "/readyz", headers });
  expect(JSON.parse(told.text)).toEqual({
    status: "not_ready",
    code: "unreachable",
    message: "db.internal does not answer.",
  });
  const { text } = await post(url, { id: 1, method: "tools/list" }, headers);
  expect(text).toContain("start_job");
});

test("tells Gemini CLI of no output schemas where its requests say whose they are", async () => {
  const { url } = await start();
  const headers = { "MCP-Protocol-Version": "2026-07-28", "Mcp-Method": "tools/list" };
  const list = (params: object) => post(url, { id: 1, method: "tools/list", params }, headers);
  expect((await list(modern({}, geminiClient))).text).not.toContain("outputSchema");
  expect((await list(modern())).text).toContain("outputSchema");
  // A request of 2025 without a session says nothing of its sender, whoever has sent `initialize` before.
  await post(url, { id: 1, method: "initialize", params: initializeParams("2025-06-18", geminiClient) });
  expect((await post(url, { id: 2, method: "tools/list" })).text).toContain("outputSchema");
});

test("knows no other path and keeps no session", async () => {
  const { url } = await start();
  expect((await send(url, { path: "/" })).status).toBe(404);
  expect((await send(url, { headers: { Accept: "text/event-stream" } })).status).toBe(405);
  expect((await post(url, initialize)).headers["mcp-session-id"]).toBeUndefined();
});

test("refuses a body that is too large before it is all sent", async () => {
  const { url } = await start();
  const socket = connect(Number(url.port), url.hostname);
  socket.write(
    `POST /mcp HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nAccept: application/json, text/event-stream\r\nContent-Length: 99999999\r\n\r\n{`,
  );
  const [first] = await Array.fromAsync(socket.take(1));
  expect(String(first)).toMatch(/^HTTP\/1\.1 413 /);
  socket.destroy();
});

test("does not end with its standard input", async () => {
  const { server, url } = await start();
  server.child.stdin?.end();
  await sleep(300);
  expect((await send(url, { path: "/healthz" })).status).toBe(200);
});

test("writes nothing to stdout", async () => {
  const { server, url } = await start();
  await post(url, { id: 1, method: "tools/call", params: { name: "echo", arguments: { message: "a" } } });
  expect(server.lines).toEqual([]);
  expect(server.stderr).toContain("printed by a tool");
});

test.each(["SIGTERM", "SIGINT"] as const)(
  "at %s stops its jobs, answers who waits for them, and exits",
  async (signal) => {
    const { server, url } = await start();
    const params = { name: "start_job", arguments: { steps: 10_000, wait_seconds: 40 } };
    const waiting = post(url, { id: 1, method: "tools/call", params });
    await sleep(300);
    const { code, ms } = await server.endsAfter(() => server.child.kill(signal));
    expect(code).toBe(0);
    expect(ms).toBeLessThan(2500);
    expect((await waiting).text).toContain('"status\\":\\"stopped');
    expect(server.stderr).toContain("job_1 stopped");
  },
);

test("exits within 4 s although a job does not stop and a connection stays open", async () => {
  const { server, url } = await start();
  const socket = connect(Number(url.port), url.hostname);
  socket.on("error", () => {});
  socket.write("POST /mcp HTTP/1.1\r\nHost: localhost\r\n");
  const params = { name: "start_job", arguments: { steps: 10_000, stubborn: true, wait_seconds: 0 } };
  await post(url, { id: 1, method: "tools/call", params });
  const { code, ms } = await server.endsAfter(() => server.child.kill("SIGTERM"));
  expect(code).toBe(1);
  expect(ms).toBeLessThan(4000);
  socket.destroy();
});

test.each([
  ["2025", { name: "start_job", arguments: { steps: 60, wait_seconds: 40 } }],
  ["2026", modern({ name: "start_job", arguments: { steps: 60, wait_seconds: 40 } })],
])("ends waiting, but no job, when a caller of %s hangs up", async (version, params) => {
  const { server, url } = await start({ LOG_LEVEL: "debug" });
  const headers =
    version === "2026"
      ? { "MCP-Protocol-Version": "2026-07-28", "Mcp-Method": "tools/call", "Mcp-Name": "start_job" }
      : {};
  const caller = new AbortController();
  const call = fetch(url, {
    method: "POST",
    headers: { "Content-Type": "application/json", Accept: "application/json, text/event-stream", ...headers },
    body: JSON.stringify({ jsonrpc: "2.0", id: 1, method: "tools/call", params }),
    signal: caller.signal,
  }).then((response) => response.text());
  await sleep(500);
  caller.abort();
  await expect(call).rejects.toThrow("aborted");
  await server.waitFor(() => server.stderr.includes('"event":"tool_call"'), "end of the call");
  expect(server.stderr).not.toContain("job_1 completed");
  await server.waitFor(() => server.stderr.includes("job_1 completed"), "end of the job");
});

test("says why it cannot start where the port is taken", async () => {
  const { url } = await start();
  const second = new FixtureProcess({ args: ["--http"], env: { MCP_HTTP_PORT: url.port } });
  running.push(second);
  expect((await second.exited).code).toBe(1);
  expect(second.stderr).toMatch(/^fixture: cannot start: listen EADDRINUSE/m);
});

test("lets no caller cancel another's call or see its progress, whatever ids they choose", async () => {
  const { url } = await start();
  const call = (steps: number) =>
    post(url, {
      id: 7,
      method: "tools/call",
      params: { name: "start_job", arguments: { steps, wait_seconds: 40 }, _meta: { progressToken: 7 } },
    });
  const calls = Promise.all([call(30), call(31)]);
  await sleep(500);
  for (const params of [{ requestId: 7 }, { requestId: 7, reason: "not mine" }]) {
    expect((await post(url, { method: "notifications/cancelled", params })).status).toBe(202);
  }
  const [first, second] = await calls;
  expect(first.text).toContain('"done\\":30');
  expect(second.text).toContain('"done\\":31');
  expect([first.text.includes('"total":31'), second.text.includes('"total":30')]).toEqual([false, false]);
  expect([first.text.includes('"total":30'), second.text.includes('"total":31')]).toEqual([true, true]);
});

test("answers each request of a batch once, and no batch that is long", async () => {
  const { url } = await start();
  const ping = (count: number) => {
    const body = JSON.stringify(Array.from({ length: count }, (_, id) => ({ jsonrpc: "2.0", id, method: "ping" })));
    const headers = { "Content-Type": "application/json", Accept: "application/json, text/event-stream" };
    return fetch(url, { method: "POST", headers, body });
  };
  expect((await (await ping(100)).text()).match(/"result":\{\}/g)).toHaveLength(100);
  expect((await ping(101)).status).toBe(400);
});

test("leaves a line of audit for a call to a tool that there is not", async () => {
  const { server, url } = await start();
  const { text } = await post(url, {
    id: 1,
    method: "tools/call",
    params: { name: "drop\n\u009b_all", arguments: {} },
  });
  expect(text).toContain("There is no tool");
  await server.waitFor(() => server.stderr.includes('"outcome":"unknown_tool"'), "line of audit");
  const line = server.stderr.split("\n").find((each) => each.includes("unknown_tool")) ?? "";
  expect(JSON.parse(line)).toMatchObject({ event: "tool_call", tool: "drop\\n\\u009b_all", outcome: "unknown_tool" });
});
