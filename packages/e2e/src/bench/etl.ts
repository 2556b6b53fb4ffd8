/**
 * `npm run bench:etl`: carries an index into a table by both servers, one after the other and with overlap, and by the
 * scripts that people write, and prints rows per second, CPU and memory against the servers in series.
 */
import { Caller, exportIndex, followExport, loadExport, startExport } from "../course.ts";
import { benchOptions, type Entry, main, type Place, runBench } from "./bench.ts";
import type { Contender, Moved } from "./measure.ts";
import { openTarget, type Target } from "./target.ts";
import { startTask } from "./task.ts";

/** What is far slower than the rest moves only so many documents. */
const slowDocumentsMax = 100_000;

const options = benchOptions("Usage: npm run bench:etl -- [options]");
await main(options, async (place) => {
  const target = await openTarget(place.engines.databaseUrl);
  place.atEnd(() => target.remove());
  await runBench("End to end", options, place, entriesOf(place, target));
});

function entriesOf(place: Place, target: Target): Entry[] {
  const { documents } = options;
  const common = (documentsMax = documents): Pick<Entry, "before" | "after" | "usesPostgres"> => ({
    usesPostgres: true,
    before: () => target.empty(),
    after: () => target.check(documentsMax, documents),
  });
  const task = (name: string, documentsMax = documents): Omit<Entry, "name"> => ({
    ...common(documentsMax),
    open: () => startTask(name, { ...place.taskOptions, schema: target.schema, documentsMax }),
  });
  const servers = (run: Run, env: Record<string, string> = {}): Omit<Entry, "name"> => ({
    ...common(),
    open: () => openServers(place, target, env, run),
  });
  return [
    { name: "bulk_export, then bulk_insert (series)", floor: true, ...servers(inSeries) },
    { name: "  the same, one part of the load at a time", ...servers(inSeries, { PG_MCP_PARTS_AT_ONCE: "1" }) },
    { name: "bulk_insert follows bulk_export (overlap)", ...servers(withOverlap) },
    { name: "careful script: helper, parse, COPY, upsert", ...task("careful-script") },
    {
      name: "usual script: helper, parse, VALUES of 100",
      ...task("usual-script", Math.min(documents, slowDocumentsMax)),
    },
  ];
}

interface Servers {
  place: Place;
  caller: Caller;
  es: Awaited<ReturnType<Place["openServer"]>>;
  pg: Awaited<ReturnType<Place["openServer"]>>;
  /** Arguments of bulk_insert but the export. */
  target: { table: string; schema: string; fresh: true };
}
type Run = (servers: Servers) => Promise<Moved & { exportId: string }>;

async function inSeries({ place, caller, es, pg, target }: Servers): Promise<Moved & { exportId: string }> {
  const { export_id: exportId, bytes } = await exportIndex(caller, es, place.index);
  const { figures } = await loadExport(caller, pg, { ...target, export_id: exportId });
  return { documents: figures.staged, bytes, exportId };
}

async function withOverlap({ place, caller, es, pg, target }: Servers): Promise<Moved & { exportId: string }> {
  const started = await startExport(caller, es, place.index);
  const [{ bytes }, { figures }] = await Promise.all([
    followExport(caller, es, started),
    loadExport(caller, pg, { ...target, export_id: started.export_id }),
  ]);
  return { documents: figures.staged, bytes, exportId: started.export_id };
}

async function openServers(
  place: Place,
  target: Target,
  env: Record<string, string>,
  run: Run,
): Promise<Contender & AsyncDisposable> {
  const { schema, stateSchema } = target;
  const es = await place.openServer("es-mcp");
  const pg = await place.openServer("pg-mcp", { PG_MCP_STATE_SCHEMA: stateSchema, ...env });
  const caller = new Caller({});
  // Connections are opened by the first request; the scripts have theirs open too.
  await caller.call(es, "count_documents", { index: place.index });
  await caller.call(pg, "get_schema", { table: "products", schema });
  let exportId: string | undefined;
  return {
    pids: [es.pid, pg.pid].filter((pid) => pid !== null),
    async run() {
      const moved = await run({ place, caller, es, pg, target: { table: "products", schema, fresh: true } });
      exportId = moved.exportId;
      return moved;
    },
    async [Symbol.asyncDispose]() {
      if (exportId !== undefined) await es.call("delete_export", { export_id: exportId });
      await es.close();
      await pg.close();
    },
  };
}
