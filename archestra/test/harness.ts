import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, onTestFinished } from "vitest";
import { commands, type Options } from "../src/commands.ts";
import { openWorld } from "../src/open.ts";
import { openShell, type Shell } from "../src/process.ts";
import { FakeCluster } from "./cluster.ts";
import { Platform, type PlatformOptions } from "./platform.ts";

export type Values = Readonly<Record<string, string>>;

/** A platform, its cluster, and this program with a state file of its own. */
export class Bench {
  readonly cluster: FakeCluster;
  readonly platform: Platform;
  readonly folder = mkdtempSync(join(tmpdir(), "archestra-state-"));
  /** Settings of every run, on top of those that lead to the platform. */
  values: Values = { OPENAI_API_KEY: "sk-good" };
  /** Wraps the process boundary of the next runs. */
  wrapShell: (shell: Shell) => Shell = (shell) => shell;

  constructor(options: Omit<PlatformOptions, "cluster"> = {}) {
    this.cluster = new FakeCluster();
    this.platform = new Platform({ cluster: this.cluster, ...options });
  }

  get stateFile(): string {
    // In a folder that is not there yet.
    return join(this.folder, "state", "state.json");
  }

  get environment(): Values {
    return {
      ARCHESTRA_URL: this.platform.url,
      ARCHESTRA_STATE_FILE: this.stateFile,
      ARCHESTRA_POLL_MS: "1",
      ARCHESTRA_READY_SECONDS: "10",
      ...this.values,
    };
  }

  /** Runs a command in this process and returns what it printed. */
  async run(
    name: string,
    options: { words?: readonly string[]; signal?: AbortSignal } & Options = {},
  ): Promise<string> {
    const { words = [], signal = new AbortController().signal, ...rest } = options;
    const lines: string[] = [];
    const command = commands[name];
    if (command === undefined) throw new Error(`there is no command ${name}`);
    const opened = await openWorld({
      environment: this.environment,
      waitSeconds: 0,
      shell: this.wrapShell(openShell({ ...process.env, ...this.cluster.environment })),
      signal,
      say: (line) => lines.push(line),
    });
    await command(opened, rest, words);
    return lines.join("\n");
  }

  /** What was changed on the platform and in the cluster since, by whomever. */
  async changesOf(work: () => Promise<unknown>): Promise<string[]> {
    const [writes, commandsBefore] = [this.platform.writes().length, this.cluster.changes().length];
    await work();
    return [...this.platform.writes().slice(writes), ...this.cluster.changes().slice(commandsBefore)];
  }

  snapshot(): unknown {
    return { platform: this.platform.snapshot(), cluster: this.cluster.snapshot() };
  }

  async close(): Promise<void> {
    await this.platform.stop();
    this.cluster.remove();
    rmSync(this.folder, { recursive: true, force: true });
  }
}

/** A bench that is taken down after the test. */
export async function openBench(options: Omit<PlatformOptions, "cluster"> = {}): Promise<Bench> {
  const bench = new Bench(options);
  await bench.platform.start();
  onTestFinished(async () => {
    await bench.close();
    expect(bench.platform.faults).toEqual([]);
  });
  return bench;
}
