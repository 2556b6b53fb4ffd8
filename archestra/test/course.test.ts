import { readFileSync, statSync, writeFileSync } from "node:fs";
import { describe, expect, it } from "vitest";
import { openBench } from "./harness.ts";
import type { Shape } from "./platform.ts";

describe.each<{ shape: Shape }>([{ shape: "scope" }, { shape: "grants" }])(
  "with objects opened by $shape",
  ({ shape }) => {
    it("plans, applies, applies nothing again, applies a change, and destroys", async () => {
      const bench = await openBench({ shape });
      const { platform, cluster } = bench;

      expect(
        await bench.changesOf(async () => expect(await bench.run("plan")).toContain("create server es_mcp")),
      ).toEqual([]);

      const applied = await bench.run("apply");
      expect(applied).toContain("server es_mcp: 11 tools");
      expect(applied).toContain("server pg_mcp: 13 tools");
      expect(applied).toContain("agent Data Transformer: 24 tools");
      expect(applied).toContain("gateway Data Transformer gateway: 24 tools");
      expect(platform.items).toHaveLength(2);
      expect(platform.installations).toHaveLength(2);
      expect(platform.agents).toHaveLength(2);
      expect(platform.apiKeys).toHaveLength(1);
      expect(cluster.object("NetworkPolicy", "data-transformer")).toBeDefined();

      const again = await bench.changesOf(async () => expect(await bench.run("apply")).toContain("Nothing to change."));
      expect(again).toEqual([]);

      bench.values = { ...bench.values, POD_LOG_LEVEL: "debug" };
      const changed = await bench.changesOf(() => bench.run("apply"));
      expect(changed).toEqual(Array.from({ length: 2 }, () => "PUT /api/internal_mcp_catalog/{id}"));
      expect(platform.items.every((item) => item.deploymentSpecYaml?.includes('value: "debug"'))).toBe(true);
      expect(await bench.changesOf(() => bench.run("apply"))).toEqual([]);

      await bench.run("destroy", { yes: true });
      expect([platform.items, platform.installations, platform.agents, platform.tools].flat()).toEqual([]);
      expect([platform.llmKeys, platform.apiKeys, platform.assignments, platform.delegations].flat()).toEqual([]);
      expect([platform.invocationPolicies, platform.resultPolicies, platform.schedules].flat()).toEqual([]);
      expect(Object.keys(cluster.snapshot())).toEqual(["stored/es-mcp:latest", "stored/pg-mcp:latest"]);
      expect(() => statSync(bench.stateFile)).toThrow("ENOENT");
    });
  },
);

it("opens what it makes to the organization", async () => {
  const bench = await openBench();
  await bench.run("apply");
  const { agents, items, installations, llmKeys } = bench.platform;
  expect([...agents, ...items, ...installations, ...llmKeys].map((row) => row.scope)).toEqual(
    Array.from({ length: 7 }, () => "org"),
  );

  const newer = await openBench({ shape: "grants" });
  await newer.run("apply");
  expect(newer.platform.agents.map((row) => row.initialGrants)).toEqual(
    Array.from({ length: 2 }, () => [{ subject: { type: "organization", id: "*" }, actions: ["read", "use"] }]),
  );
});

it("keeps state in a file that its owner alone may read, and prints no secret", async () => {
  const bench = await openBench();
  bench.values = { OPENAI_API_KEY: "sk-secret-1", POD_POSTGRES_PASSWORD: "pg-secret-2" };
  const output = (await bench.run("plan")) + (await bench.run("apply")) + (await bench.run("status"));
  expect(statSync(bench.stateFile).mode & 0o777).toBe(0o600);
  const state = readFileSync(bench.stateFile, "utf8");
  expect(state).not.toContain("sk-secret-1");
  expect(state).not.toContain("pg-secret-2");
  const tokens = bench.platform.installations.map((row) => row.environmentValues["MCP_HTTP_TOKEN"] ?? "none");
  const keys = bench.platform.apiKeys.map((row) => row.key);
  for (const secret of ["sk-secret-1", "pg-secret-2", bench.platform.personalToken, ...tokens, ...keys]) {
    expect(output).not.toContain(secret);
  }
  expect(await bench.run("token")).toBe(bench.platform.personalToken);
});

it("gives each server a token of its own, and secrets to the platform alone", async () => {
  const bench = await openBench();
  await bench.run("apply");
  const [one, other] = bench.platform.installations.map((row) => row.environmentValues["MCP_HTTP_TOKEN"]);
  expect(one).toMatch(/^[\w-]{43}$/);
  expect(one).not.toBe(other);
  const pg = bench.platform.items.find(({ name }) => name === "pg_mcp");
  expect(pg?.localConfig?.environment?.map(({ key }) => key)).toEqual(["POSTGRES_PASSWORD", "MCP_HTTP_TOKEN"]);
  expect(pg?.deploymentSpecYaml).not.toContain("POSTGRES_PASSWORD");
});

