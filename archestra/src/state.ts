import { createHash, randomBytes } from "node:crypto";
import { chmod, mkdir, readFile, rename, rm, writeFile } from "node:fs/promises";
import { dirname } from "node:path";
import { z } from "zod";
import { BundleError } from "./bundle-error.ts";

/**
 * What the platform cannot tell again: values it shows once or never, and what was last done with them. Losing the file
 * costs one reinstallation with new tokens, and an API key that nobody uses any more.
 */
const stateSchema = z.object({
  version: z.literal(1),
  /** Marks this checkout's API key, so that a run that was cut off finds the key it made and replaces it. */
  installation: z.string(),
  apiKey: z.object({ id: z.string(), value: z.string(), baseUrl: z.string() }).optional(),
  /** Bearer token of each server, by the server's name. */
  httpTokens: z.record(z.string(), z.string()),
  /** By the server's name: the installation that was given these secrets, and the image its pod was started from. */
  servers: z.record(
    z.string(),
    z.object({ installationId: z.string(), secretsDigest: z.string(), imageId: z.string().optional() }),
  ),
  llmKey: z.object({ id: z.string(), digest: z.string() }).optional(),
  /** By the image's name: what was loaded into the cluster, and what the cluster called it. */
  images: z.record(z.string(), z.object({ hostId: z.string(), nodeDigest: z.string() })),
});

export type State = z.output<typeof stateSchema>;

/** The state and its file, which only its owner may read. */
export class StateFile {
  readonly path: string;
  #state: State;

  private constructor(path: string, state: State) {
    this.path = path;
    this.#state = state;
  }

  static async open(path: string): Promise<StateFile> {
    let text: string;
    try {
      text = await readFile(path, "utf8");
    } catch (error) {
      if (!isMissing(error)) throw error;
      return new StateFile(path, fresh());
    }
    // A copy or a backup may have widened it.
    await chmod(path, 0o600);
    const parsed = stateSchema.safeParse(tryJson(text));
    if (parsed.success) return new StateFile(path, parsed.data);
    throw new BundleError("state_unreadable", `The state file ${path} is not what this program writes.`, {
      next: "Move it away and run again: that makes a new API key and new tokens, and reinstalls both servers.",
    });
  }

  get state(): Readonly<State> {
    return this.#state;
  }

  /** Writes the changed state, whole or not at all. */
  async update(change: Partial<State>): Promise<void> {
    const next = { ...this.#state, ...change };
    const beside = `${this.path}.${randomBytes(4).toString("hex")}`;
    await mkdir(dirname(this.path), { recursive: true });
    await writeFile(beside, `${JSON.stringify(next, null, 2)}\n`, { mode: 0o600, flag: "wx" });
    await rename(beside, this.path);
    this.#state = next;
  }

  async remove(): Promise<void> {
    await rm(this.path, { force: true });
    this.#state = fresh();
  }

  /** A digest that tells whether secrets changed, and is of no use without this file. */
  digest(value: unknown): string {
    return createHash("sha256").update(this.#state.installation).update(JSON.stringify(value)).digest("hex");
  }
}

function fresh(): State {
  return { version: 1, installation: randomBytes(8).toString("hex"), httpTokens: {}, servers: {}, images: {} };
}

function isMissing(error: unknown): boolean {
  return error instanceof Error && "code" in error && error.code === "ENOENT";
}

function tryJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}
