import { spawn } from "node:child_process";
import { pipeline } from "node:stream/promises";
import { BundleError } from "./bundle-error.ts";

/** A command that ended with another code than 0. */
export class CommandError extends Error {
  override readonly name = "CommandError";
  readonly stderr: string;

  constructor(command: readonly string[], code: number | null, stderr: string) {
    super(`\`${command.slice(0, 6).join(" ")}\` ended with ${code ?? "a signal"}: ${stderr.trim().slice(0, 1000)}`);
    this.stderr = stderr;
  }
}

/** The process boundary: everything that this program does outside the platform's API goes through here. */
export interface Shell {
  /** Runs a command to its end and returns what it printed, or throws a `CommandError`. */
  run(command: readonly string[], options: { signal: AbortSignal; input?: string }): Promise<string>;
  /** Runs `from | to`, and throws what either of them failed with. */
  pipe(from: readonly string[], to: readonly string[], signal: AbortSignal): Promise<void>;
}

/** The shell of this machine, with an environment of its own. */
export function openShell(environment: NodeJS.ProcessEnv): Shell {
  return {
    run: (command, options) => run(command, { ...options, environment }),
    pipe: (from, to, signal) => pipe(from, to, { signal, environment }),
  };
}

interface Surroundings {
  signal: AbortSignal;
  environment: NodeJS.ProcessEnv;
}

/** Most that a command may print, in bytes; what is asked here is a few lines, lists of pods some hundred kilobytes. */
const OUTPUT_BYTES_MAX = 16 * 1024 * 1024;

async function run(
  command: readonly string[],
  { signal, environment, input }: Surroundings & { input?: string },
): Promise<string> {
  const child = start(command, { signal, environment });
  child.stdin.on("error", () => {
    // It ended without reading; its code says why.
  });
  child.stdin.end(input ?? "");
  let [stdout, stderr] = ["", ""];
  child.stdout.setEncoding("utf8").on("data", (text: string) => {
    stdout += text;
    if (stdout.length > OUTPUT_BYTES_MAX) child.kill();
  });
  child.stderr.setEncoding("utf8").on("data", (text: string) => {
    stderr = (stderr + text).slice(-8192);
  });
  const code = await ended(child, signal);
  if (code !== 0) throw new CommandError(command, code, stderr);
  return stdout;
}

async function pipe(from: readonly string[], to: readonly string[], surroundings: Surroundings): Promise<void> {
  const { signal } = surroundings;
  const [source, target] = [start(from, surroundings), start(to, surroundings)];
  let stderr = "";
  for (const stream of [source.stderr, target.stderr]) {
    stream.setEncoding("utf8").on("data", (text: string) => {
      stderr = (stderr + text).slice(-8192);
    });
  }
  source.stdin.end();
  target.stdout.resume();
  // The one that failed first is the cause: the other then reads or writes a broken pipe.
  const failures: CommandError[] = [];
  const watch = async (child: typeof source, command: readonly string[]): Promise<void> => {
    const code = await ended(child, signal);
    if (code !== 0) failures.push(new CommandError(command, code, stderr));
  };
  await Promise.all([
    watch(source, from),
    watch(target, to),
    pipeline(source.stdout, target.stdin).catch(() => undefined),
  ]);
  const [first] = failures;
  if (first !== undefined) throw first;
}

function start([name = "", ...parameters]: readonly string[], { signal, environment }: Surroundings) {
  return spawn(name, parameters, { signal, env: environment, stdio: ["pipe", "pipe", "pipe"] });
}

async function ended(child: ReturnType<typeof start>, signal: AbortSignal): Promise<number | null> {
  const { promise, resolve, reject } = Promise.withResolvers<number | null>();
  child.once("error", reject);
  child.once("close", resolve);
  try {
    return await promise;
  } catch (error) {
    signal.throwIfAborted();
    if (!(error instanceof Error && "code" in error && error.code === "ENOENT")) throw error;
    throw new BundleError("command_missing", `The command ${child.spawnfile} is not installed here.`, {
      next:
        child.spawnfile === "docker"
          ? "Install Docker, or set ARCHESTRA_CLUSTER=kubeconfig for a cluster of your own."
          : `Install ${child.spawnfile}.`,
      cause: error,
    });
  }
}