it("sends the YAML last and alone, and the server runs by it", async () => {
  const bench = await openBench();
  await bench.run("apply");
  const { items, log } = bench.platform;
  const last = log.filter((name) => name.includes("internal_mcp_catalog") && !name.startsWith("GET")).at(-1);
  expect(last).toBe("PUT /api/internal_mcp_catalog/{id}");
  for (const { deploymentSpecYaml } of items)
    expect(deploymentSpecYaml).toMatch(/mountPath: "\/staging"[\s\S]*volumes:/);
});

it("sends the YAML again after a change that makes the platform rewrite it", async () => {
  const bench = await openBench();
  await bench.run("apply");
  bench.values = { ...bench.values, POD_ELASTICSEARCH_API_KEY: "id:key" };
  const changes = await bench.changesOf(() => bench.run("apply"));
  expect(changes).toEqual([
    "PUT /api/internal_mcp_catalog/{id}",
    "PUT /api/internal_mcp_catalog/{id}",
    "POST /api/mcp_server/{id}/reinstall",
  ]);
  expect(await bench.run("doctor")).toContain("es_mcp tools: 11 tools");
  expect(await bench.changesOf(() => bench.run("apply"))).toEqual([]);
});

it("repairs what a person changed on the platform", async () => {
  const bench = await openBench();
  await bench.run("apply");
  const before = bench.snapshot();
  const [item] = bench.platform.items;
  const agent = bench.platform.agents.find((row) => row.agentType === "agent");
  if (item === undefined || agent === undefined) throw new Error("not applied");
  item.deploymentSpecYaml = null;
  bench.platform.restart();
  agent.systemPrompt = "Be brief.";
  agent.toolExposureMode = "search_and_run_only";
  bench.platform.assignments.splice(3, 5);
  bench.platform.invocationPolicies.splice(0, 2);
  bench.platform.delegations.splice(0);
  await bench.run("apply");
  expect(bench.snapshot()).toEqual(before);
});

it("loads everything again into a cluster that was made anew, and reinstalls nothing", async () => {
  const bench = await openBench();
  await bench.run("apply");
  const before = bench.snapshot();
  bench.cluster.recreate();
  bench.platform.restart();
  expect(await bench.run("plan")).toContain("load image es-mcp:latest\n    the cluster does not have it");
  const changes = await bench.changesOf(() => bench.run("apply"));
  expect(bench.snapshot()).toEqual(before);
  expect(changes.filter((name) => name.includes("/api/"))).toEqual([]);
});

it("restarts a server whose image was built anew", async () => {
  const bench = await openBench();
  await bench.run("apply");
  bench.cluster.build("pg-mcp:latest", "second");
  const changes = await bench.changesOf(() => bench.run("apply"));
  expect(changes.filter((name) => name.includes("/api/"))).toEqual([
    "POST /api/internal_mcp_catalog/{id}/refresh-image",
  ]);
  const pg = bench.platform.installations.find(({ name }) => name === "pg_mcp");
  expect(pg?.pod?.image).toBe(bench.cluster.stored("pg-mcp:latest"));
  expect(await bench.changesOf(() => bench.run("apply"))).toEqual([]);
});

it("reinstalls with new secrets, and with all of them when the state file is lost", async () => {
  const bench = await openBench();
  await bench.run("apply");
  bench.values = { ...bench.values, POD_POSTGRES_PASSWORD: "changed" };
  expect(await bench.changesOf(() => bench.run("apply"))).toEqual(["POST /api/mcp_server/{id}/reinstall"]);
  const pg = bench.platform.installations.find(({ name }) => name === "pg_mcp");
  expect(pg?.environmentValues["POSTGRES_PASSWORD"]).toBe("changed");

  writeFileSync(bench.stateFile, "{}");
  await expect(bench.run("apply")).rejects.toMatchObject({ code: "state_unreadable" });
  bench.values = { ...bench.values, ARCHESTRA_STATE_FILE: `${bench.stateFile}.new` };
  await bench.run("apply");
  expect(await bench.changesOf(() => bench.run("apply"))).toEqual([]);
  expect(bench.platform.agents).toHaveLength(2);
});

