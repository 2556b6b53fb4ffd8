import { execFile } from "node:child_process";
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { promisify } from "node:util";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { entryPoint, type ServerName, serverEnvironment } from "../src/servers.ts";
import { initialize, legacy, modern, openWire, type Wire } from "./wire.ts";

const servers: ServerName[] = ["es-mcp", "pg-mcp"];
/** Nothing listens there: what is tested here must work with no database. */
const unreachable = {
  ELASTICSEARCH_URL: "http://127.0.0.1:1",
  DATABASE_URL: "postgres://nobody:nothing@127.0.0.1:1/nowhere",
};
let env: Record<string, string>;
let staging: string;
const wires: Wire[] = [];

beforeAll(async () => {
  staging = await mkdtemp(join(tmpdir(), "staging-"));
  env = { ...unreachable, STAGING_URL: pathToFileURL(staging).href };
});

afterAll(async () => {
  for (const wire of wires) wire.process.kill("SIGKILL");
  await rm(staging, { recursive: true, force: true });
});

function open(server: ServerName): Wire {
  const wire = openWire(server, env);
  wires.push(wire);
  return wire;
}

describe.each(servers)("%s on a pipe", (server) => {
  it("writes nothing but protocol messages to stdout, whatever comes in", async () => {
    const wire = open(server);
    wire.process.stdin?.write("this is not JSON\n");
    wire.send(initialize(1));
    wire.send({ jsonrpc: "2.0", method: "notifications/initialized" });
    wire.send(legacy(2, "tools/list"));
    wire.send(legacy(3, "no/such/method"));
    wire.send(legacy(4, "tools/call", { name: "no_such_tool", arguments: {} }));
    const someTool = server === "es-mcp" ? "list_indices" : "list_tables";
    wire.send(legacy(5, "tools/call", { name: someTool, arguments: {} }));
    await Promise.all([1, 2, 3, 4, 5].map((id) => wire.answer(id)));
    wire.process.stdin?.end();
    await wire.exit();
    for (const line of wire.lines) expect(JSON.parse(line)).toMatchObject({ jsonrpc: "2.0" });
  });

  it("answers initialize again and again, at any version", async () => {
    const wire = open(server);
    for (const [id, version] of ["2024-11-05", "2025-03-26", "2025-06-18", "2025-11-25", "2025-06-18"].entries()) {
      wire.send(initialize(id, version));
      expect(await wire.answer(id)).toMatchObject({
        result: { protocolVersion: version, serverInfo: { name: server } },
      });
    }
    wire.process.stdin?.end();
    expect((await wire.exit()).code).toBe(0);
  });

  it("serves both generations of the protocol on one pipe, in turns", async () => {
    const wire = open(server);
    wire.send(modern(1, "server/discover"));
    expect(await wire.answer(1)).toHaveProperty("result");
    wire.send(initialize(2));
    wire.send(legacy(3, "tools/list"));
    wire.send(modern(4, "tools/list"));
    wire.send(legacy(5, "tools/list"));
    const lists = await Promise.all([3, 4, 5].map(async (id) => toolNames(await wire.answer(id))));
    expect(lists[0]?.length).toBeGreaterThan(0);
    expect(lists[1]).toEqual(lists[0]);
    expect(lists[2]).toEqual(lists[0]);
    wire.process.stdin?.end();
    await wire.exit();
  });

  it("ends with code 0 within 4 s of the end of its input and of SIGTERM", async () => {
    for (const stop of [(wire: Wire) => wire.process.stdin?.end(), (wire: Wire) => wire.process.kill("SIGTERM")]) {
      const wire = open(server);
      wire.send(initialize(1));
      await wire.answer(1);
      stop(wire);
      const { code, signal, ms } = await wire.exit();
      expect({ code, signal }).toEqual({ code: 0, signal: null });
      expect(ms).toBeLessThan(4000);
    }
  });

  it("says in one answer everything that is wrong with its configuration, and no secret", async () => {
    const wrong = {
      ...env,
      MCP_HTTP_PORT: "high",
      STAGING_TTL_HOURS: "soon",
      DATABASE_URL: "mysql://u:sesame@h/d",
      ELASTICSEARCH_URL: "ftp://u:sesame@h",
    };
    const failure: unknown = await promisify(execFile)(process.execPath, [entryPoint(server)], {
      env: serverEnvironment(wrong),
    }).catch((error: unknown) => error);
    expect(failure).toMatchObject({ code: 2, stdout: "" });
    const stderr = failure instanceof Error && "stderr" in failure ? String(failure.stderr) : "";
    expect(stderr).toContain("MCP_HTTP_PORT");
    expect(stderr).toContain("STAGING_TTL_HOURS");
    expect(stderr).toContain(server === "es-mcp" ? "ELASTICSEARCH_URL" : "DATABASE_URL");
    expect(stderr).not.toContain("sesame");
  });

  it("answers initialize soon and is small while idle (figures are printed, not judged)", async () => {
    const from = performance.now();
    const wire = open(server);
    wire.send(initialize(1));
    await wire.answer(1);
    const startMs = Math.round(performance.now() - from);
    await new Promise((resolve) => setTimeout(resolve, 1000));
    const status = await readFile(`/proc/${wire.process.pid}/status`, "utf8").catch(() => "");
    const rssMb = Math.round(Number(/^VmRSS:\s+(\d+)/m.exec(status)?.[1] ?? Number.NaN) / 1024);
    process.stderr.write(`measured: ${server} answers initialize after ${startMs} ms, idle RSS ${rssMb} MB\n`);
    wire.process.kill("SIGTERM");
    expect((await wire.exit()).code).toBe(0);
  });
});

function toolNames(answer: Record<string, unknown>): (string | undefined)[] {
  return [...JSON.stringify(answer).matchAll(/"name":"([a-z_]+)","title"/g)].map((match) => match[1]);
}
