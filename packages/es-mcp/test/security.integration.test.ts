import { randomBytes, X509Certificate } from "node:crypto";
import { once } from "node:events";
import { readFileSync } from "node:fs";
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import type { IncomingMessage } from "node:http";
import { request } from "node:https";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";
import { startSecuredElasticsearch } from "@es-to-pg/engines";
import { afterAll, afterEach, beforeAll, describe, expect, test } from "vitest";
import { openProxy, type Proxy } from "./proxy.ts";
import { type Answer, openSession } from "./session.ts";

/** A file of `fixtures/tls`, by its path. */
const at = (name: string): string => fileURLToPath(new URL(`fixtures/tls/${name}`, import.meta.url));
const text = (name: string): string => readFileSync(at(name), "utf8");
const fingerprintOf = (name: string): string => new X509Certificate(text(name)).fingerprint256;

const secret = (): string => `hunter2-${randomBytes(8).toString("hex")}`;
const passwords = { admin: secret(), reader: secret(), follower: secret(), blind: secret(), partial: secret() };
/** What no answer and no log may ever hold. */
const secrets = Object.entries(passwords).flatMap(([user, password]) => [
  password,
  Buffer.from(`${user}:${password}`).toString("base64"),
]);

const exactly = "9007199254740993";
const products = "shop-products";

let engine: { url: string; stop(): Promise<void> };
let folder: string;
/** Everything that servers have answered and logged. */
let said: string[] = [];

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "es-security-"));
  engine = await startSecuredElasticsearch({
    tls: { chain: text("server.crt") + text("ca.crt"), key: text("server.key"), authority: text("ca.crt") },
    roles: {
      reader: { indices: [{ names: [products], privileges: ["read", "view_index_metadata"] }] },
      follower: {
        indices: [{ names: ["shop-orders"], privileges: ["read", "view_index_metadata", "monitor", "maintenance"] }],
      },
      blind: { indices: [{ names: [products], privileges: ["read"] }] },
      partial: {
        indices: [
          {
            names: [products],
            privileges: ["read", "view_index_metadata"],
            query: { term: { n: 1 } },
            field_security: { grant: ["n", "big"] },
          },
        ],
      },
    },
    users: {
      admin: { password: passwords.admin, roles: ["superuser"] },
      reader: { password: passwords.reader, roles: ["reader"] },
      follower: { password: passwords.follower, roles: ["follower"] },
      blind: { password: passwords.blind, roles: ["blind"] },
      partial: { password: passwords.partial, roles: ["partial"] },
    },
    certificates: { "CN=es-mcp test client": { roles: ["reader"] } },
  });
  await admin("PUT", `/${products}`, { settings: { number_of_shards: 2, number_of_replicas: 0 } });
  for (const n of [1, 2, 3]) {
    await admin("PUT", `/${products}/_doc/${n}?refresh=true`, `{"n":${n},"big":${exactly},"name":"product ${n}"}`);
  }
  await admin("PUT", "/payroll", { settings: { number_of_replicas: 0 } });
}, 240_000);

afterAll(async () => {
  await engine.stop();
  await rm(folder, { recursive: true, force: true });
});

afterEach(() => {
  const everything = said.join("\n");
  said = [];
  if (secrets.some((each) => everything.includes(each))) throw new Error("a secret stands in an answer or in the log");
});

/** A request of the test's own, as a user that may do everything. */
async function admin(method: string, path: string, body: unknown): Promise<Record<string, unknown>> {
  const sending = request(new URL(path, engine.url), {
    method,
    ca: text("ca.crt"),
    auth: `admin:${passwords.admin}`,
    headers: { "content-type": "application/json" },
  });
  sending.end(typeof body === "string" ? body : JSON.stringify(body));
  const [response]: IncomingMessage[] = await once(sending, "response");
  const answer = Buffer.concat((await response?.toArray()) ?? []).toString("utf8");
  if ((response?.statusCode ?? 500) < 300) return JSON.parse(answer);
  throw new Error(`${method} ${path}: ${response?.statusCode} ${answer.slice(0, 500)}`);
}

/** A file that holds this text. */
async function file(content: string): Promise<string> {
  const path = join(folder, randomBytes(6).toString("hex"));
  await writeFile(path, content);
  return path;
}

const trusted = { ELASTICSEARCH_CA_CERT: at("ca.crt") };
const as = (user: keyof typeof passwords): Record<string, string> => ({
  ELASTICSEARCH_USERNAME: user,
  ELASTICSEARCH_PASSWORD: passwords[user],
});

