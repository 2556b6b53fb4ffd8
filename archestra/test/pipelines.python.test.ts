/**
 * The Python examples in the real Airflow and the real Prefect, against the stand-in platform. Both are installed into a
 * folder of their own in the system's directory for temporary files, and are found there the next time.
 */
import { existsSync } from "node:fs";
import { cp, mkdir, mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { type Bench, openBench } from "./harness.ts";
import { examples, reports, run } from "./schedulers.ts";

const versions = { airflow: "apache-airflow==3.3.2", prefect: "prefect==3.9.1" };

let bench: Bench;
let home: string;

beforeEach(async () => {
  home = await mkdtemp(join(tmpdir(), "pipelines-"));
  bench = await openBench();
  await bench.run("apply");
});

afterEach(async () => {
  await rm(home, { recursive: true, force: true });
});

/** The programs of an environment that holds one of them, made when it is not there yet. */
async function environment(name: keyof typeof versions): Promise<string> {
  const place = join(tmpdir(), `es-to-pg-${versions[name]}`);
  const done = join(place, "bin", name);
  if (!existsSync(done)) {
    const steps: [command: string, args: string[]][] = [
      ["python3", ["-m", "venv", place]],
      [join(place, "bin/pip"), ["install", "--quiet", versions[name]]],
    ];
    for (const [command, args] of steps) {
      const { code, output } = await run(bench, command, args);
      if (code !== 0) throw new Error(output);
    }
  }
  return join(place, "bin");
}

it("data_transformer.py raises for everything that is no success", async () => {
  const script = "import sys, data_transformer; print(data_transformer.run(sys.argv[1]))";
  for (const [outcome, report, isSuccess] of reports) {
    bench.platform.agent = () => ({ texts: ["Starting.", report] });
    const { code, output } = await run(bench, "python3", ["-c", script, "Copy the products index"]);
    expect({ outcome, isSuccess: code === 0 }).toEqual({ outcome, isSuccess });
    expect(output).toContain(report.split("\n")[0]);
  }
  const tolerant = script.replace("argv[1]", "argv[1], max_rejected=10");
  bench.platform.agent = () => ({ texts: ["Copied.\nResult: success; rejected 10"] });
  expect(await run(bench, "python3", ["-c", tolerant, "Copy it"])).toMatchObject({ code: 0 });
  bench.platform.agent = () => ({ ask: "pg_mcp__bulk_insert" });
  expect(await run(bench, "python3", ["-c", script, "Replace it"])).toMatchObject({
    code: 1,
    output: expect.stringContaining("asks for approval of pg_mcp__bulk_insert"),
  });
});

const outcomes = reports.filter(([outcome]) => ["a success", "a failure"].includes(outcome));

describe("the flow in Prefect", () => {
  it.each(outcomes)("ends after %s as it must", async (_outcome, report, isSuccess) => {
    const bin = await environment("prefect");
    bench.platform.agent = () => ({ texts: [report] });
    const values = {
      PREFECT_HOME: join(home, "prefect"),
      RETRY_DELAY_SECONDS: "0",
      PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS: "120",
    };
    const { code, output } = await run(bench, join(bin, "python"), ["prefect_flow.py", "--now"], values);
    expect({ isSuccess: code === 0, output }).toEqual({
      isSuccess,
      output: expect.stringContaining(isSuccess ? "Completed" : "Failed"),
    });
  });
});

describe("the DAG in Airflow", () => {
  it.each(outcomes)("ends after %s as it must", async (_outcome, report, isSuccess) => {
    const bin = await environment("airflow");
    bench.platform.agent = () => ({ texts: [report] });
    const dags = join(home, "dags");
    await mkdir(dags, { recursive: true });
    for (const file of ["airflow_dag.py", "data_transformer.py"]) await cp(join(examples, file), join(dags, file));
    const values = {
      AIRFLOW_HOME: join(home, "airflow"),
      AIRFLOW__CORE__DAGS_FOLDER: dags,
      AIRFLOW__CORE__LOAD_EXAMPLES: "false",
      PYTHONPATH: dags,
      RETRY_DELAY_SECONDS: "0",
    };
    const migrated = await run(bench, join(bin, "airflow"), ["db", "migrate"], values);
    if (migrated.code !== 0) throw new Error(migrated.output);
    const { code, output } = await run(bench, join(bin, "airflow"), ["dags", "test", "products_to_postgres"], values);
    expect({ isSuccess: code === 0, output }).toEqual({ isSuccess, output: expect.stringContaining("transform") });
  });
});
