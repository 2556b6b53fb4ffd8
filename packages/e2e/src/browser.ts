import { existsSync } from "node:fs";
import { delimiter, join } from "node:path";
import { type Browser, chromium } from "playwright-core";

const programs = ["chromium", "chromium-browser", "google-chrome", "google-chrome-stable"];

/** The Chromium of this machine: `CHROMIUM`, or one on the path. Nothing here downloads a browser. */
function findChromium(environment: NodeJS.ProcessEnv = process.env): string {
  const { CHROMIUM: given, PATH: path = "" } = environment;
  if (given !== undefined && given !== "") return given;
  const found = path.split(delimiter).flatMap((folder) => programs.map((name) => join(folder, name)));
  const program = found.find((candidate) => existsSync(candidate));
  if (program !== undefined) return program;
  throw new Error("There is no Chromium: install your system's package (apt-get install chromium) or set CHROMIUM.");
}

/** Starts it without a window. `names` are hosts that it finds on this machine, as by a name server. */
export async function openBrowser(names: readonly string[] = []): Promise<Browser> {
  const args = [
    ...(names.length > 0 ? [`--host-resolver-rules=${names.map((name) => `MAP ${name} 127.0.0.1`).join(", ")}`] : []),
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    // Else it looks for its maker's hosts at every start.
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
  ];
  const isRoot = process.getuid?.() === 0;
  // Chromium's own sandbox is not to be had for root, as in a container of CI.
  return await chromium.launch({ executablePath: findChromium(), args, chromiumSandbox: !isRoot });
}
