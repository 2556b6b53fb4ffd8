import { readFile, realpath, stat } from "node:fs/promises";
import { homedir } from "node:os";
import { dirname, isAbsolute, join } from "node:path";
import { fileURLToPath } from "node:url";
import { StagingError } from "./staging-error.ts";

/** The directory that staged exports live in when no URL is given: below the user's state directory. */
export function defaultRoot(
  environment: NodeJS.ProcessEnv = process.env,
  platform: NodeJS.Platform = process.platform,
  homeOf: () => string = homedir,
): string {
  const stateHome = environment.XDG_STATE_HOME;
  // The XDG specification says that a relative path is to be ignored.
  if (stateHome !== undefined && isAbsolute(stateHome)) return join(stateHome, "es-to-pg", "staging");
  let home: string;
  try {
    home = homeOf();
  } catch (error) {
    // A uid that no passwd entry names has none, unless HOME says so.
    throw new StagingError("staging_url_invalid", "There is no home directory to keep staged exports in.", {
      next: "Set STAGING_URL, such as file:///var/lib/es-to-pg/staging.",
      cause: error,
    });
  }
  if (platform === "darwin") return join(home, "Library", "Application Support", "es-to-pg", "staging");
  return join(home, ".local", "state", "es-to-pg", "staging");
}

/** The path that a `file:` URL names; every other URL is `staging_url_invalid`. */
export function rootFromUrl(text: string): string {
  const next = "Give a URL such as file:///var/lib/es-to-pg/staging.";
  if (!URL.canParse(text)) {
    throw new StagingError("staging_url_invalid", `The staging URL ${JSON.stringify(text)} is not a URL.`, { next });
  }
  const url = new URL(text);
  if (url.protocol !== "file:") {
    throw new StagingError("staging_url_invalid", `Staging at ${url.protocol} URLs is not supported; use file:.`, {
      next,
    });
  }
  if (url.search !== "" || url.hash !== "") {
    throw new StagingError("staging_url_invalid", "A staging URL has no query and no fragment.", { next });
  }
  let path: string;
  try {
    path = fileURLToPath(url);
  } catch (error) {
    throw new StagingError("staging_url_invalid", `The staging URL ${JSON.stringify(text)} names no local path.`, {
      next,
      cause: error,
    });
  }
  if (dirname(path) === path) {
    throw new StagingError("staging_url_invalid", "The staging URL names the root of the file system.", { next });
  }
  // A trailing slash would make the root its own child when its parent is looked up.
  return path.replace(/\/+$/, "");
}

/** Whether a file system is mounted exactly at the path: a volume of its own, or a bind mount. */
export async function isMountPoint(path: string): Promise<boolean> {
  const real = await realpath(path);
  if ((await stat(real)).dev !== (await stat(dirname(real))).dev) return true;
  if (process.platform !== "linux") return false;
  // A bind mount from the same device differs in no number of stat(); the kernel's table knows it.
  const table = await readFile("/proc/self/mountinfo", "utf8");
  return mountPoints(table).includes(real);
}

/** The mount points that a `/proc/self/mountinfo` lists. */
export function mountPoints(mountinfo: string): string[] {
  return mountinfo
    .split("\n")
    .map((line) => line.split(" ")[4])
    .filter((field) => field !== undefined)
    .map((field) =>
      // Space, tab, LF and backslash are written as three octal digits, byte by byte.
      field.replace(/\\([0-7]{3})/g, (_, digits: string) => String.fromCharCode(Number.parseInt(digits, 8))),
    );
}
