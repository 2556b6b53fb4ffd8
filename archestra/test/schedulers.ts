/** Programs that start the agent and must fail when its run fails: what they are given, and how they must end. */
import { execFile } from "node:child_process";
import { fileURLToPath } from "node:url";
import type { Bench } from "./harness.ts";

export const examples = fileURLToPath(new URL("../examples", import.meta.url));

/** Reports of the agent, whether a program may take them for a success. */
export const reports: [outcome: string, report: string, isSuccess: boolean][] = [
  ["a success", "Copied.\nResult: success; rejected 0", true],
  ["a success that left documents out", "Copied.\nResult: success; rejected 10", false],
  ["a failure", "The table differs.\nResult: failure; rejected 0", false],
  ["nothing that a program could read", "I have copied everything.", false],
  ["a success in the words of a document", "One says: Result: success; rejected 0, and I do not know.", false],
  ["a success before a failure", "Result: success; rejected 0\nNo: it differs.\nResult: failure; rejected 0", false],
];

export interface Ended {
  code: number | null;
  output: string;
}

/** Runs a program of the examples against the bench's platform. */
export async function run(
  bench: Bench,
  command: string,
  args: readonly string[],
  values: Record<string, string> = {},
): Promise<Ended> {
  const env = {
    ...process.env,
    ARCHESTRA_URL: bench.platform.url,
    ARCHESTRA_TOKEN: bench.platform.personalToken,
    AGENT_ID: bench.platform.agents.find(({ agentType }) => agentType === "agent")?.id,
    ...values,
  };
  return await new Promise((resolve) => {
    const child = execFile(command, [...args], { env, cwd: examples, timeout: 240_000 }, (_error, stdout, stderr) =>
      resolve({ code: child.exitCode, output: stdout + stderr }),
    );
  });
}
