/**
 * `npm run demo`: documents travel from a real Elasticsearch into a real PostgreSQL through the two built servers, by
 * the calls that an agent makes. Everything it started is stopped at the end.
 */
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { parseArgs } from "node:util";
import { acquireEngines } from "@es-to-pg/engines";
import { createSampleDatabase, seedProducts } from "@es-to-pg/seed";
import { z } from "zod";
import { accountedFor, type Call, Caller, type CourseResult, type Load, loadExport, runCourse } from "./course.ts";
import { elasticsearchEnvironment } from "./elasticsearch-environment.ts";
import { ProgressBar } from "./progress-bar.ts";
import { openSession, type Session } from "./servers.ts";
import { summarise } from "./summaries.ts";

const usage = `Usage: npm run demo -- [options]
  --documents N   generate N documents; without it, the fifteen products
  --dirty         mix one document of each kind of bad value into every thousand
  --index NAME    products; an index of this name is replaced if an earlier run wrote it, else left alone
  --table NAME    products; in the database transformation_db
`;

/** What has to be undone, last things first. */
const undo: (() => Promise<unknown>)[] = [];
const bar = new ProgressBar(process.stdout);
const spent = { calls: 0, characters: 0 };
/** Milliseconds spent in each tool so far. */
const durations = new Map<string, number>();

let parsed;
try {
  parsed = parseArgs({
    options: {
      documents: { type: "string" },
      dirty: { type: "boolean", default: false },
      index: { type: "string", default: "products" },
      table: { type: "string", default: "products" },
      help: { type: "boolean", default: false },
    },
  });
} catch (error) {
  process.stderr.write(`${error instanceof Error ? error.message : String(error)}\n${usage}`);
  process.exit(2);
}
const { values } = parsed;
const count = Number(values.documents ?? (values.dirty ? 1000 : 0));
if (values.help || !Number.isSafeInteger(count) || count < 0) {
  (values.help ? process.stdout : process.stderr).write(usage);
  process.exit(values.help ? 0 : 2);
}
let ending: Promise<never> | undefined;
// Not once: npm and tsx pass on the signal that the terminal has sent already, and the second must not kill the way out.
for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const) process.on(signal, () => void end(130));
try {
  await demo();
  await end(0);
} catch (error) {
  // Calls in flight fail when their server is closed on the way out.
  await ending;
  bar.clear();
  process.stderr.write(`\nThe demo stopped: ${error instanceof Error ? error.message : String(error)}\n`);
  await end(1);
}

async function demo(): Promise<void> {
  const from = performance.now();
  say("Bringing up Elasticsearch and PostgreSQL");
  const engines = await acquireEngines();
  undo.push(() => engines.stop());
  say(
    `  Elasticsearch at ${withoutCredentials(engines.elasticsearchUrl)}, PostgreSQL at ${withoutCredentials(engines.databaseUrl)} (${seconds(from)})`,
  );

  const { elasticsearchUrl } = engines;
  const seeded = await seedProducts({
    elasticsearchUrl,
    index: values.index,
    ...(count > 0 ? { generate: { count, dirty: values.dirty } } : {}),
    onProgress: (documents) => bar.show("seeding", { progress: documents, total: count }),
  });
  bar.clear();
  const databaseUrl = await createSampleDatabase(engines.databaseUrl);
  say(
    `  Index ${seeded.index} holds ${figure(seeded.documents)} documents (${figure(seeded.bytes)} bytes of JSON${values.dirty ? ", one of each bad kind in every thousand" : ""})`,
  );

  const staging = await mkdtemp(join(tmpdir(), "es-to-pg-staging-"));
  undo.push(() => rm(staging, { recursive: true, force: true }));
  const STAGING_URL = pathToFileURL(staging).href;
  const es = await openSession({
    server: "es-mcp",
    env: { ...elasticsearchEnvironment(elasticsearchUrl), STAGING_URL },
  });
  undo.push(() => es.close());
  const pg = await openSession({ server: "pg-mcp", env: { DATABASE_URL: databaseUrl, STAGING_URL } });
  undo.push(() => pg.close());
  say("\nThe agent's calls, over stdio (characters of arguments and answer: all that a model reads)");
  const result = await runCourse({
    es,
    pg,
    index: seeded.index,
    table: values.table,
    onCall: narrate,
    onProgress: advance,
  });
  await show(pg, result);
  await again(pg, result);
  say(
    `\n${spent.calls} calls, ${figure(spent.characters)} characters in all, about ${figure(Math.round(spent.characters / 4))} tokens, however many documents there are.`,
  );
}

