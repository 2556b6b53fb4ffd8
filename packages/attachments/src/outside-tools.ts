import { execFile } from "node:child_process";
import { promisify } from "node:util";

/** Programs that judge or pack what is made here. They are fetched when they run: no install of this repository needs them. */
const claudeCode = "@anthropic-ai/claude-code@2.1.332";
const mcpb = "@anthropic-ai/mcpb@2.1.2";
const registryModule = "github.com/modelcontextprotocol/registry@v1.8.9";

/** Runs a program to its end and returns what it printed; throws all of it where it failed. */
export async function run(command: string, args: string[], cwd?: string): Promise<string> {
  try {
    const { stdout } = await promisify(execFile)(command, args, { cwd, maxBuffer: 16 * 1024 * 1024 });
    return stdout.trim();
  } catch (error) {
    const printed = ["stdout", "stderr"].map((name) => (error instanceof Error ? Reflect.get(error, name) : ""));
    throw new Error([`${[command, ...args].join(" ")} failed`, ...printed].join("\n"), { cause: error });
  }
}

/** `claude plugin validate`; with `--strict`, what it only warns of fails, too. */
export async function validatePlugin(folder: string, ...options: string[]): Promise<void> {
  await run("npx", ["--yes", "--package", claudeCode, "--", "claude", "plugin", "validate", ...options, folder]);
}

/** Packs a folder with a `manifest.json` for Claude Desktop; a manifest that does not fit the format fails. */
export async function packDesktopBundle(folder: string, file: string): Promise<void> {
  await run("npx", ["--yes", mcpb, "validate", folder]);
  await run("npx", ["--yes", mcpb, "pack", folder, file]);
}

/** The path of a Node of this major version. */
export async function nodeOfVersion(major: number): Promise<string> {
  return await run("npx", ["--yes", "--package", `node@${major}`, "--", "node", "--print", "process.execPath"]);
}

/** The folder of the registry's source, which holds its schemas. */
export async function registrySource(): Promise<string> {
  const answer: unknown = JSON.parse(await run("go", ["mod", "download", "-json", registryModule]));
  if (typeof answer === "object" && answer !== null && "Dir" in answer) return String(answer.Dir);
  throw new Error(`go mod download did not say where ${registryModule} is`);
}
