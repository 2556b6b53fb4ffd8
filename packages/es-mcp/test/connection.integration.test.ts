import { spawnSync } from "node:child_process";
import { X509Certificate } from "node:crypto";
import { readFileSync } from "node:fs";
import { createServer } from "node:net";
import { fileURLToPath } from "node:url";
import { readSettings } from "@es-to-pg/mcp-kit";
import { afterAll, beforeAll, describe, expect, inject, test } from "vitest";
import { esSettings } from "../src/config.ts";
import { createElasticsearch } from "../src/elasticsearch/gateway.ts";
import { randomName, TestIndices } from "./export-harness.ts";
import { forbidden, openProxy, type Rule } from "./proxy.ts";
import { openSession } from "./session.ts";

const url: string = inject("elasticsearchUrl");
const indices = new TestIndices(url);
const prefix = randomName("connection");
const products = `${prefix}-products`;
const orders = `${prefix}-orders`;
const both = `${prefix}-both`;

/** Elasticsearch below a path. */
const prefixed: Rule = ({ path }) => (path.startsWith("/es/") ? undefined : { status: 404, body: "<html/>" });

/** A key without any right on the cluster. */
const indexOnly: Rule = ({ path }) =>
  /^\/(_cat|_cluster|_nodes|$)/.test(path) ? forbidden("cluster:monitor/main") : undefined;

/** A key with the right to read, and no other. */
const readOnly: Rule = ({ path }) =>
  /_search|_msearch|_count|_pit|_doc/.test(path) ? undefined : forbidden("indices:admin/get");

/** A key that may search but keep nothing open. */
const noSnapshot: Rule = ({ path }) =>
  path.includes("/_pit") ? forbidden("indices:data/read/open_point_in_time") : undefined;

beforeAll(async () => {
  await indices.create(products, { aliases: { [both]: {} } });
  await indices.bulk(products, ['{"a":1}', '{"a":2}']);
  await indices.create(orders, { aliases: { [both]: {} } });
  await indices.bulk(orders, ['{"a":1}']);
});

afterAll(() => indices.dispose());