/** The figures of the first load, its rejects, and what is in the table now. */
async function show(pg: Session, { export: exported, load, verified, rows }: CourseResult): Promise<void> {
  const { figures } = load;
  say("\nConservation: every staged document has one fate");
  say(
    `  ${Object.entries(figures)
      .map(([name, value]) => `${name} ${figure(value)}`)
      .join(" · ")}`,
  );
  const holds = figures.expected === figures.staged && figures.staged === accountedFor(figures);
  say(
    `  expected = staged = inserted + updated + unchanged + skipped + stale + deduplicated + suppressed + rejected: ${holds ? "holds" : "BROKEN"}`,
  );
  say(
    `  verify_load: ${figure(verified.matched)} matched, ${figure(verified.missing)} missing, ${figure(verified.different)} different; the table has ${figure(rows)} rows${rows > verified.matched ? ", some from before" : ""}`,
  );
  const problems = [
    ...(holds ? [] : ["the conservation law is broken"]),
    ...(verified.missing + verified.different > 0 ? ["the table differs from the export"] : []),
  ];
  if (problems.length > 0) throw new Error(problems.join(" and "));
  if (figures.rejected > 0) await showRejects(pg, load);
  await showRows(pg);
  // Of a handful, a rate would tell how long the calls take and nothing else.
  if (exported.documents >= 1000)
    say(
      `\nFigures: ${figure(exported.documents)} documents exported at ${rate(exported.documents, msOf("bulk_export", "get_export"))}, loaded at ${rate(exported.documents, msOf("bulk_insert", "get_load"))}`,
    );
}

async function showRejects(pg: Session, load: Load): Promise<void> {
  const schema = z.looseObject({
    reasons: z.array(z.looseObject({ reason: z.string(), count: z.number() })),
    rejects: z.array(
      z.looseObject({
        document_id: z.string().nullable(),
        column: z.string().nullable(),
        reason: z.string(),
        value: z.string().nullish(),
      }),
    ),
  });
  const answer = await caller().call(pg, "list_rejects", { load_id: load.load_id });
  const { reasons, rejects } = schema.parse(answer.data);
  say(`\nRejected: ${reasons.map((entry) => `${entry.reason} ${figure(entry.count)}`).join(" · ")}`);
  // One of each kind: the next thousand documents hold the same.
  const kinds = new Map(
    rejects.toReversed().map((reject) => [`${reject.column} ${reject.reason} ${reject.value}`, reject]),
  );
  for (const { document_id, column, reason, value } of [...kinds.values()].toReversed()) {
    say(`  ${document_id ?? "(no id)"}  ${(column ?? "").padEnd(15)} ${reason.padEnd(18)} ${clip(value ?? "", 50)}`);
  }
}

async function showRows(pg: Session): Promise<void> {
  const schema = z.looseObject({ rows: z.array(z.array(z.unknown())) });
  const table = `"${values.table.replaceAll('"', '""')}"`;
  const sql = `SELECT id, name, brand, price, stock_quantity, created_at, tags FROM ${table} ORDER BY id LIMIT 5`;
  const answer = await caller().call(pg, "execute_query", { sql });
  say("\nSome rows of the target");
  for (const row of schema.parse(answer.data).rows)
    say(`  ${row.map((value) => (Array.isArray(value) ? `{${value.join(",")}}` : String(value))).join(" | ")}`);
}

/** The same export once more: nothing may change. */
async function again(pg: Session, { export: exported, mappingId, load: first }: CourseResult): Promise<void> {
  say("\nThe same load once more");
  const load = await loadExport(caller(), pg, {
    table: values.table,
    export_id: exported.export_id,
    mapping: mappingId,
    fresh: true,
  });
  const { inserted, updated, unchanged } = load.figures;
  if (inserted + updated > 0 || load.load_id === first.load_id)
    throw new Error("a second load of the same export changed rows or did not run");
  say(`  changes no row: ${figure(unchanged)} unchanged, 0 inserted, 0 updated`);
}

function msOf(...tools: string[]): number {
  return tools.reduce((sum, tool) => sum + (durations.get(tool) ?? 0), 0);
}

function caller(): Caller {
  return new Caller({ onCall: narrate, onProgress: advance });
}

function advance(tool: string, progress: { progress: number; total?: number | undefined }): void {
  bar.show(tool, progress);
}

function narrate({ tool, args, answer, ms }: Call): void {
  bar.clear();
  const characters = JSON.stringify(args).length + answer.text.length;
  spent.calls++;
  spent.characters += characters;
  durations.set(tool, msOf(tool) + ms);
  say(
    `  ${String(spent.calls).padStart(2)} ${tool.padEnd(16)} ${figure(characters).padStart(6)} characters ${figure(Math.round(ms)).padStart(7)} ms   ${summarise(tool, answer)}`,
  );
}

async function end(exitCode: number): Promise<never> {
  ending ??= undoAll(exitCode);
  return await ending;
}

async function undoAll(exitCode: number): Promise<never> {
  for (const step of undo.toReversed())
    await step().catch((error: unknown) => process.stderr.write(`while stopping: ${String(error)}\n`));
  process.exit(exitCode);
}

function withoutCredentials(url: string): string {
  return new URL(url).host;
}

function say(line: string): void {
  process.stdout.write(`${line}\n`);
}

function figure(value: number): string {
  return value.toLocaleString("en");
}

function seconds(from: number): string {
  return `${((performance.now() - from) / 1000).toFixed(1)} s`;
}

function rate(documents: number, ms: number): string {
  return `${figure(Math.round(documents / (ms / 1000)))} rows/s (${(ms / 1000).toFixed(2)} s)`;
}

function clip(text: string, charactersMax: number): string {
  return text.length <= charactersMax ? text : `${text.slice(0, charactersMax)}…`;
}
