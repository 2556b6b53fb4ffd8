import { execFile, spawn } from "node:child_process";
import { randomBytes } from "node:crypto";
import { once } from "node:events";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { createSampleDatabase, requestElasticsearch } from "@es-to-pg/seed";
import { Client } from "pg";
import { afterAll, describe, expect, inject, it } from "vitest";

const program = fileURLToPath(new URL("../src/demo.ts", import.meta.url));
const name = `demo_${randomBytes(5).toString("hex")}`;
const env = { ...process.env, ELASTICSEARCH_URL: inject("elasticsearchUrl"), DATABASE_URL: inject("databaseUrl") };
const options = ["--index", name, "--table", name];

afterAll(async () => {
  await requestElasticsearch(env.ELASTICSEARCH_URL, { method: "DELETE", path: name }, [404]);
  const client = new Client({ connectionString: await createSampleDatabase(env.DATABASE_URL) });
  await client.connect();
  await client.query(`DROP TABLE IF EXISTS ${name}`);
  await client.end();
});

async function demo(...args: string[]): Promise<string> {
  const { stdout } = await promisify(execFile)("tsx", [program, ...options, ...args], { env, timeout: 120_000 });
  return stdout;
}

interface Process {
  pid: number;
  parent: number;
  command: string;
}

async function processes(): Promise<Process[]> {
  const { stdout } = await promisify(execFile)("ps", ["-eo", "pid=,ppid=,args="], { maxBuffer: 16 * 1024 * 1024 });
  return stdout.split("\n").flatMap((line) => {
    const [, pid, parent, command] = /^ *(\d+) +(\d+) (.*)$/.exec(line) ?? [];
    return command === undefined ? [] : [{ pid: Number(pid), parent: Number(parent), command }];
  });
}

/** Every process that a process started, directly or not. */
async function descendants(pid: number): Promise<Process[]> {
  const all = await processes();
  const found = all.filter(({ parent }) => parent === pid);
  for (const process of found) found.push(...all.filter(({ parent }) => parent === process.pid));
  return found;
}

describe("the demo", () => {
  it("moves the fifteen products, and changes no row when it is run again", async () => {
    const first = await demo();
    expect(first).toContain("expected 15 · staged 15 · inserted 15 · updated 0 · unchanged 0");
    expect(first).toContain("prod-001 | Wireless Noise-Cancelling Headphones | Sonara | 249.99 | 150");
    const second = await demo();
    expect(second).toContain("expected 15 · staged 15 · inserted 0 · updated 0 · unchanged 15");
  });

  it("shows what a dirty load rejects and that the rest arrived", async () => {
    const text = await demo("--documents", "1000", "--dirty");
    expect(text).toContain("deduplicated 1 · suppressed 0 · rejected 16");
    expect(text).toMatch(/P000000034 {2}price +not_a_number +"12,50"/);
    expect(text).toContain("983 matched, 0 missing, 0 different");
  });

  it("leaves nothing running when it is interrupted", async () => {
    const child = spawn("tsx", [program, ...options, "--documents", "20000"], {
      env,
      stdio: ["ignore", "pipe", "inherit"],
    });
    let below: Process[] = [];
    const isLoading = async (): Promise<boolean> => {
      below = await descendants(child.pid ?? 0);
      return below.some(({ command }) => command.includes("pg-mcp/dist/main.js"));
    };
    await expect.poll(isLoading, { timeout: 60_000, interval: 100 }).toBe(true);
    child.kill("SIGINT");
    await once(child, "exit");
    expect(child.exitCode).toBe(130);
    const left = async (): Promise<Process[]> => {
      const alive = new Set((await processes()).map(({ pid }) => pid));
      return below.filter(({ pid }) => alive.has(pid));
    };
    // A server that was about to be connected to ends by itself, at the end of its input.
    await expect.poll(left, { timeout: 4_000 }).toEqual([]);
  });

  it("leaves an index alone that it did not write", async () => {
    const foreign = `${name}_foreign`;
    await requestElasticsearch(env.ELASTICSEARCH_URL, { method: "PUT", path: foreign, body: "{}" });
    try {
      const failed: unknown = await promisify(execFile)("tsx", [program, "--index", foreign], { env }).catch(
        (error: unknown) => error,
      );
      expect(failed).toMatchObject({ code: 1, stderr: expect.stringContaining("was not written by this program") });
    } finally {
      await requestElasticsearch(env.ELASTICSEARCH_URL, { method: "DELETE", path: foreign });
    }
  });
});