describe("a server without a reachable Elasticsearch", () => {
  test("lists its tools, and says what is wrong, where and how to mend it", async () => {
    await using session = await openSession({ ELASTICSEARCH_URL: "http://127.0.0.1:1" });
    expect(await session.tools()).toContain("list_indices");
    const { isError, data } = await session.call("list_indices");
    expect(isError).toBe(true);
    expect(data.error).toMatchObject({
      code: "unreachable",
      retryable: true,
      host: "http://127.0.0.1:1",
      tls: "plain HTTP",
      next: expect.stringContaining("ELASTICSEARCH_URL"),
    });
  });

  test("gives up within 8 s on a host that takes connections and never answers", async () => {
    const silent = createServer(() => {});
    await new Promise<void>((resolve) => silent.listen(0, "127.0.0.1", resolve));
    const address = silent.address();
    const port = typeof address === "object" && address !== null ? address.port : 0;
    await using session = await openSession({ ELASTICSEARCH_URL: `http://127.0.0.1:${port}` });
    const startedAt = performance.now();
    const { data } = await session.call("list_indices");
    // The limit is 8 s of waiting; the rest is the start of the client on a machine that runs other tests too.
    expect(performance.now() - startedAt).toBeLessThan(15_000);
    expect(data.error).toMatchObject({ code: "timeout", host: `http://127.0.0.1:${port}` });
    silent.close();
  });

  test("says that the port speaks plain HTTP where TLS was asked for", async () => {
    await using session = await openSession({ ELASTICSEARCH_URL: url.replace("http:", "https:") });
    expect((await session.call("list_indices")).data.error).toMatchObject({
      code: "tls_mismatch",
      tls: "TLS, verified by the system's authorities",
    });
  });

  test("tells Elasticsearch from something else", async () => {
    await using proxy = await openProxy(url, () => ({ status: 404, body: "<html>nginx</html>" }));
    await using session = await openSession({ ELASTICSEARCH_URL: proxy.url });
    expect((await session.call("list_indices")).data.error.code).toBe("not_elasticsearch");
  });

  test("recovers once Elasticsearch is there", async () => {
    let isDown = true;
    await using proxy = await openProxy(url, () => (isDown ? { status: 503, body: "starting" } : undefined));
    await using session = await openSession({ ELASTICSEARCH_URL: proxy.url });
    expect((await session.call("count_documents", { index: products })).isError).toBe(true);
    isDown = false;
    expect((await session.call("count_documents", { index: products })).data.count).toBe(2);
  });

  test("asks the next node where one is down", async () => {
    await using session = await openSession({ ELASTICSEARCH_URL: `http://127.0.0.1:1,${url}` });
    expect((await session.call("count_documents", { index: products })).data.count).toBe(2);
  });

  test("keeps the path prefix of its address", async () => {
    await using proxy = await openProxy(url, prefixed);
    await using session = await openSession({ ELASTICSEARCH_URL: `${proxy.url}/es` });
    await session.call("count_documents", { index: products });
    expect(proxy.seen.filter((request) => !/ \/es\//.test(request))).toEqual([]);
  });
});

function file(name: string): string {
  return fileURLToPath(new URL(`fixtures/tls/${name}`, import.meta.url));
}

/** What counting answers to a server with these settings. */
async function call(address: string, env: Record<string, string>) {
  await using session = await openSession({ ELASTICSEARCH_URL: address, ...env });
  return (await session.call("count_documents", { index: products })).data;
}

describe("TLS", () => {
  const authority = file("ca.crt");
  const fingerprint = new X509Certificate(readFileSync(authority)).fingerprint256;
  const server = {
    cert: readFileSync(file("server.crt"), "utf8") + readFileSync(authority, "utf8"),
    key: readFileSync(file("server.key")),
  };

  test("an unknown authority is not trusted, and the answer says how to trust it", async () => {
    await using proxy = await openProxy(url, () => undefined, { tls: server });
    expect((await call(proxy.url, {})).error).toMatchObject({
      code: "tls_untrusted",
      tls: "TLS, verified by the system's authorities",
      next: expect.stringContaining("ELASTICSEARCH_CA_CERT"),
    });
  });

  test.each([
    ["its certificate's path", { ELASTICSEARCH_CA_CERT: authority }],
    ["its certificate's text", { ELASTICSEARCH_CA_CERT: readFileSync(authority, "utf8") }],
    ["its fingerprint", { ELASTICSEARCH_TLS_FINGERPRINT: fingerprint }],
    ["no verification at all", { ELASTICSEARCH_TLS_INSECURE: "true" }],
  ])("an authority is trusted by %s", async (_way, env) => {
    await using proxy = await openProxy(url, () => undefined, { tls: server });
    expect(await call(proxy.url, env)).toEqual({ count: 2, indices: 1 });
  });

  test("another fingerprint is not trusted", async () => {
    await using proxy = await openProxy(url, () => undefined, { tls: server });
    const { error } = await call(proxy.url, { ELASTICSEARCH_TLS_FINGERPRINT: "AB".repeat(32) });
    expect(error).toMatchObject({
      code: "tls_untrusted",
      next: expect.stringContaining("ELASTICSEARCH_TLS_FINGERPRINT"),
    });
  });

  test("a client certificate is shown where one is asked for", async () => {
    const mutual = { ...server, ca: readFileSync(authority), requestCert: true, rejectUnauthorized: true };
    await using proxy = await openProxy(url, () => undefined, { tls: mutual });
    const trusted = { ELASTICSEARCH_CA_CERT: authority };
    const pair = { ELASTICSEARCH_CLIENT_CERT: file("client.crt"), ELASTICSEARCH_CLIENT_KEY: file("client.key") };
    expect(await call(proxy.url, { ...trusted, ...pair })).toEqual({ count: 2, indices: 1 });
    expect((await call(proxy.url, trusted)).error).toMatchObject({
      code: "unreachable",
      next: expect.stringContaining("ELASTICSEARCH_CLIENT_CERT"),
    });
  });
});

describe("credentials", () => {
  const secret = "hunter2-secret";
  const key = Buffer.from(`id:${secret}`).toString("base64");
  test.each([
    ["an API key", { ELASTICSEARCH_API_KEY: `id:${secret}` }, `ApiKey ${key}`],
    ["an encoded API key", { ELASTICSEARCH_API_KEY: key }, `ApiKey ${key}`],
    ["a bearer token", { ELASTICSEARCH_BEARER: secret }, `Bearer ${secret}`],
    [
      "a user and a password",
      { ELASTICSEARCH_USERNAME: "elastic", ELASTICSEARCH_PASSWORD: secret },
      `Basic ${Buffer.from(`elastic:${secret}`).toString("base64")}`,
    ],
  ])("%s arrives as its header", async (_kind, env, header) => {
    const challenge: Rule = ({ headers }) =>
      headers.authorization === header
        ? undefined
        : { status: 401, body: { error: { type: "security_exception", reason: `no ${secret}` }, status: 401 } };
    await using proxy = await openProxy(url, challenge);
    await using session = await openSession({ ELASTICSEARCH_URL: proxy.url, ...env, LOG_LEVEL: "debug" });
    expect((await session.call("count_documents", { index: products })).data.count).toBe(2);
    expect(session.stderr()).not.toContain(secret);
  });

  test("a wrong password is said without repeating it", async () => {
    await using proxy = await openProxy(url, () => ({
      status: 401,
      body: { error: { type: "security_exception", reason: `unable to authenticate with ${secret}` }, status: 401 },
    }));
    await using session = await openSession({
      ELASTICSEARCH_URL: proxy.url.replace("http://", `http://elastic:${secret}@`),
      LOG_LEVEL: "debug",
    });
    const { data } = await session.call("list_indices");
    expect(data.error).toMatchObject({ code: "unauthorized", next: expect.stringContaining("ELASTICSEARCH_API_KEY") });
    expect(JSON.stringify(data) + session.stderr()).not.toContain(secret);
  });
});

describe("a key that may do little", () => {
  test("never asks for the root, and needs no right on the cluster", async () => {
    await using proxy = await openProxy(url, indexOnly);
    await using session = await openSession({ ELASTICSEARCH_URL: proxy.url });
    const { data } = await session.call("list_indices", { pattern: products });
    expect(data.indices[0]).toMatchObject({ documents: 2, bytes: expect.any(Number), health: null });
    expect(data.not_permitted).toEqual(["health"]);
  });

  test("lists and reads with the right to read alone, and says what it cannot see", async () => {
    await using proxy = await openProxy(url, readOnly);
    await using session = await openSession({ ELASTICSEARCH_URL: proxy.url });
    const { data } = await session.call("list_indices", { pattern: `${prefix}*` });
    expect(data.indices.map(({ name, documents }: { name: string; documents: number }) => [name, documents])).toEqual([
      [orders, 1],
      [products, 2],
    ]);
    expect(data.not_permitted).toEqual(["bytes", "health"]);
    expect((await session.call("search_documents", { index: products })).data.total).toBe(2);
    expect((await session.call("get_mapping", { index: products })).data.error).toMatchObject({
      code: "forbidden",
      next: expect.stringContaining("view_index_metadata"),
    });
  });

  test("searches without a snapshot where none may be opened, and offers no cursor", async () => {
    await using proxy = await openProxy(url, noSnapshot);
    await using session = await openSession({ ELASTICSEARCH_URL: proxy.url });
    const { data } = await session.call("search_documents", { index: products, size: 1 });
    expect(data).toMatchObject({ total: 2, returned: 1, hint: expect.stringContaining("no cursor") });
    expect(data).not.toHaveProperty("next_cursor");
  });
});

describe("the cluster's uuid", () => {
  test("is Elasticsearch's own, or made of the address where the key may not see it", async () => {
    const { signal } = new AbortController();
    await using proxy = await openProxy(url, indexOnly);
    const own = createElasticsearch(readSettings(esSettings, { ELASTICSEARCH_URL: url }));
    const limited = createElasticsearch(readSettings(esSettings, { ELASTICSEARCH_URL: proxy.url }));
    expect(await own.clusterUuid({ signal })).toMatch(/^[\w-]{22}$/);
    expect(await limited.clusterUuid({ signal })).toMatch(/^address-[0-9a-f]{22}$/);
    expect(await limited.clusterUuid({ signal })).toBe(await limited.clusterUuid({ signal }));
    await Promise.all([own.close(), limited.close()]);
  });
});

describe("a call that is given up", () => {
  test("ends at once, with the reason of its signal", async () => {
    await using proxy = await openProxy(url, ({ path }) => (path.includes("_count") ? "hang" : undefined));
    const elasticsearch = createElasticsearch(readSettings(esSettings, { ELASTICSEARCH_URL: proxy.url }));
    const controller = new AbortController();
    const reason = new Error("the caller went away");
    const counting = elasticsearch.json({ method: "POST", path: [products, "_count"] }, { signal: controller.signal });
    setTimeout(() => controller.abort(reason), 300);
    const startedAt = performance.now();
    await expect(counting).rejects.toBe(reason);
    expect(performance.now() - startedAt).toBeLessThan(3_000);
    await elasticsearch.close();
  });

  test("a request beyond its time is an error that can be retried", async () => {
    await using proxy = await openProxy(url, ({ path }) => (path.includes("_search") ? "hang" : undefined));
    await using session = await openSession({ ELASTICSEARCH_URL: proxy.url, ES_MCP_REQUEST_TIMEOUT_SECONDS: "1" });
    const { data } = await session.call("count_documents", { index: products });
    expect(data.error).toMatchObject({ code: "timeout", retryable: true });
  });
});

describe("allow and deny lists", () => {
  test("hold behind an alias and a pattern, and refuse a name", async () => {
    await using session = await openSession({ ELASTICSEARCH_URL: url, ES_MCP_INDICES_DENY: "*-orders" });
    expect((await session.call("count_documents", { index: both })).data).toEqual({ count: 2, indices: 1 });
    expect((await session.call("search_documents", { index: both })).data.total).toBe(2);
    expect((await session.call("search_documents", { index: `${prefix}*` })).data.total).toBe(2);
    expect((await session.call("search_documents", { index: orders })).data.error.code).toBe("index_not_allowed");
    const listed = await session.call("list_indices", { pattern: `${prefix}*` });
    expect(listed.data.indices.map(({ name }: { name: string }) => name)).toEqual([products]);
  });
});

test("a denied index is not even asked while its name is looked up", async () => {
  await using proxy = await openProxy(url, () => undefined);
  await using session = await openSession({ ELASTICSEARCH_URL: proxy.url, ES_MCP_INDICES_DENY: "*-orders" });
  for (const tool of ["search_documents", "count_documents", "get_mapping", "profile_index", "bulk_export"]) {
    expect((await session.call(tool, { index: orders })).data.error.code).toBe("index_not_allowed");
  }
  const asked = proxy.seen.filter((line) => !/^HEAD \/|^GET \/_resolve\/index\/|^GET \/_cluster\//.test(line));
  expect(asked).toEqual([]);
});

describe("configuration", () => {
  test("a start with problems ends with all of them and no secret", async () => {
    const result = spawnSync(process.execPath, [fileURLToPath(new URL("../dist/main.js", import.meta.url))], {
      env: {
        ELASTICSEARCH_URL: "localhost:9200",
        ELASTICSEARCH_TLS_FINGERPRINT: "hunter2",
        STAGING_TTL_HOURS: "never",
      },
      input: "",
      encoding: "utf8",
    });
    expect(result.status).toBe(2);
    expect(result.stdout).toBe("");
    for (const name of ["ELASTICSEARCH_URL", "ELASTICSEARCH_TLS_FINGERPRINT", "STAGING_TTL_HOURS"]) {
      expect(result.stderr).toContain(`${name}: must be`);
    }
    expect(result.stderr).not.toContain("hunter2");
  });

  test("unverified TLS is logged", async () => {
    await using session = await openSession({
      ELASTICSEARCH_URL: "https://127.0.0.1:1",
      ELASTICSEARCH_TLS_INSECURE: "true",
    });
    await session.tools();
    expect(session.stderr()).toContain('"event":"tls_not_verified"');
  });
});