/** A server with these settings, whose every word is kept. */
async function open(env: Record<string, string>) {
  const session = await openSession({
    ELASTICSEARCH_URL: engine.url,
    STAGING_URL: pathToFileURL(join(folder, "staging")).href,
    LOG_LEVEL: "debug",
    ...env,
  });
  return {
    stderr: () => session.stderr(),
    async call(tool: string, given: Record<string, unknown> = {}): Promise<Answer> {
      const answer = await session.call(tool, given);
      said.push(JSON.stringify(answer.data));
      return answer;
    },
    async [Symbol.asyncDispose]() {
      said.push(session.stderr());
      await session[Symbol.asyncDispose]();
    },
  };
}

/** What counting answers to a server with these settings. */
async function count(env: Record<string, string>): Promise<Answer["data"]> {
  await using session = await open(env);
  return (await session.call("count_documents", { index: products })).data;
}

const counted = { count: 3, indices: 1 };

describe("a user and a password", () => {
  test("are taken from the environment, from a file, or from the address", async () => {
    const passwordFile = await file(`${passwords.reader}\n`);
    const inAddress = engine.url.replace("https://", `https://reader:${passwords.reader}@`);
    expect(await count({ ...trusted, ...as("reader") })).toEqual(counted);
    expect(
      await count({ ...trusted, ELASTICSEARCH_USERNAME: "reader", ELASTICSEARCH_PASSWORD_FILE: passwordFile }),
    ).toEqual(counted);
    expect(await count({ ...trusted, ELASTICSEARCH_URL: inAddress })).toEqual(counted);
  });

  test("that are wrong are said to be so by every tool, soon, and without repeating them", async () => {
    await using session = await open({ ...trusted, ...as("reader"), ELASTICSEARCH_USERNAME: "admin" });
    const calls: [tool: string, given: Record<string, unknown>][] = [
      ["list_indices", {}],
      ["get_mapping", { index: products }],
      ["search_documents", { index: products }],
      ["count_documents", { index: products }],
      ["get_document", { index: products, id: "1" }],
      ["profile_index", { index: products }],
      ["bulk_export", { index: products }],
    ];
    for (const [tool, given] of calls) {
      const startedAt = performance.now();
      const { isError, data } = await session.call(tool, given);
      expect([tool, isError, performance.now() - startedAt < 10_000]).toEqual([tool, true, true]);
      expect(data.error).toEqual({
        code: "unauthorized",
        message: "Elasticsearch refuses the credentials of this server.",
        retryable: false,
        next: expect.stringContaining("ELASTICSEARCH_PASSWORD"),
        status: 401,
        host: engine.url,
      });
    }
  });

  test("are asked for where there are none", async () => {
    expect((await count(trusted)).error).toMatchObject({ code: "unauthorized" });
  });
});

describe("tokens", () => {
  test("a bearer token is taken from the environment or a file, and a made-up one is refused", async () => {
    const { access_token } = await admin("POST", "/_security/oauth2/token", {
      grant_type: "password",
      username: "reader",
      password: passwords.reader,
    });
    const token = String(access_token);
    secrets.push(token);
    expect(await count({ ...trusted, ELASTICSEARCH_BEARER: token })).toEqual(counted);
    expect(await count({ ...trusted, ELASTICSEARCH_BEARER_FILE: await file(`Bearer ${token}\n`) })).toEqual(counted);
    const madeUp = randomBytes(32).toString("base64");
    secrets.push(madeUp);
    expect((await count({ ...trusted, ELASTICSEARCH_BEARER: madeUp })).error).toMatchObject({ code: "unauthorized" });
  });

  test("an API key is taken where the engine can make one", async ({ skip }) => {
    const made = await admin("POST", "/_security/api_key", {
      name: "reader",
      role_descriptors: { reader: { indices: [{ names: [products], privileges: ["read", "view_index_metadata"] }] } },
    }).catch((error: Error) => error.message);
    if (typeof made === "string" && made.includes("pattern_capture")) skip("the reduced build has no analyzers for it");
    if (typeof made === "string") throw new Error(made);
    const [encoded, id, key] = ["encoded", "id", "api_key"].map((part) => String(made[part]));
    if (encoded === undefined || key === undefined) throw new Error("no key");
    secrets.push(encoded, key);
    expect(await count({ ...trusted, ELASTICSEARCH_API_KEY: encoded })).toEqual(counted);
    expect(await count({ ...trusted, ELASTICSEARCH_API_KEY: `${id}:${key}` })).toEqual(counted);
  });

  test("an API key from a file leaves as its header, and one that Elasticsearch does not know is refused", async () => {
    const key = secret();
    secrets.push(key);
    let header: string | undefined;
    await using proxy = await openProxy(
      engine.url,
      ({ headers }) => {
        header = headers.authorization;
        return undefined;
      },
      { ca: text("ca.crt") },
    );
    const env = { ELASTICSEARCH_URL: proxy.url, ELASTICSEARCH_API_KEY_FILE: await file(`id:${key}\n`) };
    expect((await count(env)).error).toMatchObject({ code: "unauthorized" });
    expect(header).toBe(`ApiKey ${Buffer.from(`id:${key}`).toString("base64")}`);
  });
});

