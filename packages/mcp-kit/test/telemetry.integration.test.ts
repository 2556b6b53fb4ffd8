import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { FixtureProcess, initializeParams, listening, modern } from "./harness.ts";
import { type OtlpReceiver, startOtlpReceiver } from "./otlp-receiver.ts";

let receiver: OtlpReceiver;
let servers: FixtureProcess[] = [];

beforeEach(async () => {
  receiver = await startOtlpReceiver();
});

afterEach(async () => {
  await Promise.all(servers.map((server) => server.stop()));
  servers = [];
  await receiver[Symbol.asyncDispose]();
});

function start(options: { args?: string[]; env?: Record<string, string> } = {}): FixtureProcess {
  const server = new FixtureProcess(options);
  servers.push(server);
  return server;
}

function startTraced(env: Record<string, string> = {}, args: string[] = []): FixtureProcess {
  const otlp = { OTEL_EXPORTER_OTLP_ENDPOINT: receiver.url, OTEL_EXPORTER_OTLP_PROTOCOL: "http/json" };
  return start({ args, env: { ...otlp, ...env } });
}

/** Ends the server as a host does, by which it sends all that it has gathered. */
async function endOf(server: FixtureProcess): Promise<void> {
  const { code, ms } = await server.endsAfter(() => server.child.stdin?.end());
  expect(code).toBe(0);
  expect(ms).toBeLessThan(4_000);
}

