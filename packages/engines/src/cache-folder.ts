import { homedir } from "node:os";
import { join } from "node:path";

/** The user's folder for what can be downloaded again. */
export function cacheFolder(): string {
  const configured = process.env["XDG_CACHE_HOME"];
  if (configured !== undefined && configured.startsWith("/")) return configured;
  return process.platform === "darwin" ? join(homedir(), "Library/Caches") : join(homedir(), ".cache");
}