it("says what it changes in words that people know", async () => {
  const bench = await openBench();
  const applied = await bench.run("apply");
  expect(applied).toContain("wait for server es_mcp\n");
  expect(applied).toContain("assign tools of the agent\n    11 of es_mcp\n    13 of pg_mcp\n");
  bench.platform.assignments.splice(0, 1);
  bench.values = { ...bench.values, LLM_MODEL: "gpt-small", POD_LOG_LEVEL: "debug" };
  const plan = await bench.run("plan");
  expect(plan).toContain("update agent Data Transformer\n    modelId: gpt-large -> gpt-small\n");
  expect(plan).toContain('update deployment of es_mcp\n    + - name: "LOG_LEVEL"\n    + value: "debug"\n');
  expect(plan).toContain("assign tools of the agent\n    es_mcp__list_indices");
});

it("changes the provider and lets go of the key before", async () => {
  const bench = await openBench();
  await bench.run("apply");
  bench.values = { LLM_PROVIDER: "ollama", LLM_MODEL: "gpt-small" };
  await bench.run("apply");
  expect(bench.platform.llmKeys.map((row) => [row.provider, row.baseUrl])).toEqual([
    ["ollama", "http://host.docker.internal:11434/v1"],
  ]);
  const agent = bench.platform.agents.find((row) => row.agentType === "agent");
  expect(agent?.llmApiKeyId).toBe(bench.platform.llmKeys[0]?.id);
  expect(await bench.changesOf(() => bench.run("apply"))).toEqual([]);
});

it("sets policies that let the agent work in restrictive organizations, and ask before data is lost", async () => {
  const bench = await openBench();
  await bench.run("apply");
  const { tools, invocationPolicies, resultPolicies } = bench.platform;
  const actions = (name: string) =>
    invocationPolicies
      .filter(({ toolId }) => toolId === tools.find((tool) => tool.name === name)?.id)
      .map(({ conditions, action }) => ({ conditions, action }));
  expect(actions("es_mcp__bulk_export")).toEqual([{ conditions: [], action: "allow_when_context_is_untrusted" }]);
  expect(actions("es_mcp__delete_export")).toEqual([{ conditions: [], action: "require_approval" }]);
  expect(actions("pg_mcp__bulk_insert")).toEqual([
    { conditions: [], action: "allow_when_context_is_untrusted" },
    { conditions: [{ key: "mode", operator: "equal", value: "replace" }], action: "require_approval" },
  ]);
  expect(resultPolicies).toHaveLength(24);
  expect(new Set(resultPolicies.map(({ action }) => action))).toEqual(new Set(["mark_as_untrusted"]));
});

it("works on versions without these policies", async () => {
  const bench = await openBench();
  bench.platform.hasPolicies = false;
  expect(await bench.run("apply")).toContain("agent Data Transformer: 24 tools");
  expect(await bench.changesOf(() => bench.run("apply"))).toEqual([]);
});

it("leaves out of the tools what a read-only pg-mcp does not have", async () => {
  const bench = await openBench();
  const plan = await bench.run("plan");
  expect(plan).toContain("assign tools of the agent\n    all of es_mcp and pg_mcp");
});

it("makes, changes and removes a schedule", async () => {
  const bench = await openBench();
  bench.values = { ...bench.values, ARCHESTRA_SCHEDULE_CRON: "0 2 * * *" };
  await bench.run("apply");
  bench.values = { ...bench.values, ARCHESTRA_SCHEDULE_TIMEZONE: "Europe/Berlin" };
  await bench.run("apply");
  expect(bench.platform.schedules.map((row) => [row.cronExpression, row.timezone, row.enabled])).toEqual([
    ["0 2 * * *", "Europe/Berlin", true],
  ]);
  const { ARCHESTRA_SCHEDULE_CRON: _, ...rest } = { ARCHESTRA_SCHEDULE_CRON: "", ...bench.values };
  bench.values = rest;
  await bench.run("apply");
  expect(bench.platform.schedules).toEqual([]);
});

it.each(["apply", "destroy"])("takes a network policy back that is no longer wanted, by %s", async (command) => {
  const bench = await openBench();
  await bench.run("apply");
  bench.values = { ...bench.values, ARCHESTRA_NETWORK_POLICY: "false" };
  expect(await bench.run("plan")).toContain("delete NetworkPolicy data-transformer");
  await bench.run(command, { yes: true });
  expect(bench.cluster.object("NetworkPolicy", "data-transformer")).toBeUndefined();
});

