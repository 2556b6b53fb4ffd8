import { expect, it } from "vitest";
import { type Bench, openBench } from "./harness.ts";

async function applied(): Promise<Bench> {
  const bench = await openBench();
  bench.platform.organization.globalToolPolicy = "restrictive";
  await bench.run("apply");
  return bench;
}

function textResult(text: string) {
  return { content: [{ type: "text", text }] };
}

/** The lines of the report that are not in order, each with what to do. */
async function troubles(bench: Bench): Promise<string[]> {
  const text = await bench.run("doctor");
  process.exitCode = 0;
  return text.split(/\n(?=\S)/).filter((finding) => !finding.startsWith("ok"));
}

it("finds nothing to complain of after apply", async () => {
  expect(await troubles(await applied())).toEqual([]);
});

it("finds that the platform has no cluster", async () => {
  const bench = await applied();
  bench.platform.orchestrator = false;
  expect((await troubles(bench)).join("\n")).toMatch(/FAILURE {2}Kubernetes: .*\n.*Docker socket/);
});

it("finds what a cluster that was made anew lacks", async () => {
  const bench = await applied();
  bench.cluster.recreate();
  const found = (await troubles(bench)).join("\n");
  for (const what of [
    "image es-mcp:latest: not in the cluster",
    "database network: the cluster's node is not in it",
    "PersistentVolumeClaim data-transformer-staging: not there",
  ]) {
    expect(found).toContain(what);
  }
});

it("finds a database that a pod cannot reach", async () => {
  const bench = await applied();
  bench.platform.cutOff.add("pg_mcp");
  expect(await troubles(bench)).toEqual([
    expect.stringMatching(
      /FAILURE {2}PostgreSQL from pg_mcp: connection_failed: getaddrinfo ENOTFOUND\n.*not localhost/,
    ),
  ]);
});

it("finds pods that ran out of memory or do not start", async () => {
  const bench = await applied();
  bench.cluster.pods([
    {
      metadata: { name: "mcp-pgmcp-1" },
      status: {
        containerStatuses: [{ name: "mcp-server", state: {}, lastState: { terminated: { reason: "OOMKilled" } } }],
      },
    },
    {
      metadata: { name: "mcp-esmcp-1" },
      status: {
        conditions: [{ type: "PodScheduled", status: "False", reason: "Unschedulable", message: "claim not found" }],
      },
    },
  ]);
  const found = (await troubles(bench)).join("\n");
  expect(found).toMatch(/pod mcp-pgmcp-1: OOMKilled.*\n.*ARCHESTRA_POD_MEMORY/);
  expect(found).toMatch(
    /pod mcp-esmcp-1: Unschedulable claim not found\n.*docker exec .*kubectl .*describe persistentvolumeclaim/,
  );
});

it("finds tools that are not assigned, and tools without a policy", async () => {
  const bench = await applied();
  bench.platform.assignments.splice(0, 30);
  bench.platform.invocationPolicies.splice(0, 3);
  const found = (await troubles(bench)).join("\n");
  expect(found).toContain("agent's tools: 24 not assigned");
  expect(found).toContain("tool policies: 3 tools have none");
  expect(found).toContain("plan: ");
});

it("finds tool calls that the platform cut off", async () => {
  const bench = await applied();
  const call = { method: "tools/call", createdAt: "2026-01-01T00:00:00Z", toolCall: { name: "a", arguments: {} } };
  const content = [{ type: "text", text: "MCP error -32001: Request timed out" }];
  bench.platform.toolCalls.push({ ...call, id: "1", toolResult: { content } }, { ...call, id: "2" });
  expect(await troubles(bench)).toEqual([
    expect.stringMatching(/warning {2}tool calls: 1 of the last 2: Request timed out\n.*get_load/),
  ]);
});

it.each([
  { format: "JSON", text: '{"load":"load_1","rejected":2}' },
  { format: "TOON", text: "load: load_1\nrejected: 2" },
])("finds loads that rejected documents, told as $format", async ({ text }) => {
  const bench = await applied();
  const call = { method: "tools/call", createdAt: "2026-01-01T00:00:00Z", toolCall: { name: "a", arguments: {} } };
  bench.platform.toolCalls.push({ ...call, id: "1", toolResult: textResult(text.replace("2", "0")) });
  expect(await troubles(bench)).toEqual([]);
  bench.platform.toolCalls.push({ ...call, id: "2", toolResult: textResult(text) });
  expect(await troubles(bench)).toEqual([
    expect.stringMatching(/warning {2}rejects: 1 of the last 2 calls tell of rejected documents\n.*List the rejects/),
  ]);
});

it("warns of stdio, and of an organization that obeys no policy", async () => {
  const bench = await applied();
  bench.values = { ...bench.values, ARCHESTRA_TRANSPORT: "stdio" };
  await bench.run("apply");
  bench.platform.organization.globalToolPolicy = "permissive";
  const found = await troubles(bench);
  expect(found.map((finding) => finding.split(":")[0])).toEqual(["warning  transport", "warning  tool policies"]);
});
