/** Each failure that a person has to do something about: its code, and that the words say what. */
import { rmSync } from "node:fs";
import { expect, it } from "vitest";
import { openBench } from "./harness.ts";

it("says where the API is looked for when nothing answers", async () => {
  const bench = await openBench();
  bench.values = { ARCHESTRA_URL: "http://127.0.0.1:9" };
  await expect(bench.run("apply")).rejects.toMatchObject({
    code: "api_unreachable",
    message: expect.stringContaining("http://127.0.0.1:9"),
    next: expect.stringContaining("docker compose up -d archestra"),
  });
});

it("says that the password is wrong, and of whom", async () => {
  const bench = await openBench({ password: "another" });
  await expect(bench.run("apply")).rejects.toMatchObject({
    code: "wrong_password",
    message: expect.stringContaining("admin@example.com"),
    next: expect.stringContaining("ARCHESTRA_AUTH_ADMIN_PASSWORD"),
  });
});

it("says that the API key is refused, and signs in anew where only a kept one is", async () => {
  const bench = await openBench();
  bench.values = { ...bench.values, ARCHESTRA_API_KEY: "arch_wrong" };
  await expect(bench.run("apply")).rejects.toMatchObject({ code: "api_key_refused" });

  bench.values = { OPENAI_API_KEY: "sk-good" };
  await bench.run("apply");
  bench.platform.apiKeys.splice(0);
  await bench.run("apply");
  expect(bench.platform.apiKeys).toHaveLength(1);
});

it("says what the provider answered when the LLM key is refused, and makes nothing of it", async () => {
  const bench = await openBench();
  bench.values = { OPENAI_API_KEY: "sk-bad" };
  await expect(bench.run("apply")).rejects.toMatchObject({
    code: "llm_key_refused",
    message: expect.stringContaining("401 Unauthorized"),
    next: expect.stringContaining("LLM_API_KEY"),
  });
  expect(bench.platform.items).toEqual([]);
  bench.values = { OPENAI_API_KEY: "sk-good" };
  await bench.run("apply");
  bench.values = { OPENAI_API_KEY: "sk-bad-now" };
  await expect(bench.run("apply")).rejects.toMatchObject({ code: "llm_key_refused" });
});

it("lists the models that there are when the wanted one is not", async () => {
  const bench = await openBench();
  bench.values = { OPENAI_API_KEY: "sk-good", LLM_MODEL: "gpt-none" };
  await expect(bench.run("apply")).rejects.toMatchObject({
    code: "model_missing",
    next: "Set LLM_MODEL to one of: gpt-small, gpt-large.",
  });
});

it("says how to build an image that neither Docker nor the cluster has", async () => {
  const bench = await openBench();
  bench.cluster.unbuild("pg-mcp:latest");
  await expect(bench.run("apply")).rejects.toMatchObject({
    code: "image_missing",
    message: expect.stringContaining("pg-mcp:latest"),
    next: expect.stringContaining("docker compose build"),
  });
});

it("names the image when a cluster of one's own does not have it", async () => {
  const bench = await openBench();
  bench.values = { ...bench.values, ARCHESTRA_CLUSTER: "kubeconfig", ARCHESTRA_READY_SECONDS: "1" };
  await expect(bench.run("apply")).rejects.toMatchObject({
    code: "image_missing",
    message: expect.stringContaining("ErrImageNeverPull"),
    next: expect.stringContaining("ES_MCP_IMAGE"),
  });
});

it("says that a server does not list its tools, with the pod's reason", async () => {
  const bench = await openBench();
  await bench.run("apply");
  rmSync(`${bench.cluster.folder}/objects/persistentvolumeclaim-data-transformer-staging`);
  bench.wrapShell = (shell) => ({
    ...shell,
    // A claim that cannot be made: the cluster accepts it and it never comes.
    run: (command, options) => (command.includes("apply") ? Promise.resolve("") : shell.run(command, options)),
  });
  bench.platform.restart();
  await expect(bench.run("apply")).rejects.toMatchObject({
    code: "no_effect",
    message: expect.stringContaining("PersistentVolumeClaim"),
  });
});

it("says so when the platform discovers no tools", async () => {
  const bench = await openBench();
  bench.platform.hidesTools = true;
  await expect(bench.run("apply")).rejects.toMatchObject({
    code: "tools_not_discovered",
    next: expect.stringContaining("archestra:doctor"),
  });
});

