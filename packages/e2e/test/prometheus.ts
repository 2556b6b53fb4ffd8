import { type ChildProcess, execFile, spawn } from "node:child_process";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import { freePort } from "@es-to-pg/engines";
import { z } from "zod";

const missing = "install Debian's packages prometheus, prometheus-alertmanager and prometheus-postgres-exporter";

/** Runs a tool of Prometheus and answers what it printed; fails with all that it said. */
export async function runTool(program: string, args: readonly string[]): Promise<string> {
  try {
    const { stdout, stderr } = await promisify(execFile)(program, args);
    return stdout + stderr;
  } catch (error) {
    if (error instanceof Error && "code" in error && error.code === "ENOENT") {
      throw new Error(`${program} is not there: ${missing}`, { cause: error });
    }
    throw new Error(`${program} ${args.join(" ")} failed: ${saidBy(error)}`, { cause: error });
  }
}

/** What promtool finds in a text of metrics; fails where it cannot read it. */
export async function lintMetrics(text: string): Promise<string> {
  const running = promisify(execFile)("promtool", ["check", "metrics"]);
  running.child.stdin?.end(text);
  try {
    const { stdout, stderr } = await running;
    return stdout + stderr;
  } catch (error) {
    // 3: it could be read, and something is to be said about it.
    if (error instanceof Error && "code" in error && error.code === 3) return saidBy(error);
    throw new Error(`promtool check metrics failed: ${saidBy(error)}`, { cause: error });
  }
}

/** What a program printed that failed. */
function saidBy(error: unknown): string {
  const printed = z.object({ stdout: z.string(), stderr: z.string() }).safeParse(error).data;
  return printed === undefined ? "" : printed.stdout + printed.stderr;
}

/** A program in the background that answers HTTP. */
export class Daemon implements AsyncDisposable {
  readonly #child: ChildProcess;
  readonly #ended: Promise<void>;
  #log = "";

  private constructor(program: string, args: readonly string[], env: Record<string, string>) {
    this.#child = spawn(program, args, {
      env: { PATH: process.env["PATH"], ...env },
      stdio: ["ignore", "pipe", "pipe"],
    });
    for (const stream of [this.#child.stdout, this.#child.stderr]) {
      stream?.on("data", (chunk) => {
        this.#log += String(chunk);
      });
    }
    this.#ended = new Promise((resolve) => {
      this.#child.once("exit", () => resolve());
      this.#child.once("error", (error) => {
        this.#log += `${error.message}; ${missing}`;
        resolve();
      });
    });
  }

  /** Starts it and waits until `url` answers. */
  static async start(
    program: string,
    args: readonly string[],
    options: { url: string; env?: Record<string, string> },
  ): Promise<Daemon> {
    const daemon = new Daemon(program, args, options.env ?? {});
    const deadline = Date.now() + 60_000;
    while (!(await answers(options.url))) {
      if (Date.now() > deadline || daemon.#child.exitCode !== null || daemon.#child.pid === undefined) {
        await daemon[Symbol.asyncDispose]();
        throw new Error(`${program} did not come up: ${daemon.#log.slice(-4000)}`);
      }
      await new Promise((resolve) => setTimeout(resolve, 200));
    }
    return daemon;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#child.kill("SIGTERM");
    await this.#ended;
  }
}

async function answers(url: string): Promise<boolean> {
  try {
    const response = await fetch(url, { signal: AbortSignal.timeout(2_000) });
    await response.body?.cancel();
    return response.ok;
  } catch {
    return false;
  }
}

const resultSchema = z.object({
  data: z.object({
    result: z.array(z.object({ metric: z.record(z.string(), z.string()), value: z.tuple([z.number(), z.string()]) })),
  }),
});

/** A Prometheus of a test's own. */
export interface Prometheus extends AsyncDisposable {
  query(expression: string): Promise<{ labels: Record<string, string>; value: number }[]>;
}

/** Starts a real Prometheus with this configuration, given as YAML. */
export async function startPrometheus(config: string): Promise<Prometheus> {
  const folder = await mkdtemp(join(tmpdir(), "prometheus-"));
  const file = join(folder, "prometheus.yml");
  await writeFile(file, config);
  const url = `http://127.0.0.1:${await freePort()}`;
  const args = [
    `--config.file=${file}`,
    `--storage.tsdb.path=${join(folder, "data")}`,
    `--web.listen-address=${url.slice("http://".length)}`,
  ];
  const daemon = await Daemon.start("prometheus", args, { url: `${url}/-/ready` });
  return {
    async query(expression) {
      const response = await fetch(`${url}/api/v1/query?query=${encodeURIComponent(expression)}`);
      const text = await response.text();
      if (!response.ok) throw new Error(`Prometheus refused ${expression}: ${text}`);
      return resultSchema
        .parse(JSON.parse(text))
        .data.result.map(({ metric, value }) => ({ labels: metric, value: Number(value[1]) }));
    },
    async [Symbol.asyncDispose]() {
      await daemon[Symbol.asyncDispose]();
      await rm(folder, { recursive: true, force: true });
    },
  };
}