describe("TLS", () => {
  test.each([
    ["the authority's certificate by its path", trusted],
    ["its text", { ELASTICSEARCH_CA_CERT: text("ca.crt") }],
    ["its text in one line", { ELASTICSEARCH_CA_CERT: text("ca.crt").replaceAll("\n", "\\n") }],
    ["its fingerprint", { ELASTICSEARCH_TLS_FINGERPRINT: fingerprintOf("ca.crt") }],
    ["its fingerprint without colons", { ELASTICSEARCH_TLS_FINGERPRINT: plain(fingerprintOf("ca.crt")) }],
    ["the fingerprint of the server's own certificate", { ELASTICSEARCH_TLS_FINGERPRINT: fingerprintOf("server.crt") }],
  ])("trusts by %s", async (_way, env) => {
    expect(await count({ ...env, ...as("reader") })).toEqual(counted);
  });

  test("does not trust an unknown authority, and says how to", async () => {
    expect((await count(as("reader"))).error).toMatchObject({
      code: "tls_untrusted",
      host: engine.url,
      tls: "TLS, verified by the system's authorities",
      next: "Set ELASTICSEARCH_CA_CERT to the authority's certificate, or ELASTICSEARCH_TLS_FINGERPRINT to its SHA-256.",
    });
  });

  test("does not trust another authority's certificate or fingerprint", async () => {
    const byCertificate = await count({ ELASTICSEARCH_CA_CERT: at("forged.crt"), ...as("reader") });
    expect(byCertificate.error).toMatchObject({
      code: "tls_untrusted",
      tls: "TLS, verified by ELASTICSEARCH_CA_CERT",
    });
    const byFingerprint = await count({
      ELASTICSEARCH_TLS_FINGERPRINT: fingerprintOf("client.crt"),
      ...as("reader"),
    });
    expect(byFingerprint.error).toMatchObject({
      code: "tls_untrusted",
      tls: "TLS, verified by ELASTICSEARCH_TLS_FINGERPRINT",
      next: expect.stringContaining("ELASTICSEARCH_TLS_FINGERPRINT"),
    });
  });

  test("sends nothing to a stranger who shows the authority's certificate beside a forged one", async () => {
    const tls = { cert: text("forged.crt") + text("ca.crt"), key: text("forged.key") };
    await using stranger = await openProxy(engine.url, () => ({ status: 200, body: { count: 1 } }), { tls });
    for (const env of [{ ELASTICSEARCH_TLS_FINGERPRINT: fingerprintOf("ca.crt") }, trusted]) {
      const { error } = await count({ ELASTICSEARCH_URL: stranger.url, ...env, ...as("reader") });
      expect(error).toMatchObject({ code: "tls_untrusted", next: expect.stringContaining("who answers") });
    }
    expect(stranger.seen).toEqual([]);
  });

  test("does not trust a certificate for another host, unless it is known by its fingerprint", async () => {
    // Loopback by a name that the certificate does not have.
    const elsewhere = { ELASTICSEARCH_URL: engine.url.replace("127.0.0.1", "0.0.0.0"), ...as("reader") };
    expect((await count({ ...elsewhere, ...trusted })).error).toMatchObject({
      code: "tls_untrusted",
      next: expect.stringContaining("host name"),
    });
    const pinned = { ...elsewhere, ELASTICSEARCH_TLS_FINGERPRINT: fingerprintOf("ca.crt") };
    expect(await count(pinned)).toEqual(counted);
  });

  test("takes any certificate where it is told to, and logs that it does", async () => {
    await using session = await open({ ELASTICSEARCH_TLS_INSECURE: "true", ...as("reader") });
    expect((await session.call("count_documents", { index: products })).data).toEqual(counted);
    expect(session.stderr()).toContain('"event":"tls_not_verified"');
    expect(session.stderr()).toContain('"level":"warn"');
  });

  test("says that the port wants https where it is addressed by http", async () => {
    const { error } = await count({ ELASTICSEARCH_URL: engine.url.replace("https:", "http:"), ...as("reader") });
    expect(error).toMatchObject({
      code: "unreachable",
      tls: "plain HTTP",
      next: expect.stringContaining("use https:// in ELASTICSEARCH_URL"),
    });
  });

  test("shows a client certificate, whose key may come from a file, and is known by it", async () => {
    const certificate = { ...trusted, ELASTICSEARCH_CLIENT_CERT: text("client.crt") };
    expect(await count({ ...certificate, ELASTICSEARCH_CLIENT_KEY: at("client.key") })).toEqual(counted);
    expect(await count({ ...certificate, ELASTICSEARCH_CLIENT_KEY_FILE: at("client.key") })).toEqual(counted);
    const pinned = { ELASTICSEARCH_TLS_FINGERPRINT: fingerprintOf("ca.crt"), ELASTICSEARCH_CA_CERT: "" };
    expect(await count({ ...certificate, ...pinned, ELASTICSEARCH_CLIENT_KEY: text("client.key") })).toEqual(counted);
  });
});