it("reinstalls a silent server once and then fails with what is known of its pod", async () => {
  const bench = await openBench();
  await bench.run("apply");
  bench.platform.breaks.add("es_mcp");
  bench.values = { ...bench.values, ARCHESTRA_READY_SECONDS: "1" };
  const changes = await bench.changesOf(async () => {
    await expect(bench.run("apply")).rejects.toMatchObject({
      code: "tools_not_discovered",
      message: expect.stringContaining("CrashLoopBackOff"),
      next: expect.stringMatching(
        /docker exec -i archestra-mcp-control-plane kubectl .* logs -l mcp-server-name=esmcp/,
      ),
    });
  });
  expect(changes).toEqual(["POST /api/mcp_server/{id}/reinstall"]);
});

it("takes a server that hangs for one that does not answer, and not for a platform that is down", async () => {
  const bench = await openBench();
  await bench.run("apply");
  bench.platform.onRequest = (moment, name) => (moment === "after" && name.endsWith("/inspect") ? "hang" : undefined);
  bench.values = { ...bench.values, ARCHESTRA_READY_SECONDS: "1" };
  expect(await bench.run("status")).toMatch(
    /server es_mcp: not ready \(POST .*inspect was not answered within 1 s\.\)/,
  );
  await expect(bench.run("apply")).rejects.toMatchObject({ code: "tools_not_discovered" });
});

it("does not go on when the platform does not keep the YAML as it was sent", async () => {
  const bench = await openBench();
  bench.platform.losesYaml = true;
  await expect(bench.run("apply")).rejects.toMatchObject({ code: "yaml_not_kept" });
  expect(bench.platform.installations).toEqual([]);
});

it("says that a remote server cannot be reached", async () => {
  const bench = await openBench();
  bench.values = { ...bench.values, ES_MCP_REMOTE_URL: "https://unreachable/mcp", ES_MCP_REMOTE_TOKEN: "one" };
  await expect(bench.run("apply")).rejects.toMatchObject({
    code: "tools_not_discovered",
    message: expect.stringContaining("Failed to fetch tools"),
  });
});

it("says what the node is called and where it comes from when it does not run", async () => {
  const bench = await openBench();
  bench.cluster.stopNode();
  await expect(bench.run("apply")).rejects.toMatchObject({
    code: "cluster_unreachable",
    message: expect.stringContaining("archestra-mcp-control-plane"),
  });
});

it("says that Docker does not run", async () => {
  const bench = await openBench();
  bench.cluster.stopDocker();
  await expect(bench.run("apply")).rejects.toMatchObject({
    code: "docker_unreachable",
    message: expect.stringContaining("Cannot connect to the Docker daemon"),
    next: expect.stringContaining("Start Docker"),
  });
});

it("says which network the node cannot join", async () => {
  const bench = await openBench();
  bench.values = { ...bench.values, ARCHESTRA_DATABASE_NETWORK: "none-such" };
  await expect(bench.run("apply")).rejects.toMatchObject({
    code: "network_missing",
    message: expect.stringContaining("none-such"),
  });
});

it("says which schedule is refused", async () => {
  const bench = await openBench();
  bench.values = { ...bench.values, ARCHESTRA_SCHEDULE_CRON: "sometimes" };
  await expect(bench.run("apply")).rejects.toMatchObject({ code: "schedule_refused" });
});

it("touches nothing of the same name that it did not make", async () => {
  const bench = await openBench();
  bench.platform.items.push({
    id: "3b1f8a52-2c55-4d36-9d3f-6c9f4e1a0002",
    name: "es_mcp",
    description: null,
    icon: null,
    labels: [],
    serverType: "local",
    serverUrl: null,
    deploymentSpecYaml: null,
    localConfig: null,
    userConfig: null,
  });
  const changes = await bench.changesOf(async () => {
    await expect(bench.run("apply")).rejects.toMatchObject({
      code: "name_taken",
      next: expect.stringContaining("app=data-transformer"),
    });
  });
  expect(changes).toEqual([]);
});

it("lets a person decide between two of its own", async () => {
  const bench = await openBench();
  await bench.run("apply");
  const [agent] = bench.platform.agents;
  if (agent === undefined) throw new Error("no agent");
  bench.platform.agents.push({ ...agent, id: "3b1f8a52-2c55-4d36-9d3f-6c9f4e1a0003" });
  await expect(bench.run("apply")).rejects.toMatchObject({ code: "made_twice" });
});

it("lists all problems of the settings at once", async () => {
  const bench = await openBench();
  bench.values = {
    POD_MCP_HTTP_HOST: "127.0.0.1",
    POD_ELASTICSERCH_URL: "x",
    POD_ELASTICSEARCH_PASSWORD: "${a}",
    OPENAI_API_KEY: "k",
  };
  await expect(bench.run("plan")).rejects.toMatchObject({
    problems: [
      "POD_MCP_HTTP_HOST: is fixed by the deployment",
      "POD_ELASTICSERCH_URL: neither server has a setting ELASTICSERCH_URL",
      expect.stringContaining("POD_ELASTICSEARCH_PASSWORD: must not hold"),
    ],
  });
});
