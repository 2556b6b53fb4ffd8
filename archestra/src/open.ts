import { setTimeout as delay } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { calls } from "./api/calls.ts";
import { ApiError } from "./api/client.ts";
import { readOpening } from "./api/opening.ts";
import { BundleError } from "./bundle-error.ts";
import { openCluster } from "./cluster.ts";
import { desiredState } from "./desired.ts";
import type { Shell } from "./process.ts";
import { openSession, type Session } from "./session.ts";
import { type BundleSettings, type Environment, readBundleSettings, repository } from "./settings.ts";
import { StateFile } from "./state.ts";
import type { World } from "./world.ts";

/** What a command needs. `makeKey` is there where nobody has made this checkout's API key yet. */
export interface Opened {
  world: World;
  settings: BundleSettings;
  makeKey: Session["makeKey"];
}

/** Reads settings and state, signs in, and fails with what to do where something of that cannot be had. Changes nothing. */
export async function openWorld(options: {
  environment: Environment;
  /** How long a platform that is still starting may take. */
  waitSeconds: number;
  shell: Shell;
  signal: AbortSignal;
  say: (line: string) => void;
}): Promise<Opened> {
  const { environment, waitSeconds, shell, signal, say } = options;
  const settings = readBundleSettings(environment);
  const desired = desiredState(settings, environment);
  const stateFile = await StateFile.open(fileURLToPath(new URL(settings.ARCHESTRA_STATE_FILE, repository)));
  const hasLocal = desired.servers.some((server) => server.kind === "local");
  const cluster = hasLocal ? openCluster(settings, { shell, signal }) : undefined;
  const timing = { pollMs: settings.ARCHESTRA_POLL_MS, readyTimeoutMs: settings.ARCHESTRA_READY_SECONDS * 1000 };

  const open = async (): Promise<Session> => {
    const session = await openSession({ settings, stateFile, signal });
    // The quickstart is making its cluster for some minutes after its API is up.
    if (waitSeconds > 0 && hasLocal) await clusterIsUp(session);
    return session;
  };
  const clusterIsUp = async ({ api }: Session): Promise<void> => {
    const { features } = await api.call(calls.config);
    if (features.orchestratorK8sRuntime) return await cluster?.check();
    throw new BundleError("no_kubernetes", "The platform has not reached its Kubernetes yet.", {
      next: "See `docker compose logs archestra`; its container needs the Docker socket.",
    });
  };

  const session = await patiently(open, { waitSeconds, pollMs: timing.pollMs, signal, say });
  const opening = await readOpening(session.api);
  const world: World = { desired, api: session.api, cluster, stateFile, opening, timing, signal, say };
  return { world, settings, makeKey: session.makeKey };
}

const startingCodes = new Set(["api_unreachable", "no_kubernetes", "cluster_unreachable"]);

function isStarting(error: unknown): error is Error {
  return error instanceof ApiError
    ? error.status >= 500
    : error instanceof BundleError && startingCodes.has(error.code);
}

/** Tries until what is not up yet is up. */
async function patiently<Result>(
  work: () => Promise<Result>,
  options: { waitSeconds: number; pollMs: number; signal: AbortSignal; say: (line: string) => void },
): Promise<Result> {
  const { waitSeconds, pollMs, signal, say } = options;
  const until = performance.now() + waitSeconds * 1000;
  for (let told = ""; ; ) {
    try {
      return await work();
    } catch (error) {
      if (!isStarting(error) || performance.now() > until) throw error;
      if (error.message !== told) say(`waiting: ${error.message}`);
      told = error.message;
      await delay(pollMs, undefined, { signal });
    }
  }
}
