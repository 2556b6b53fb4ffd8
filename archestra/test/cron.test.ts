/** cron.sh, against the stand-in platform. */
import { expect, it } from "vitest";
import { openBench } from "./harness.ts";
import { reports, run } from "./schedulers.ts";

it("ends as cron must see it, whatever the agent reports", async () => {
  const bench = await openBench();
  await bench.run("apply");
  for (const [outcome, report, isSuccess] of reports) {
    bench.platform.agent = () => ({ texts: ["Starting.", report] });
    const { code, output } = await run(bench, "sh", ["cron.sh", "Copy the products index"]);
    expect({ outcome, isSuccess: code === 0 }).toEqual({ outcome, isSuccess });
    expect(output).toContain(report.split("\n")[0]);
  }
});

it("fails where the agent asks for what nobody can give, and where the platform answers an error", async () => {
  const bench = await openBench();
  await bench.run("apply");
  bench.platform.agent = () => ({ ask: "pg_mcp__bulk_insert" });
  expect(await run(bench, "sh", ["cron.sh", "Replace it"])).toMatchObject({
    code: 1,
    output: expect.stringContaining("pg_mcp__bulk_insert"),
  });
  expect(await run(bench, "sh", ["cron.sh", "Copy it"], { ARCHESTRA_TOKEN: "arch_wrong" })).toMatchObject({
    code: 1,
    output: expect.stringContaining("Failed to resolve actor from token"),
  });
  expect(await run(bench, "sh", ["cron.sh", 'Copy "it"'])).toMatchObject({ code: 2 });
});
