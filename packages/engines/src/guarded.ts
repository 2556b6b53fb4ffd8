import { execFile, spawn } from "node:child_process";
import { rmSync } from "node:fs";
import { chmod, chown, mkdir, mkdtemp, readFile, stat } from "node:fs/promises";
import { Socket } from "node:net";
import { tmpdir } from "node:os";
import { dirname, extname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";

/** Who an engine runs as; empty for the user of this process. */
export interface Identity {
  uid?: number;
  gid?: number;
}

/** What `guard.ts` is told about the one engine that it runs. */
export interface Guarded {
  command: string;
  args: string[];
  cwd: string;
  env: Record<string, string>;
  identity: Identity;
  /** Removed once the engine has stopped. */
  folder: string;
  logFile: string;
  stopSignal: "SIGTERM" | "SIGINT";
  /** After this the engine is killed. */
  stopMsMax: number;
}

/** One running engine. */
export interface GuardedEngine {
  /** Whether it ended although nobody asked for it. */
  hasEnded(): boolean;
  /** The end of its log, for the message of a failed start. */
  logTail(): Promise<string>;
  /** Ends it by the signal and starts it again, with the same arguments and data. */
  restart(signal: "SIGINT" | "SIGQUIT" | "SIGKILL"): void;
  /** Stops it and removes its folder. */
  stop(): Promise<void>;
}

/** A temporary folder of one engine: `program` for a copy of its files, `state` for what the engine itself writes. */
export interface EngineFolder {
  path: string;
  program: string;
  state: string;
}

/** The user that engines run as: they refuse root, so root gives way to `nobody`, whom every system has. */
export async function engineIdentity(): Promise<Identity> {
  if (process.getuid?.() !== 0) return {};
  const run = promisify(execFile);
  const [uid, gid] = await Promise.all([run("id", ["-u", "nobody"]), run("id", ["-g", "nobody"])]);
  return { uid: Number(uid.stdout), gid: Number(gid.stdout) };
}

/** Makes a temporary folder that the engine's user can reach, whatever the rights of the clone or of `TMPDIR` are. */
export async function makeEngineFolder(name: string, identity: Identity): Promise<EngineFolder> {
  let base = tmpdir();
  if (identity.uid !== undefined && !(await isReachableByOthers(base))) base = "/tmp";
  const path = await mkdtemp(join(base, `es-to-pg-${name}-`));
  // Until a guard has it, the folder would outlive a process that is told to end.
  process.once("exit", () => rmSync(path, { recursive: true, force: true }));
  await chmod(path, 0o711);
  const folder = { path, program: join(path, "program"), state: join(path, "state") };
  await mkdir(folder.state, { mode: 0o700 });
  await giveTo(identity, folder.state);
  return folder;
}

/** Hands a file or folder to the engine's user. */
export async function giveTo({ uid, gid }: Identity, path: string): Promise<void> {
  if (uid !== undefined && gid !== undefined) await chown(path, uid, gid);
}

/** Whether a user without rights of its own can get to `path`, judged by the x bits on the way. */
export async function isReachableByOthers(path: string): Promise<boolean> {
  for (let at = path; ; at = dirname(at)) {
    const entry = await stat(at).catch(() => undefined);
    if (entry === undefined || (entry.mode & 0o001) === 0) return false;
    if (dirname(at) === at) return true;
  }
}

/** Starts an engine under a guard, a process that stops it even if this one is killed. */
export function startGuarded(guarded: Guarded): GuardedEngine {
  const program = fileURLToPath(new URL(`./guard${extname(import.meta.url)}`, import.meta.url));
  // Detached: a Ctrl-C at the terminal must reach the owner alone, or the engine would end before its clients do.
  const guard = spawn(process.execPath, [program, JSON.stringify(guarded)], {
    cwd: "/",
    detached: true,
    stdio: ["pipe", "pipe", "inherit"],
  });
  let ended = false;
  const guardExit = new Promise<void>((resolve) => {
    guard.once("exit", () => {
      ended = true;
      resolve();
    });
    guard.once("error", () => {
      ended = true;
      resolve();
    });
  });
  guard.stdout.once("data", () => {
    ended = true;
  });
  guard.stdin.on("error", () => {});
  // An engine must not keep its owner alive: once the owner ends, the guard does the rest.
  guard.unref();
  for (const stream of [guard.stdin, guard.stdout]) if (stream instanceof Socket) stream.unref();
  return {
    hasEnded: () => ended,
    async logTail() {
      const log = await readFile(guarded.logFile, "utf8").catch(() => "");
      return log.trimEnd().split("\n").slice(-15).join("\n");
    },
    restart(signal) {
      guard.stdin.write(`${signal}\n`);
    },
    async stop() {
      guard.stdin.end();
      guard.ref();
      await guardExit;
    },
  };
}

/** Polls until `isReady` says so; fails with the engine's log when it ended or took too long. */
export async function waitUntilReady(
  name: string,
  engine: GuardedEngine,
  isReady: () => Promise<boolean>,
  readyMsMax: number,
): Promise<void> {
  const deadline = Date.now() + readyMsMax;
  for (;;) {
    if (engine.hasEnded()) throw new Error(`${name} ended while starting:\n${await engine.logTail()}`);
    if (await isReady()) return;
    if (Date.now() > deadline)
      throw new Error(`${name} did not answer within ${readyMsMax / 1000} s:\n${await engine.logTail()}`);
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
}
