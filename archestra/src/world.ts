import type { ArchestraApi } from "./api/client.ts";
import type { Opening } from "./api/opening.ts";
import type { BundleError } from "./bundle-error.ts";
import type { Cluster } from "./cluster.ts";
import type { Desired } from "./desired.ts";
import type { StateFile } from "./state.ts";

/** Everything that a resource needs to read itself and to change itself. */
export interface World {
  desired: Desired;
  api: ArchestraApi;
  /** Undefined where no server runs in a cluster. */
  cluster: Cluster | undefined;
  stateFile: StateFile;
  /** How this platform's version wants new objects to be opened to the organization. */
  opening: Opening;
  timing: Timing;
  signal: AbortSignal;
  /** Tells whoever waits what happens, one line at a time. */
  say: (line: string) => void;
}

export interface Timing {
  pollMs: number;
  readyTimeoutMs: number;
}

/** The order in which things are made; what stands later needs what stands earlier. */
export const phases = [
  "access",
  "llm",
  "cluster",
  "catalog",
  "deployment",
  "install",
  "tools",
  "agent",
  "assignment",
  "policy",
  "gateway",
  "exposure",
  "schedule",
] as const;
export type Phase = (typeof phases)[number];

/** One difference between what is and what is to be, and how to end it. Doing it twice is doing it once. */
export interface Change {
  phase: Phase;
  /** What it is about, such as `server es_mcp`. */
  target: string;
  action:
    | "create"
    | "update"
    | "replace"
    | "install"
    | "reinstall"
    | "restart"
    | "load"
    | "join"
    | "wait"
    | "assign"
    | "delete";
  /** What differs. Never a secret. */
  why: readonly string[];
  run: () => Promise<void>;
  /** What it means where the same difference is still there after it was made. */
  stuck?: () => BundleError;
}

/** A change that is planned but cannot be made before another one; the next reading finds what it needs. */
export function notYet(): Promise<never> {
  return Promise.reject(dependencyMissing());
}

export function dependencyMissing(): Error {
  return new Error("a change was run before what it depends on");
}
