/**
 * Runs the tests of a vitest configuration against one PostgreSQL version after another and prints a table of what
 * passed. Run as `tsx postgres-matrix.ts [major …]`; without arguments, all of them.
 */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { startPostgresVariant } from "./postgres-package.ts";
import { fetchPostgres, type PostgresMajor } from "./postgres-versions.ts";

const majors: readonly PostgresMajor[] = [12, 13, 14, 15, 17, 18];
/** Below this a server is refused in words, and there is nothing else to test. */
const supportedMin = 13;

interface Row {
  version: string;
  passed: number;
  failed: number;
  skipped: number;
  seconds: number;
  failures: string[];
}

const chosen = majors.filter((major) => process.argv.length < 3 || process.argv.includes(String(major)));
const folder = await mkdtemp(join(tmpdir(), "es-to-pg-matrix-"));
const rows: Row[] = [];
try {
  for (const major of chosen) rows.push(await runMajor(major));
} finally {
  await rm(folder, { recursive: true, force: true });
}
for (const { version, failures } of rows) {
  for (const failure of failures) process.stdout.write(`PostgreSQL ${version}: ${failure}\n`);
}
process.stdout.write("\nPostgreSQL  passed  failed  skipped  seconds\n");
for (const { version, passed, failed, skipped, seconds } of rows) {
  const cells = [
    String(passed).padStart(6),
    String(failed).padStart(6),
    String(skipped).padStart(7),
    seconds.toFixed(0),
  ];
  process.stdout.write(`${version.padEnd(10)}  ${cells.slice(0, 3).join("  ")}  ${String(cells[3]).padStart(7)}\n`);
}
process.exitCode = rows.some(({ failed, passed }) => failed > 0 || passed === 0) ? 1 : 0;

async function runMajor(major: PostgresMajor): Promise<Row> {
  process.stdout.write(`\n=== PostgreSQL ${major}\n`);
  const started = Date.now();
  const row: Row = { version: String(major), passed: 0, failed: 0, skipped: 0, seconds: 0, failures: [] };
  try {
    const postgres = await startPostgresVariant({ binaries: await fetchPostgres(major) });
    try {
      await runTests(major, postgres.url, row);
    } finally {
      await postgres.stop();
    }
  } catch (error) {
    row.failed++;
    row.failures.push(String(error));
  }
  row.seconds = (Date.now() - started) / 1000;
  return row;
}

async function runTests(major: PostgresMajor, databaseUrl: string, row: Row): Promise<void> {
  const report = join(folder, `${major}.json`);
  const project = major < supportedMin ? "pg-refused" : "pg-matrix";
  const child = spawn(
    process.execPath,
    [
      "node_modules/vitest/vitest.mjs",
      "run",
      "--config=vitest.long.config.ts",
      `--project=${project}`,
      "--reporter=dot",
      "--reporter=json",
      `--outputFile.json=${report}`,
    ],
    { stdio: ["ignore", "inherit", "inherit"], env: { ...process.env, DATABASE_URL: databaseUrl } },
  );
  await once(child, "exit");
  // oxlint-disable-next-line typescript/no-unsafe-type-assertion -- vitest's own JSON report
  const told = JSON.parse(await readFile(report, "utf8")) as Report;
  for (const file of told.testResults) {
    // A file that could not be loaded, or whose hooks failed, has no test to its name.
    if (file.status === "failed" && file.message !== "") note(file.name, file.message);
    for (const { status, fullName } of file.assertionResults) {
      if (status === "passed") row.passed++;
      else if (status === "failed") note(file.name, fullName);
      else row.skipped++;
    }
  }

  function note(file: string, what: string): void {
    row.failed++;
    row.failures.push(`${file.slice(file.lastIndexOf("/") + 1)}: ${what.split("\n")[0]}`);
  }
}

/** What is used of vitest's JSON report. */
interface Report {
  testResults: {
    name: string;
    status: string;
    message: string;
    assertionResults: { status: string; fullName: string }[];
  }[];
}
