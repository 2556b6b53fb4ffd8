/** The call that README.md shows, as it stands there but for the address, against the stand-in platform. */
import { execFile } from "node:child_process";
import { readFileSync } from "node:fs";
import { promisify } from "node:util";
import { expect, it } from "vitest";
import { openBench } from "./harness.ts";

it("the agent answers the call by curl", async () => {
  const text = readFileSync(new URL("../README.md", import.meta.url), "utf8");
  const call = /^curl --max-time[^]*?(?=\n```)/m.exec(text)?.[0] ?? "";
  const bench = await openBench();
  await bench.run("apply");
  bench.platform.agent = (message) => ({ texts: [`Did: ${message}`] });
  const { stdout } = await promisify(execFile)(
    "sh",
    ["-c", call.replace("http://localhost:9000", bench.platform.url)],
    {
      env: {
        ...process.env,
        ARCHESTRA_TOKEN: bench.platform.personalToken,
        AGENT_ID: bench.platform.agents.find(({ agentType }) => agentType === "agent")?.id,
      },
    },
  );
  expect(stdout).toContain("Did: Copy the products index to PostgreSQL");
});
