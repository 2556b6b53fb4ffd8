import { readSettings } from "@es-to-pg/mcp-kit";
import { describe, expect, test } from "vitest";
import { esSettings, nodesOf, settingsProblems } from "./config.ts";

function read(env: Record<string, string>) {
  return readSettings(esSettings, env);
}

function problemsOf(env: Record<string, string>): string {
  try {
    return settingsProblems(read(env)).join("\n");
  } catch (error) {
    return error instanceof Error ? error.message : String(error);
  }
}

function cloudId(content: string): string {
  return `shop:${Buffer.from(content).toString("base64")}`;
}

test("without any setting it is Elasticsearch on this machine", () => {
  expect(nodesOf(read({})).map(String)).toEqual(["http://localhost:9200/"]);
});

test("takes several nodes, each with its path prefix", () => {
  const settings = read({ ELASTICSEARCH_URL: "https://a:9200/es, https://b:9200/es" });
  expect(nodesOf(settings).map(String)).toEqual(["https://a:9200/es", "https://b:9200/es"]);
});

describe("an API key", () => {
  const encoded = Buffer.from("id:key").toString("base64");
  test.each([[encoded], ["id:key"], [`ApiKey ${encoded}`], [` ${encoded}\n`]])("is understood as %j", (value) => {
    expect(read({ ELASTICSEARCH_API_KEY: value }).ELASTICSEARCH_API_KEY).toBe(encoded);
  });
});

test("takes a certificate as text, as text in one line, or by its path", () => {
  const pem = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----";
  expect(read({ ELASTICSEARCH_CA_CERT: pem }).ELASTICSEARCH_CA_CERT).toBe(pem);
  expect(read({ ELASTICSEARCH_CA_CERT: pem.replaceAll("\n", "\\n") }).ELASTICSEARCH_CA_CERT).toBe(pem);
  expect(problemsOf({ ELASTICSEARCH_CA_CERT: "/no/such/file.pem" })).toContain(
    "ELASTICSEARCH_CA_CERT: must be PEM text",
  );
});

test("a fingerprint may come with or without colons", () => {
  const colons = Array.from({ length: 32 }, () => "AB").join(":");
  const env = { ELASTICSEARCH_TLS_FINGERPRINT: "ab".repeat(32), ELASTICSEARCH_URL: "https://a" };
  expect(read(env).ELASTICSEARCH_TLS_FINGERPRINT).toBe(colons);
});

test.each([
  [{ ELASTICSEARCH_URL: "localhost:9200" }, "ELASTICSEARCH_URL: must be http://host:port"],
  [{ ELASTICSEARCH_URL: "https://a?key=hunter2" }, "ELASTICSEARCH_URL: must have neither ? nor #"],
  [{ ELASTICSEARCH_CLOUD_ID: "nonsense" }, "ELASTICSEARCH_CLOUD_ID: must be the deployment's Cloud ID"],
  [{ ELASTICSEARCH_API_KEY: "hunter2 hunter2" }, "ELASTICSEARCH_API_KEY: must be the encoded key"],
  [{ ELASTICSEARCH_PASSWORD: "hunter2" }, "ELASTICSEARCH_USERNAME: is needed"],
  [{ ELASTICSEARCH_USERNAME: "elastic" }, "ELASTICSEARCH_PASSWORD: is needed"],
  [
    { ELASTICSEARCH_API_KEY: "hunter2", ELASTICSEARCH_USERNAME: "elastic", ELASTICSEARCH_PASSWORD: "hunter2" },
    "ELASTICSEARCH_API_KEY, ELASTICSEARCH_USERNAME: set only one way",
  ],
  [
    { ELASTICSEARCH_CLOUD_ID: cloudId("host$es"), ELASTICSEARCH_URL: "https://a" },
    "set either it or ELASTICSEARCH_URL",
  ],
  [{ ELASTICSEARCH_TLS_FINGERPRINT: "ab".repeat(32), ELASTICSEARCH_URL: "http://a" }, "needs https://"],
  [{ ELASTICSEARCH_TLS_FINGERPRINT: "abc" }, "ELASTICSEARCH_TLS_FINGERPRINT: must be a SHA-256"],
])("%j is a problem, named without any secret", (env, problem) => {
  const problems = problemsOf(env);
  expect(problems).toContain(problem);
  expect(problems).not.toContain("hunter2");
});

describe("a Cloud ID", () => {
  test.each([
    ["eu-west-1.aws.found.io$4fa8821e75634032$bed1b9ad5b5b4b66", "https://4fa8821e75634032.eu-west-1.aws.found.io/"],
    ["cloud.internal:9243$es$kb", "https://es.cloud.internal:9243/"],
    ["cloud.internal:9243$es:9244$kb:9245", "https://es.cloud.internal:9244/"],
    ["cloud.internal:443$es", "https://es.cloud.internal/"],
  ])("%s is an address", (content, address) => {
    expect(nodesOf(read({ ELASTICSEARCH_CLOUD_ID: cloudId(content) })).map(String)).toEqual([address]);
  });

  test.each([["shop"], ["shop:***"], [cloudId("no-dollar")], [cloudId("host$")], [cloudId("host/path$es")]])(
    "%s is none",
    (value) => {
      expect(problemsOf({ ELASTICSEARCH_CLOUD_ID: value })).toContain("ELASTICSEARCH_CLOUD_ID: must be");
    },
  );
});

test("a fingerprint needs https, also where no address is given", () => {
  const ELASTICSEARCH_TLS_FINGERPRINT = "AB".repeat(32);
  expect(problemsOf({ ELASTICSEARCH_TLS_FINGERPRINT })).toContain("needs https://");
  expect(problemsOf({ ELASTICSEARCH_TLS_FINGERPRINT, ELASTICSEARCH_URL: "https://a" })).toBe("");
});
