/**
 * `npm run bench:load`: loads the same staged export by pg-mcp's `bulk_insert` and by what else there is, each in a
 * process of its own, and prints rows per second, CPU, write-ahead log and memory against COPY of ready text and upsert.
 */
import { readdir } from "node:fs/promises";
import { join } from "node:path";
import { Caller, exportIndex, loadExport, verifyLoad } from "../course.ts";
import type { Session } from "../servers.ts";
import { benchOptions, type Entry, main, type Place, runBench } from "./bench.ts";
import type { Contender, Moved } from "./measure.ts";
import { openTarget, type Target } from "./target.ts";
import { startTask, type TaskOptions } from "./task.ts";

/** What is far slower than the rest moves only so many documents. */
const slowDocumentsMax = 100_000;

const options = benchOptions("Usage: npm run bench:load -- [options]");
await main(options, async (place) => {
  const target = await openTarget(place.engines.databaseUrl);
  place.atEnd(() => target.remove());
  const staged = await stage(place, target);
  await runBench("Load", options, place, entriesOf(place, target, staged));
});

interface Staged {
  exportId: string;
  taskOptions: TaskOptions;
}

/** Exports the index once, and makes COPY text of it for the floors. */
async function stage(place: Place, { schema }: Target): Promise<Staged> {
  await using session = await place.openServer("es-mcp");
  const { export_id: exportId } = await exportIndex(new Caller({}), session, place.index);
  const home = join(place.directory, "staging", exportId);
  const files = (await readdir(home)).filter((name) => name.endsWith(".ndjson")).toSorted();
  const parts = files.map((name) => join(home, name));
  const taskOptions = { ...place.taskOptions, schema, parts, copyFile: "" };
  const copyFile = join(place.directory, "products.copy");
  await using writer = await startTask("write-copy-text", { ...taskOptions, copyFile });
  await writer.run();
  return { exportId, taskOptions: { ...taskOptions, copyFile } };
}

function entriesOf(place: Place, target: Target, { exportId, taskOptions }: Staged): Entry[] {
  const { documents } = options;
  const slowDocuments = Math.min(documents, slowDocumentsMax);
  const task = (name: string, documentsMax = documents): Pick<Entry, "open" | "usesPostgres" | "after"> => ({
    usesPostgres: true,
    open: () => startTask(name, { ...taskOptions, documentsMax }),
    after: () => target.check(documentsMax, documents),
  });
  const before = (): Promise<void> => target.empty();
  const load = (env: Record<string, string> = {}): Pick<Entry, "open" | "usesPostgres" | "after"> => ({
    ...task(""),
    open: () =>
      openServer(place, target, env, async (caller, session) => {
        const args = { table: "products", schema: target.schema, export_id: exportId, fresh: true };
        const { load_id: loadId, figures } = await loadExport(caller, session, args);
        if (figures.rejected > 0) throw new Error(`${figures.rejected} documents were rejected`);
        last.loadId = loadId;
        return { documents: figures.staged, bytes: 0 };
      }),
  });
  const verify = (): Pick<Entry, "open" | "usesPostgres" | "after"> => ({
    ...task(""),
    open: () =>
      openServer(place, target, {}, async (caller, session) => {
        const { matched, missing, different } = await verifyLoad(caller, session, last.loadId);
        if (missing + different > 0) throw new Error(`${missing} rows are missing, ${different} are different`);
        return { documents: matched, bytes: 0 };
      }),
  });
  /** The load that was made last, for who proves it. */
  const last = { loadId: "" };
  return [
    { name: "COPY of ready text, temporary table, upsert (floor)", floor: true, before, ...task("copy-and-upsert") },
    { name: "  floor again: every row rewritten", ...task("copy-and-upsert") },
    { name: "COPY of ready text into the table", before, ...task("copy-into-table") },
    { name: "JSON.parse and coerce, then as the floor", before, ...task("parse-and-coerce") },
    { name: "JSON.parse, multi-row VALUES of 100", before, ...task("multi-row-values", slowDocuments) },
    { name: "pg-mcp bulk_insert, one part at a time", before, ...load({ PG_MCP_PARTS_AT_ONCE: "1" }) },
    { name: "pg-mcp bulk_insert", before, ...load() },
    { name: "  bulk_insert again: every row unchanged", ...load() },
    { name: "  verify_load of that bulk_insert", ...verify() },
  ];
}

/** A pg-mcp that has its connection, and what is measured of it. */
async function openServer(
  place: Place,
  { schema, stateSchema }: Target,
  env: Record<string, string>,
  work: (caller: Caller, session: Session) => Promise<Moved>,
): Promise<Contender & AsyncDisposable> {
  const session = await place.openServer("pg-mcp", { PG_MCP_STATE_SCHEMA: stateSchema, ...env });
  const caller = new Caller({});
  // The connection is opened by the first request; the floors have theirs open too.
  await caller.call(session, "get_schema", { table: "products", schema });
  return {
    pids: session.pid === null ? [] : [session.pid],
    run: () => work(caller, session),
    [Symbol.asyncDispose]: () => session.close(),
  };
}
