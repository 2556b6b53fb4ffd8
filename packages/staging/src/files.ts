import { randomBytes } from "node:crypto";
import { constants } from "node:fs";
import { chmod, type FileHandle, lstat, mkdir, open, rename, rm } from "node:fs/promises";
import { join } from "node:path";
import { StagingError } from "./staging-error.ts";

export type StagingMode = "private" | "group";

/** Permissions of what the store makes. `group` lets another uid of the same group read, lease and sweep. */
const PERMISSIONS = {
  private: { file: 0o600, directory: 0o700 },
  group: { file: 0o640, directory: 0o2770 },
} as const;

// Every open refuses a symbolic link, and does not wait for the other end of a FIFO that stands in a file's place.
const READ = constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK;
const CREATE = constants.O_WRONLY | constants.O_CREAT | constants.O_EXCL | constants.O_NOFOLLOW;
const DIRECTORY = constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_DIRECTORY;

/** The errno word of a failed system call, or undefined. */
export function errorCode(error: unknown): string | undefined {
  return error instanceof Error && "code" in error && typeof error.code === "string" ? error.code : undefined;
}

/** A random word for names of temporary files. */
export function randomWord(): string {
  return randomBytes(8).toString("hex");
}

/** Opens a regular file for reading; a link of either kind, directory or device in its place is `staging_corrupt`. */
export async function openForReading(path: string): Promise<FileHandle> {
  let handle: FileHandle;
  try {
    handle = await open(path, READ);
  } catch (error) {
    if (errorCode(error) === "ELOOP") {
      throw new StagingError("staging_corrupt", `${path} is a symbolic link; staged files are plain files.`);
    }
    // A socket, or a device that is not there.
    if (errorCode(error) !== "ENXIO" && errorCode(error) !== "ENODEV") throw error;
    throw new StagingError("staging_corrupt", `${path} is not a plain file.`);
  }
  try {
    const found = await handle.stat();
    if (!found.isFile()) throw new StagingError("staging_corrupt", `${path} is not a plain file.`);
    if (found.nlink > 1) {
      throw new StagingError("staging_corrupt", `${path} is also a file elsewhere, by a hard link.`, {
        next: "Copy staged exports, and do not link them.",
      });
    }
    return handle;
  } catch (error) {
    await handle.close();
    throw error;
  }
}

/** Creates a file that did not exist, with the permissions of the mode whatever the umask. */
export async function createFile(path: string, mode: StagingMode): Promise<FileHandle> {
  const handle = await open(path, CREATE, PERMISSIONS[mode].file);
  try {
    await handle.chmod(PERMISSIONS[mode].file);
    return handle;
  } catch (error) {
    await handle.close();
    throw error;
  }
}

/** Makes a directory with the permissions of the mode whatever the umask; fails if it exists. */
export async function makeDirectory(path: string, mode: StagingMode): Promise<void> {
  await mkdir(path, { mode: PERMISSIONS[mode].directory });
  await chmod(path, PERMISSIONS[mode].directory);
}

/** Makes a directory and its parents where they are missing; one that exists keeps its permissions. */
export async function ensureDirectory(path: string, mode: StagingMode): Promise<void> {
  const made = await mkdir(path, { recursive: true, mode: PERMISSIONS[mode].directory });
  if (made !== undefined) await chmod(path, PERMISSIONS[mode].directory);
}

/** Whether a real directory, and not a link to one, stands at the path. */
export async function isDirectory(path: string): Promise<boolean> {
  try {
    return (await lstat(path)).isDirectory();
  } catch (error) {
    if (errorCode(error) === "ENOENT" || errorCode(error) === "ENOTDIR") return false;
    throw error;
  }
}

/** Makes renames and creations in a directory durable. */
export async function syncDirectory(path: string): Promise<void> {
  const handle = await open(path, DIRECTORY);
  try {
    await handle.sync();
  } catch (error) {
    // Some network file systems know no fsync of directories and are durable without.
    if (errorCode(error) !== "EINVAL" && errorCode(error) !== "ENOTSUP") throw error;
  } finally {
    await handle.close();
  }
}

/** Writes all bytes; one system call may take fewer. A full disk is `staging_full`, a read-only one `staging_unshared`. */
export async function writeFully(handle: FileHandle, bytes: Uint8Array): Promise<void> {
  try {
    for (let offset = 0; offset < bytes.length; ) {
      const { bytesWritten } = await handle.write(bytes, offset, bytes.length - offset);
      offset += bytesWritten;
    }
  } catch (error) {
    throw asStagingError(error);
  }
}

const FULL = new Set(["ENOSPC", "EDQUOT", "EFBIG"]);
const UNUSABLE = new Set(["EROFS", "EACCES", "EPERM"]);
/** What a disk that breaks, or a network that a volume is behind, says. */
const FAILING = new Set(["EIO", "ENXIO", "ENODEV", "EREMOTEIO", "ETIMEDOUT", "EHOSTDOWN", "EHOSTUNREACH", "ENOTCONN"]);

/**
 * Turns the errors of a full disk into `staging_full`, those of one that must not be written or that fails into
 * `staging_unshared`, and leaves every other one as it is.
 */
export function asStagingError(error: unknown): unknown {
  const code = errorCode(error) ?? "";
  if (FULL.has(code)) {
    return new StagingError("staging_full", `The disk of the staging root is full (${code}).`, {
      retryable: true,
      next: "Delete exports that are no longer needed, or give the staging volume more room.",
      cause: error,
    });
  }
  if (FAILING.has(code)) {
    return new StagingError("staging_unshared", `The disk of the staging root fails (${code}).`, {
      retryable: true,
      next: "Look at the staging volume of this server and at its connection, then call again.",
      cause: error,
    });
  }
  if (!UNUSABLE.has(code)) return error;
  return new StagingError("staging_unshared", `The staging root cannot be written (${code}).`, {
    retryable: true,
    next: "Make the staging volume writable for this server.",
    cause: error,
  });
}

/**
 * Replaces `target` in one step: written to a new file in `beside`, fsynced, renamed, and the rename made durable.
 * Nobody sees half a file, and after a crash there is the old one or the new one.
 */
export async function writeAtomically(options: {
  target: string;
  directory: string;
  beside: string;
  bytes: Uint8Array;
  mode: StagingMode;
}): Promise<void> {
  const path = join(options.beside, `.${randomWord()}.tmp`);
  const handle = await createFile(path, options.mode);
  try {
    try {
      await writeFully(handle, options.bytes);
      await handle.sync();
    } finally {
      await handle.close();
    }
    await rename(path, options.target);
  } catch (error) {
    await rm(path, { force: true });
    throw asStagingError(error);
  }
  await syncDirectory(options.directory);
}
