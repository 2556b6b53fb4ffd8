import { spawnSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { z } from "zod";

// Asks the registry for known weaknesses of what the lock file names. It ends with 0 where there are none, with 1 where
// there are some, and with 2 where the registry could not be asked: nothing found is then nothing known.

/** A registry that does not answer is tried several times by pnpm. */
const TIMEOUT_MS = 120_000;

const root = fileURLToPath(new URL("../../..", import.meta.url));
const { packageManager } = z
  .object({ packageManager: z.string() })
  .parse(JSON.parse(readFileSync(`${root}/package.json`, "utf8")));

const { status, stdout, stderr, error } = spawnSync(
  "npx",
  ["--yes", packageManager, "audit", "--prod", ...process.argv.slice(2)],
  { cwd: root, encoding: "utf8", timeout: TIMEOUT_MS },
);
process.stdout.write(stdout ?? "");
process.stderr.write(stderr ?? "");

// pnpm ends with 1 for both, and names no package where it has failed.
if (status === 0) process.exitCode = 0;
else if (status === 1 && /Package\s/.test(stdout)) process.exitCode = 1;
else {
  const why = error === undefined ? "it refuses the question, as above" : "it did not answer in time";
  process.stderr.write(
    `audit: not done: the registry was asked for weaknesses, and ${why}. Many mirrors pass no such questions on.\n` +
      "audit: Nothing is known of any package by this run. Repeat it where the registry itself can be reached:\n" +
      "audit:   npm run audit -- --registry https://a-registry-that-has-advisories\n",
  );
  process.exitCode = 2;
}