it("goes over to stdio with a warning and no waiting, and back", async () => {
  const bench = await openBench();
  await bench.run("apply");
  const before = bench.snapshot();
  const { values } = bench;
  bench.values = { ...values, ARCHESTRA_TRANSPORT: "stdio" };
  expect(await bench.run("plan")).toContain("hands answers to the wrong one");
  await bench.run("apply");
  for (const item of bench.platform.items) {
    expect(item.localConfig).toMatchObject({ transportType: "stdio", arguments: [] });
    expect(item.userConfig).toEqual({});
    expect(item.deploymentSpecYaml).toContain('name: "MCP_WAIT_SECONDS_DEFAULT"\n              value: "0"');
    expect(item.deploymentSpecYaml).not.toContain("--http");
  }
  expect(await bench.changesOf(() => bench.run("apply"))).toEqual([]);
  bench.values = values;
  await bench.run("apply");
  expect(bench.snapshot()).toEqual(before);
});

it("registers servers that run elsewhere, and touches no cluster", async () => {
  const bench = await openBench();
  bench.cluster.stopNode();
  bench.values = {
    ...bench.values,
    ES_MCP_REMOTE_URL: "https://es-mcp.internal/mcp",
    ES_MCP_REMOTE_TOKEN: "one",
    PG_MCP_REMOTE_URL: "https://pg-mcp.internal/mcp",
    PG_MCP_REMOTE_TOKEN: "two",
  };
  expect(await bench.run("apply")).toContain("agent Data Transformer: 24 tools");
  expect(bench.platform.installations.map((row) => row.userConfigValues["mcp_http_token"])).toEqual(["one", "two"]);
  expect(bench.cluster.changes()).toEqual([]);
  expect(await bench.changesOf(() => bench.run("apply"))).toEqual([]);
});

it("destroys the API keys of this checkout alone, be they of a run that was cut off or gone already", async () => {
  const bench = await openBench();
  bench.platform.apiKeys.push({ id: "foreign", name: "data-transformer 0123456789abcdef", key: "arch_foreign" });
  bench.platform.onRequest = (moment, name) =>
    moment === "after" && name === "POST /api/api-keys" ? "drop" : undefined;
  await expect(bench.run("apply")).rejects.toMatchObject({ code: "api_unreachable" });
  bench.platform.onRequest = () => undefined;
  expect(bench.platform.apiKeys).toHaveLength(2);
  await bench.run("destroy");
  expect(bench.platform.apiKeys.map(({ id }) => id)).toEqual(["foreign"]);

  await bench.run("apply");
  bench.platform.apiKeys.splice(1);
  bench.values = { ...bench.values, ARCHESTRA_API_KEY: "arch_foreign" };
  await bench.run("destroy", { yes: true });
  expect(bench.platform.apiKeys.map(({ id }) => id)).toEqual(["foreign"]);
});

it("uses an API key that is given, and makes none", async () => {
  const bench = await openBench();
  await bench.run("apply");
  const key = bench.platform.apiKeys[0]?.key ?? "";
  bench.values = { ...bench.values, ARCHESTRA_API_KEY: key, ARCHESTRA_AUTH_ADMIN_PASSWORD: "not asked for" };
  expect(await bench.run("plan")).toContain("Nothing to change.");
});

it("leaves alone the labels that people add, wherever the platform lists them", async () => {
  const bench = await openBench();
  await bench.run("apply");
  for (const row of [...bench.platform.agents, ...bench.platform.items]) {
    row.labels = [{ key: "a", value: "1" }, ...row.labels, { key: "team", value: "data" }];
  }
  expect(await bench.changesOf(() => bench.run("apply"))).toEqual([]);
});

it("leaves alone what others made, their agents' delegations and their tools", async () => {
  const bench = await openBench();
  await bench.run("apply");
  const gateway = bench.platform.agents.find((row) => row.agentType === "mcp_gateway");
  if (gateway === undefined) throw new Error("not applied");
  const foreign = { ...gateway, id: "3b1f8a52-2c55-4d36-9d3f-6c9f4e1a0001", name: "Mine", labels: [] };
  bench.platform.agents.push(foreign);
  bench.platform.delegations.splice(0, 1, { from: gateway.id, to: foreign.id });
  const schedule = {
    id: "3b1f8a52-2c55-4d36-9d3f-6c9f4e1a0005",
    name: "Data Transformer",
    agentId: foreign.id,
    messageTemplate: "Report.",
    cronExpression: "0 7 * * 1",
    timezone: "UTC",
    enabled: true,
  };
  bench.platform.schedules.push(schedule);
  await bench.run("apply");
  expect(bench.platform.delegations.map(({ to }) => to)).toEqual([
    foreign.id,
    bench.platform.agents.find((row) => row.name === "Data Transformer")?.id,
  ]);
  await bench.run("destroy", { yes: true });
  expect(bench.platform.agents).toEqual([foreign]);
  expect(bench.platform.schedules).toEqual([schedule]);
});
