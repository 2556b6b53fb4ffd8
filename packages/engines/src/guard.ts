/**
 * A process of its own that runs one engine and outlives a crash of whoever asked for it. It holds the reading end of a
 * pipe; when the writing end closes, on purpose or because its owner died, it stops the engine and removes its folder.
 * Run as `node guard.js '<Guarded as JSON>'`.
 */
import { type ChildProcess, spawn } from "node:child_process";
import { openSync, rmSync } from "node:fs";
import type { Guarded } from "./guarded.ts";

// The only writer of this argument is startGuarded().
const guarded: Guarded = JSON.parse(process.argv[2] ?? "");
const log = openSync(guarded.logFile, "a");
let engine = run();
let running = true;
let asked = false;
let restarting = false;

function run(): ChildProcess {
  const started = spawn(guarded.command, guarded.args, {
    cwd: guarded.cwd,
    env: guarded.env,
    ...guarded.identity,
    // A group of its own, so that whatever the engine started can be ended with it.
    detached: true,
    stdio: ["ignore", log, log],
  });
  started.on("exit", ended);
  started.on("error", ended);
  return started;
}

function finish(): void {
  signalGroup("SIGKILL");
  rmSync(guarded.folder, { recursive: true, force: true, maxRetries: 5, retryDelay: 100 });
  process.exit(0);
}

function signalGroup(signal: NodeJS.Signals): void {
  try {
    if (engine.pid !== undefined) process.kill(-engine.pid, signal);
  } catch {
    // The group is gone, which is what was wanted.
  }
}

function ended(): void {
  if (restarting && !asked) {
    restarting = false;
    engine = run();
    return;
  }
  running = false;
  if (asked) finish();
  // The owner may want the log of an engine that ended by itself, so the folder stays until the owner lets go.
  process.stdout.write("ended\n");
}

function stop(): void {
  if (asked) return;
  asked = true;
  if (!running) finish();
  if (engine.pid !== undefined) {
    try {
      process.kill(engine.pid, guarded.stopSignal);
    } catch {
      // It ended between the two lines above.
    }
  }
  setTimeout(finish, guarded.stopMsMax);
}

process.stdin.on("end", stop).on("error", stop);
// One line: the signal that ends the engine before it is started again.
process.stdin.on("data", (line) => {
  restarting = true;
  const signal = String(line).trim();
  // As when the power fails: with all that the engine has started.
  if (signal === "SIGKILL") signalGroup(signal);
  else if (engine.pid !== undefined) process.kill(engine.pid, signal === "SIGQUIT" ? signal : "SIGINT");
});
for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const) process.on(signal, stop);
// The owner may be gone when the engine ends.
process.stdout.on("error", stop);
