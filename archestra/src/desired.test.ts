import { mkdtempSync, readFileSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { describe, expect, it } from "vitest";
import { agentPrompt, type Desired, desiredState, type ServerName } from "./desired.ts";
import { bundleSettings, type Environment, readBundleSettings, repository, withEnvFile } from "./settings.ts";

function stateOf(environment: Environment = {}): Desired {
  return desiredState(readBundleSettings(environment), environment);
}

function local(name: ServerName, environment: Record<string, string> = {}) {
  const server = stateOf(environment).servers.find((one) => one.name === name);
  if (server?.kind !== "local") throw new Error(`${name} is not local`);
  return server;
}

function warningsOf(environment: Environment) {
  return stateOf({ OPENAI_API_KEY: "k", ...environment }).warnings;
}

function refusing(environment: Record<string, string>) {
  return () => stateOf(environment);
}

describe("the servers' settings", () => {
  it("lead to the databases of docker-compose.yml where nothing is said", () => {
    expect(local("es_mcp").yaml).toContain('value: "http://elasticsearch:9200"');
    expect(local("pg_mcp").yaml).toContain('name: "POSTGRES_DB"\n              value: "transformation_db"');
    expect(local("es_mcp").secrets).toEqual({});
    expect(Object.keys(local("pg_mcp").secrets)).toEqual(["POSTGRES_PASSWORD"]);
  });

  it("take user and password of docker-compose's .env", () => {
    const environment = { POSTGRES_USER: "etl", POSTGRES_PASSWORD: "one", POSTGRES_DB: "shop" };
    expect(local("pg_mcp", environment).secrets).toEqual({ POSTGRES_PASSWORD: "one" });
    expect(local("pg_mcp", environment).yaml).toContain('value: "etl"');
    expect(local("pg_mcp", { ...environment, POD_POSTGRES_PASSWORD: "two" }).secrets).toEqual({
      POSTGRES_PASSWORD: "two",
    });
  });

  it("keep secrets out of the YAML, from files too, and read certificates here", () => {
    const folder = mkdtempSync(join(tmpdir(), "desired-"));
    writeFileSync(join(folder, "url"), "postgres://etl:hidden@db.internal:6432/shop\n");
    writeFileSync(join(folder, "ca.crt"), "-----BEGIN CERTIFICATE-----\nabc\n-----END CERTIFICATE-----\n");
    const environment = { POD_DATABASE_URL_FILE: join(folder, "url"), POD_POSTGRES_CA_CERT: join(folder, "ca.crt") };
    const { secrets, yaml } = local("pg_mcp", environment);
    expect(secrets).toEqual({ DATABASE_URL: "postgres://etl:hidden@db.internal:6432/shop" });
    expect(yaml).not.toContain("hidden");
    expect(yaml).not.toContain("POSTGRES_HOST");
    expect(yaml).toContain('"-----BEGIN CERTIFICATE-----\\nabc\\n-----END CERTIFICATE-----\\n"');
    expect(
      stateOf(environment)
        .manifests.map(({ json }) => json)
        .join(),
    ).toContain('"port":6432');
  });

  it("keep an address with a password in it out of the YAML", () => {
    const POD_ELASTICSEARCH_URL = "http://es1.internal:9201,http://elastic:hidden@es2.internal:9202";
    const { secrets, yaml } = local("es_mcp", { POD_ELASTICSEARCH_URL });
    expect(secrets).toEqual({ ELASTICSEARCH_URL: POD_ELASTICSEARCH_URL });
    expect(yaml).not.toContain("ELASTICSEARCH_URL");
    const [, policy] = stateOf({ POD_ELASTICSEARCH_URL }).manifests;
    expect(policy?.json).toContain('"port":9201},{"protocol":"TCP","port":9202');
  });

  it("warn of a database that a pod would look for in itself", () => {
    expect(warningsOf({})).toEqual([]);
    expect(warningsOf({ POD_ELASTICSEARCH_URL: "https://es.internal,https://127.0.0.1:9200" })).toEqual([
      expect.stringContaining("es_mcp is to reach its database at 127.0.0.1"),
    ]);
    expect(warningsOf({ POD_DATABASE_URL: "postgres://etl@localhost/shop" })).toEqual([
      expect.stringContaining("pg_mcp is to reach its database at localhost"),
    ]);
    const remote = { PG_MCP_REMOTE_URL: "https://pg-mcp.internal/mcp", PG_MCP_REMOTE_TOKEN: "t" };
    expect(warningsOf({ ...remote, POD_POSTGRES_HOST: "localhost" })).toEqual([]);
  });

  it("say what does not fit together", () => {
    expect(refusing({ POD_ELASTICSEARCH_API_KEY: "a:b", POD_ELASTICSEARCH_BEARER: "c" })).toThrow(
      "set only one way to authenticate",
    );
    expect(refusing({ POD_POSTGRES_PORT: "x" })).toThrow("POD_POSTGRES_PORT: must be a whole number");
    expect(refusing({ POD_STAGING_URL: "file:///x" })).toThrow("POD_STAGING_URL: is fixed by the deployment");
    expect(refusing({ ES_MCP_REMOTE_URL: "https://es/mcp" })).toThrow("ES_MCP_REMOTE_TOKEN: is needed");
  });

  it("wait for nothing over stdio, and listen on nothing", () => {
    const { yaml, transport } = local("es_mcp", { ARCHESTRA_TRANSPORT: "stdio" });
    expect(transport).toBe("stdio");
    expect(yaml).toContain('name: "MCP_WAIT_SECONDS_DEFAULT"\n              value: "0"');
    expect(yaml).not.toContain("MCP_HTTP");
    expect(local("es_mcp").yaml).not.toContain("MCP_WAIT_SECONDS_DEFAULT");
  });
});

describe("the language model", () => {
  it.each([
    [{ OPENAI_API_KEY: "a" }, { provider: "openai", apiKey: "a" }],
    [{ ANTHROPIC_API_KEY: "b" }, { provider: "anthropic", apiKey: "b" }],
    [
      { GEMINI_API_KEY: "c", LLM_MODEL: "m" },
      { provider: "gemini", apiKey: "c", model: "m" },
    ],
    [
      { LLM_PROVIDER: "groq", LLM_API_KEY: "d" },
      { provider: "groq", apiKey: "d" },
    ],
    [
      { LLM_BASE_URL: "https://llm.internal/v1", LLM_API_KEY: "e" },
      { provider: "openai", apiKey: "e", baseUrl: "https://llm.internal/v1" },
    ],
    [{ LLM_PROVIDER: "ollama" }, { provider: "ollama", baseUrl: "http://host.docker.internal:11434/v1" }],
  ])("of %j is %j", (environment, expected) => {
    expect(stateOf(environment).llm).toEqual({ apiKey: undefined, baseUrl: undefined, model: undefined, ...expected });
  });

  it("has a key unless its provider needs none", () => {
    expect(() => stateOf({ LLM_PROVIDER: "anthropic" })).toThrow("LLM_API_KEY: is needed with the provider anthropic");
    expect(() => stateOf({ LLM_PROVIDER: "vllm" })).toThrow("LLM_BASE_URL: is needed");
    expect(() => stateOf({ LLM_PROVIDER: "closedai" })).toThrow("must be one of openai, anthropic");
  });

  it("warns of an address that means the platform's own container", () => {
    expect(stateOf({ LLM_PROVIDER: "ollama", LLM_BASE_URL: "http://localhost:11434/v1" }).warnings.join()).toContain(
      "host.docker.internal",
    );
    expect(stateOf().warnings.join()).toContain("no LLM key is set");
  });
});

it("takes the prompt as it is, and none that the platform would render", () => {
  expect(stateOf().agent.systemPrompt).toContain("# Data Transformer");
  const file = join(mkdtempSync(join(tmpdir(), "prompt-")), "prompt.md");
  writeFileSync(file, "Hello {{user.name}}");
  expect(() => agentPrompt(pathToFileURL(file))).toThrow("{{");
});

it("finds the platform where docker-compose.yml publishes it", () => {
  const { ARCHESTRA_URL, ARCHESTRA_UI_URL } = readBundleSettings({
    ARCHESTRA_API_HOST_PORT: "9001",
    ARCHESTRA_URL: "",
  });
  expect([ARCHESTRA_URL, ARCHESTRA_UI_URL]).toEqual(["http://localhost:9001", "http://localhost:3000"]);
  expect(readBundleSettings({ ARCHESTRA_URL: "https://archestra.internal/" }).ARCHESTRA_URL).toBe(
    "https://archestra.internal",
  );
});

it("reads .env beneath the environment", () => {
  const file = join(mkdtempSync(join(tmpdir(), "env-")), ".env");
  writeFileSync(file, 'A=from file\nB="quoted" # comment\nC=file\n');
  expect(withEnvFile({ C: "environment", A: "" }, file)).toEqual({ A: "from file", B: "quoted", C: "environment" });
});

it("reads .env.example as it is shipped, which changes nothing and offers settings that there are", () => {
  const file = new URL(".env.example", repository);
  expect(stateOf(withEnvFile({}, file))).toEqual(stateOf());
  const offered = [...readFileSync(file, "utf8").matchAll(/^# (\w+)=/gm)].map(([, name = ""]) => name);
  expect(offered).toEqual(expect.arrayContaining(["LLM_PROVIDER", "LLM_API_KEY", "LLM_MODEL"]));
  expect(offered.filter((name) => !(name in bundleSettings))).toEqual([]);
});