function plain(fingerprint: string): string {
  return fingerprint.replaceAll(":", "").toLowerCase();
}

describe("addresses", () => {
  test("a Cloud ID is decoded into the deployment's address", async () => {
    const { hostname, port } = new URL(engine.url);
    const [first, ...rest] = hostname.split(".");
    const cloudId = `shop:${Buffer.from(`${rest.join(".")}:${port}$${first}$kibana`).toString("base64")}`;
    expect(
      await count({ ELASTICSEARCH_URL: "", ELASTICSEARCH_CLOUD_ID: cloudId, ...trusted, ...as("reader") }),
    ).toEqual(counted);
  });

  test("a path prefix stands before every request", async () => {
    await using proxy = await openProxy(engine.url, () => undefined, { ca: text("ca.crt"), prefix: "/search/es" });
    expect(await count({ ELASTICSEARCH_URL: `${proxy.url}/search/es`, ...as("reader") })).toEqual(counted);
    expect(proxy.seen.every((each) => each.includes(" /search/es/"))).toBe(true);
    expect((await count({ ELASTICSEARCH_URL: proxy.url, ...as("reader") })).error).toMatchObject({
      code: "not_elasticsearch",
      next: expect.stringContaining("path prefix"),
    });
  });

  test("of several nodes one that is down is passed over, also where the authority is known by its fingerprint", async () => {
    const nodes = { ELASTICSEARCH_URL: `https://127.0.0.1:1,${engine.url}`, ...as("reader") };
    await using session = await open({ ...nodes, ELASTICSEARCH_TLS_FINGERPRINT: fingerprintOf("ca.crt") });
    for (const _ of ["first", "second", "third"]) {
      expect((await session.call("count_documents", { index: products })).data).toEqual(counted);
    }
    expect(await count({ ...nodes, ...trusted })).toEqual(counted);
  });
});

