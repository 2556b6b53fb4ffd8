/**
 * Packs both servers into `out`: a tarball and a Claude Desktop bundle of each. With `--check`, the official validators
 * judge them and every attachment in the repository besides.
 */
import { join } from "node:path";
import { attachmentChecks } from "./check.ts";
import { packDesktopBundle } from "./outside-tools.ts";
import { packServers } from "./pack.ts";
import { repositoryRoot } from "./repository.ts";

const packed = await packServers(join(repositoryRoot, "packages/attachments/out"));
for (const { tarball, desktopFolder, desktopBundle } of packed) {
  await packDesktopBundle(desktopFolder, desktopBundle);
  process.stdout.write(`packed   ${tarball}\npacked   ${desktopBundle}\n`);
}

for (const [name, check] of process.argv.includes("--check") ? attachmentChecks(packed) : []) {
  try {
    await check();
    process.stdout.write(`passed   ${name}\n`);
  } catch (error) {
    process.stdout.write(`failed   ${name}\n${error instanceof Error ? error.message : String(error)}\n`);
    process.exitCode = 1;
  }
}
