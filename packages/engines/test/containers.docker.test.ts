import { type ChildProcess, execFile, spawn } from "node:child_process";
import { readFileSync } from "node:fs";
import { request } from "node:https";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { afterEach, describe, expect, it, vi } from "vitest";
import { startPostgresContainer, startSecuredContainer } from "../dist/docker.js";
import { describeSecurity } from "../dist/elasticsearch-secured.js";
import { acquireEngines } from "../dist/index.js";

const folder = fileURLToPath(new URL("..", import.meta.url));
let owner: ChildProcess | undefined;

afterEach(() => {
  vi.unstubAllEnvs();
  owner?.kill("SIGKILL");
});

/** A file of the certificates that the tests of es-mcp use too. */
function text(name: string): string {
  return readFileSync(new URL(`../../es-mcp/test/fixtures/tls/${name}`, import.meta.url), "utf8");
}

/** Ids of the containers that publish one of these ports. */
async function publishing(...urls: string[]): Promise<string[]> {
  const filters = urls.flatMap((url) => ["--filter", `publish=${new URL(url.replace("postgres:", "http:")).port}`]);
  const { stdout } = await promisify(execFile)("docker", ["ps", "--quiet", ...filters]);
  return stdout.split("\n").filter((id) => id !== "");
}

describe("engines from Docker", () => {
  it("answer, serve what the tests ask of them, and are gone once they are stopped", async () => {
    vi.stubEnv("ENGINES", "docker");
    vi.stubEnv("ELASTICSEARCH_URL", "");
    vi.stubEnv("DATABASE_URL", "");
    const engines = await acquireEngines();
    const { elasticsearchUrl, databaseUrl } = engines;
    try {
      const health = await fetch(`${elasticsearchUrl}/_cluster/health`);
      expect(await health.json()).toMatchObject({ timed_out: false });
      const document = { method: "PUT", headers: { "content-type": "application/json" }, body: '{"n":1}' };
      expect((await fetch(`${elasticsearchUrl}/containers/_doc/1?refresh=true`, document)).status).toBe(201);
      expect(await publishing(elasticsearchUrl)).toHaveLength(1);
      expect(await publishing(databaseUrl)).toHaveLength(1);
    } finally {
      await engines.stop();
    }
    expect(await publishing(elasticsearchUrl)).toEqual([]);
    expect(await publishing(databaseUrl)).toEqual([]);
  });

  it("speak TLS and know passwords where security is asked for", async () => {
    const password = "a-reader-of-this-test";
    const engine = await startSecuredContainer(
      describeSecurity({
        tls: { chain: text("server.crt") + text("ca.crt"), key: text("server.key"), authority: text("ca.crt") },
        roles: { reader: { cluster: ["monitor"] } },
        users: { reader: { password, roles: ["reader"] } },
        certificates: {},
      }),
    );
    try {
      const status = async (secret: string): Promise<number | undefined> =>
        await new Promise((resolve, reject) => {
          const options = { ca: text("ca.crt"), auth: `reader:${secret}`, agent: false };
          const asked = request(`${engine.url}/_cluster/health`, options, (response) => {
            response.resume();
            resolve(response.statusCode);
          });
          asked.on("error", reject);
          asked.end();
        });
      expect(await status(password)).toBe(200);
      expect(await status("another")).toBe(401);
    } finally {
      await engine.stop();
    }
    expect(await publishing(engine.url)).toEqual([]);
  });

  it("end with a process that is killed before it stops them", async () => {
    const program = `
      import { startPostgresContainer } from "./dist/docker.js";
      const { url } = await startPostgresContainer();
      process.stdout.write(url);
      setTimeout(() => {}, 600_000);`;
    owner = spawn(process.execPath, ["--input-type=module", "--eval", program], { cwd: folder });
    let stderr = "";
    owner.stderr?.on("data", (chunk) => {
      stderr += String(chunk);
    });
    const url = await new Promise<string>((resolve, reject) => {
      owner?.stdout?.once("data", (chunk) => resolve(String(chunk)));
      owner?.once("exit", () => reject(new Error(`the owner ended: ${stderr}`)));
    });
    expect(await publishing(url)).toHaveLength(1);
    owner.kill("SIGKILL");
    // testcontainers' reaper waits ten seconds for the owner to come back.
    await expect.poll(() => publishing(url), { timeout: 60_000, interval: 500 }).toEqual([]);
  });

  it("say which image is missing where it can neither be found nor pulled", async () => {
    vi.stubEnv("TESTCONTAINERS_HUB_IMAGE_NAME_PREFIX", "nowhere.invalid");
    await expect(startPostgresContainer()).rejects.toThrow(/nowhere\.invalid.* could not be pulled/);
  });
});