describe("a user that may only read one index and see its metadata", () => {
  let proxy: Proxy;
  beforeAll(async () => {
    proxy = await openProxy(engine.url, () => undefined, { ca: text("ca.crt") });
  });
  afterAll(() => proxy[Symbol.asyncDispose]());

  test("lists that index alone, with its documents, and is told what it may not know", async () => {
    await using session = await open({ ELASTICSEARCH_URL: proxy.url, ...as("reader") });
    const { data } = await session.call("list_indices");
    expect(data).toEqual({
      indices: [{ name: products, documents: 3, bytes: null, health: null }],
      returned: 1,
      total: 1,
      not_permitted: ["bytes", "health"],
    });
    const other = await session.call("search_documents", { index: "payroll" });
    expect(other.data.error).toMatchObject({ code: "forbidden", next: expect.stringContaining("read") });
  });

  test("reads mapping, documents, counts and a profile, exactly", async () => {
    await using session = await open({ ELASTICSEARCH_URL: proxy.url, ...as("reader") });
    const mapping = await session.call("get_mapping", { index: products });
    expect(mapping.data.fields.map(({ path }: { path: string }) => path)).toContain("big");
    const first = await session.call("search_documents", { index: products, size: 2, sort: "n" });
    expect(first.data).toMatchObject({ total: 3, returned: 2 });
    expect(first.data.hits[0]._source.big).toBe(exactly);
    const cursor: unknown = first.data.next_cursor;
    const second = await session.call("search_documents", { index: products, size: 2, sort: "n", cursor });
    expect(second.data).toMatchObject({ returned: 1 });
    const document = await session.call("get_document", { index: products, id: "2" });
    expect(JSON.stringify(document.data)).toContain(exactly);
    expect((await session.call("profile_index", { index: products })).data).toMatchObject({ documents: 3, total: 3 });
  });

  test("exports, and the export says what could not be known", async () => {
    await using session = await open({ ELASTICSEARCH_URL: proxy.url, ...as("reader") });
    const { data } = await session.call("bulk_export", { index: products, wait_seconds: 30 });
    expect(data).toMatchObject({ status: "completed", documents: 3, expected: 3 });
    const manifest = JSON.parse(await readFile(join(folder, "staging", data.export_id, "manifest.json"), "utf8"));
    expect(manifest.source.cluster_uuid).toMatch(/^address-[0-9a-f]{22}$/);
    expect(manifest.watermark).toEqual([]);
    expect(manifest.warnings).toContain(
      "The credentials may not read index statistics, so this export has no watermark and slices are a guess.",
    );
    const staged = await readFile(join(folder, "staging", data.export_id, "part-00000.ndjson"), "utf8");
    expect(staged.split(`"big":${exactly}`).length).toBe(4);
    const again = await session.call("bulk_export", { index: products, since: data.export_id, wait_seconds: 30 });
    expect(again.data.error).toMatchObject({ code: expect.stringContaining("since") });
  });

  test("is never asked to read the root of the cluster", () => {
    const paths = proxy.seen.map((each) => each.replace(/\?.*/, ""));
    expect(paths).not.toContain("GET /");
    expect(paths.length).toBeGreaterThan(20);
  });
});

describe("other rights", () => {
  test("with those to see statistics and to refresh, and none on the cluster, an export can be followed by another", async () => {
    await admin("PUT", "/shop-orders", { settings: { number_of_replicas: 0, refresh_interval: -1 } });
    await admin("PUT", "/shop-orders/_doc/1", { n: 1 });
    await using session = await open({ ...trusted, ...as("follower") });
    const first = await session.call("bulk_export", { index: "shop-orders", wait_seconds: 30 });
    expect(first.data).toMatchObject({ status: "completed", documents: 1 });
    await admin("PUT", "/shop-orders/_doc/2", { n: 2 });
    const since = first.data.export_id;
    const second = await session.call("bulk_export", { index: "shop-orders", since, wait_seconds: 30 });
    expect(second.data).toMatchObject({ status: "completed", documents: 1, expected: 1 });
    const { data } = await session.call("list_indices", { pattern: "shop-orders" });
    expect(data).toMatchObject({ indices: [{ bytes: expect.any(Number), health: null }], not_permitted: ["health"] });
  });

  test("without metadata an index is listed and searched, and an export names the right that it lacks", async () => {
    await using session = await open({ ...trusted, ...as("blind") });
    expect((await session.call("list_indices")).data.indices).toMatchObject([{ name: products, documents: 3 }]);
    expect((await session.call("search_documents", { index: products })).data.total).toBe(3);
    const without = await session.call("count_documents", { index: `*,-${products}*` });
    expect(without.data.error).toMatchObject({ code: "index_not_found" });
    for (const tool of ["get_mapping", "bulk_export"]) {
      expect((await session.call(tool, { index: products })).data.error).toMatchObject({
        code: "forbidden",
        next: expect.stringContaining("view_index_metadata"),
      });
    }
  });

  test("of documents and fields that a role hides nothing is counted, found or exported", async () => {
    await using session = await open({ ...trusted, ...as("partial") });
    expect((await session.call("count_documents", { index: products })).data.count).toBe(1);
    const { data } = await session.call("bulk_export", { index: products, wait_seconds: 30 });
    expect(data).toMatchObject({ status: "completed", documents: 1, expected: 1 });
    const staged = await readFile(join(folder, "staging", data.export_id, "part-00000.ndjson"), "utf8");
    expect(staged).toContain(`"_source":{"big":${exactly},"n":1}}`);
  });
});
