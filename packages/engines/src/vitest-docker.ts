import { execFile } from "node:child_process";
import { promisify } from "node:util";

/** Vitest's global set-up of the tests of Docker: says in one sentence what is missing where nothing can be tested. */
export default async function setup(): Promise<void> {
  const run = promisify(execFile);
  for (const [args, missing] of [
    [["info"], "No Docker engine answers"],
    [["compose", "version"], "Docker has no `docker compose`"],
  ] as const) {
    try {
      await run("docker", args);
    } catch (error) {
      const reason = error instanceof Error && "stderr" in error ? String(error.stderr).trim().split("\n").at(-1) : "";
      throw new Error(`${missing}, so nothing of it is tested. Start or install Docker and run this again. ${reason}`, {
        cause: error,
      });
    }
  }
}