/** Addresses of all modules that a server loads that answers a call and ends. */
async function readModules(env: Record<string, string>): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), "telemetry-"));
  try {
    const recorded = join(folder, "modules");
    const hook = new URL("record-modules.mjs", import.meta.url).href;
    const server = start({ env: { ...env, NODE_OPTIONS: `--import ${hook}`, RECORD_MODULES: recorded } });
    await server.request(1, "tools/call", modern({ name: "start_job", arguments: { steps: 1 } }));
    await endOf(server);
    return await readFile(recorded, "utf8");
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

/** What a reader of the metrics is answered. */
async function readMetrics(url: URL, token?: string): Promise<{ status: number; text: string; type: string | null }> {
  const headers = token === undefined ? {} : { Authorization: `Bearer ${token}` };
  const response = await fetch(new URL("/metrics", url), { headers });
  return { status: response.status, text: await response.text(), type: response.headers.get("content-type") };
}

const traceparent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

describe("traces of tool calls", () => {
  it("are spans by the conventions for MCP, below the caller's", async () => {
    const server = startTraced();
    await server.request(1, "initialize", initializeParams("2025-06-18"));
    await server.request(2, "tools/call", {
      name: "echo",
      arguments: { message: "a secret of mine" },
      _meta: { traceparent },
    });
    await endOf(server);
    const [span] = receiver.spans;
    expect(receiver.spans).toHaveLength(1);
    expect(span).toMatchObject({
      service: "fixture",
      traceId: "0af7651916cd43dd8448eb211c80319c",
      parentSpanId: "b7ad6b7169203331",
      name: "tools/call echo",
      kind: 2,
      status: 0,
      attributes: {
        "mcp.method.name": "tools/call",
        "gen_ai.tool.name": "echo",
        "gen_ai.operation.name": "execute_tool",
        "jsonrpc.request.id": "2",
        "mcp.protocol.version": "2025-06-18",
        "network.transport": "pipe",
      },
    });
    expect(receiver.text).not.toContain("secret of mine");
  });

  it("begin anew for a caller who does not trace, and know how a call failed", async () => {
    const server = startTraced();
    await server.request(1, "tools/call", modern({ name: "fail", arguments: { how: "expected" } }));
    await server.request(2, "tools/call", modern({ name: "echo", arguments: { mesage: "x" } }));
    await endOf(server);
    expect(receiver.spans.map(({ parentSpanId }) => parentSpanId)).toEqual(["", ""]);
    expect(new Set(receiver.spans.map(({ traceId }) => traceId)).size).toBe(2);
    expect(receiver.spans.map(({ status, attributes }) => [status, attributes])).toEqual([
      [2, expect.objectContaining({ "error.type": "tool_error", "etl.error.code": "not_there" })],
      [2, expect.objectContaining({ "error.type": "tool_error", "etl.error.code": "invalid_arguments" })],
    ]);
    expect(receiver.text).not.toContain("geheim");
    expect(receiver.spans[0]?.attributes["mcp.protocol.version"]).toBe("2026-07-28");
  });

  it("are left out where the caller's trace, or the sampler, does not record", async () => {
    const server = startTraced();
    await server.request(1, "initialize", initializeParams("2025-06-18"));
    const unrecorded = { traceparent: traceparent.replace(/01$/, "00") };
    await server.request(2, "tools/call", { name: "echo", arguments: { message: "x" }, _meta: unrecorded });
    await endOf(server);
    const silent = startTraced({ OTEL_TRACES_SAMPLER: "always_off" });
    await silent.request(1, "tools/call", modern({ name: "echo", arguments: { message: "x" } }));
    await endOf(silent);
    expect(receiver.spans).toEqual([]);
    expect(receiver.metrics).toContain("mcp.server.operation.duration");
  });

  it("are sent as protobuf unless told otherwise", async () => {
    const server = start({ env: { OTEL_EXPORTER_OTLP_ENDPOINT: receiver.url } });
    await server.request(1, "tools/call", modern({ name: "echo", arguments: { message: "x" } }));
    await endOf(server);
    expect(receiver.headers.map((headers) => headers["content-type"])).toContain("application/x-protobuf");
    expect(receiver.text).toContain("tools/call echo");
  });

  it("give log lines their ids", async () => {
    const server = startTraced();
    await server.request(1, "tools/call", modern({ name: "echo", arguments: { message: "x" } }));
    await endOf(server);
    const line = server.stderr.split("\n").find((text) => text.includes('"event":"tool_call"')) ?? "";
    expect(JSON.parse(line)).toMatchObject({
      level: "info",
      trace_id: receiver.spans[0]?.traceId,
      span_id: receiver.spans[0]?.spanId,
    });
  });

  it("carry the headers that are set, which come by a file too and never into the log", async () => {
    const folder = await mkdtemp(join(tmpdir(), "telemetry-"));
    try {
      const file = join(folder, "headers");
      await writeFile(file, "x-tenant=etl,authorization=Bearer%20s3cr3t");
      const server = startTraced({ OTEL_EXPORTER_OTLP_HEADERS_FILE: file, LOG_LEVEL: "debug" });
      await server.request(1, "tools/call", modern({ name: "echo", arguments: { message: "x" } }));
      await endOf(server);
      expect(receiver.headers[0]).toMatchObject({ "x-tenant": "etl", authorization: "Bearer s3cr3t" });
      expect(server.stderr).not.toContain("s3cr3t");
    } finally {
      await rm(folder, { recursive: true, force: true });
    }
  });
});

describe("a collector that is not there", () => {
  it("costs the protocol nothing: stdout stays pure and the way out in time", async () => {
    const server = start({ env: { OTEL_EXPORTER_OTLP_ENDPOINT: "http://127.0.0.1:9" } });
    const answer = await server.request(1, "tools/call", modern({ name: "echo", arguments: { message: "x" } }));
    expect(answer.result.isError).toBeUndefined();
    await endOf(server);
    expect(server.messages).toHaveLength(1);
  });
});

describe("the configuration", () => {
  it.each([
    ["an address of another kind", { OTEL_EXPORTER_OTLP_ENDPOINT: "grpc://collector:4317" }, "gRPC is not spoken"],
    ["another encoding", { OTEL_EXPORTER_OTLP_PROTOCOL: "grpc" }, "must be http/protobuf or http/json"],
    ["a header that is half encoded", { OTEL_EXPORTER_OTLP_HEADERS: "a=100%" }, "must have a % in a value written as"],
    ["an exporter to stdout", { OTEL_TRACES_EXPORTER: "console" }, "must be otlp or none"],
    ["a ratio beyond one", { OTEL_TRACES_SAMPLER_ARG: "7" }, "must be a ratio from 0 to 1"],
  ])("refuses %s", async (_what, env, sentence) => {
    const server = start({ env });
    expect((await server.exited).code).toBe(2);
    expect(server.stderr).toContain(sentence);
  });
});

describe("modules", () => {
  it("of telemetry are not loaded unless something turns it on", async () => {
    const off = await readModules({});
    expect(off).toContain("/src/run.ts");
    expect(off).not.toMatch(/@opentelemetry|open-telemetry\.ts/);
    const on = { OTEL_EXPORTER_OTLP_ENDPOINT: receiver.url, OTEL_EXPORTER_OTLP_PROTOCOL: "http/json" };
    expect(await readModules({ ...on, OTEL_SDK_DISABLED: "true" })).not.toContain("@opentelemetry");
    expect(await readModules(on)).toContain("@opentelemetry");
  });
});

describe("/metrics", () => {
  const http = {
    MCP_HTTP_PORT: "0",
    MCP_HTTP_TOKEN: "opens-all",
    MCP_METRICS: "on",
    MCP_METRICS_TOKEN: "opens-metrics",
  };

  it("is read with its own token or the one for all, and its own opens nothing else", async () => {
    const url = await listening(start({ args: ["--http"], env: http }));
    expect((await readMetrics(url)).status).toBe(401);
    expect((await readMetrics(url, "wrong")).status).toBe(401);
    expect((await readMetrics(url, "opens-all")).status).toBe(200);
    expect(await readMetrics(url, "opens-metrics")).toMatchObject({
      status: 200,
      type: "text/plain; version=0.0.4; charset=utf-8",
    });
    const call = await fetch(url, { method: "POST", headers: { Authorization: "Bearer opens-metrics" }, body: "{}" });
    expect(call.status).toBe(401);
  });

  it("is not there unless it is asked for", async () => {
    const url = await listening(start({ args: ["--http"], env: { ...http, MCP_METRICS: "off" } }));
    expect((await readMetrics(url, "opens-all")).status).toBe(404);
  });

  it("shows calls by tool and errors by code, under Prometheus's names", async () => {
    const url = await listening(start({ args: ["--http"], env: { ...http, MCP_HTTP_TOKEN: "none" } }));
    for (const name of ["echo", "fail"]) {
      const given = { name, arguments: name === "echo" ? { message: "x" } : { how: "expected" } };
      const body = JSON.stringify({ jsonrpc: "2.0", id: 1, method: "tools/call", params: modern(given) });
      await fetch(url, {
        method: "POST",
        headers: {
          "Content-Type": "application/json",
          Accept: "application/json, text/event-stream",
          "MCP-Protocol-Version": "2026-07-28",
          "MCP-Method": "tools/call",
          "MCP-Name": name,
        },
        body,
      }).then((response) => response.text());
    }
    const { text } = await readMetrics(url, "opens-metrics");
    expect(text).toContain(
      'mcp_server_operation_duration_seconds_count{mcp_method_name="tools/call",gen_ai_tool_name="echo"} 1',
    );
    expect(text).toContain('etl_tool_errors_total{gen_ai_tool_name="fail",code="not_there"} 1');
    expect(text).toMatch(/^nodejs_eventloop_delay_seconds\{statistic="p99"\} \S+$/m);
    expect(text).toMatch(/^process_cpu_time_seconds_total\{cpu_mode="user"\} \S+$/m);
    expect(text).toMatch(/^target_info\{service_name="fixture",service_version="1.2.3"/m);
    expect(text).not.toContain("# UNIT");
  });
});
