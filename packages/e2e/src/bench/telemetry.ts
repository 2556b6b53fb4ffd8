/**
 * `npm run bench:telemetry`: exports and loads the same documents by servers that send traces and metrics and by servers
 * that do not, and prints what that costs: CPU and wall time of the first against the second.
 */
import { createServer } from "node:http";
import { Caller, exportIndex, loadExport } from "../course.ts";
import type { Session } from "../servers.ts";
import { benchOptions, type Entry, main, type Place, runBench } from "./bench.ts";
import type { Contender, Moved } from "./measure.ts";
import { openTarget, type Target } from "./target.ts";

const options = benchOptions("Usage: npm run bench:telemetry -- [options]");
await main(options, async (place) => {
  const target = await openTarget(place.engines.databaseUrl);
  place.atEnd(() => target.remove());
  const on = await startCollector(place);
  await runBench("Export, watched and not", options, place, [
    { name: "bulk_export, telemetry off", floor: true, open: () => openExport(place, {}) },
    { name: "bulk_export, traces and metrics by OTLP", open: () => openExport(place, on) },
  ]);
  const exportId = await stage(place);
  const common = {
    usesPostgres: true,
    before: () => target.empty(),
    after: () => target.check(options.documents, options.documents),
  } satisfies Partial<Entry>;
  await runBench("Load, watched and not", options, place, [
    { name: "bulk_insert, telemetry off", floor: true, ...common, open: () => openLoad(place, target, exportId, {}) },
    { name: "bulk_insert, traces and metrics by OTLP", ...common, open: () => openLoad(place, target, exportId, on) },
  ]);
});

/** A collector that takes whatever comes, and the settings that send it there. */
async function startCollector(place: Place): Promise<Record<string, string>> {
  const collector = createServer((request, response) => {
    request.resume().once("end", () => response.writeHead(200).end());
  });
  await new Promise<void>((resolve) => collector.listen(0, "127.0.0.1", resolve));
  place.atEnd(async () => collector.close());
  const address = collector.address();
  if (address === null || typeof address === "string") throw new Error("the collector has no address");
  return {
    OTEL_EXPORTER_OTLP_ENDPOINT: `http://127.0.0.1:${address.port}`,
    OTEL_METRIC_EXPORT_INTERVAL: "10000",
  };
}

async function stage(place: Place): Promise<string> {
  await using session = await place.openServer("es-mcp");
  return (await exportIndex(new Caller({}), session, place.index)).export_id;
}

async function openExport(place: Place, env: Record<string, string>): Promise<Contender & AsyncDisposable> {
  const session = await place.openServer("es-mcp", env);
  const caller = new Caller({});
  // The client library and the connection are opened by the first request.
  await caller.call(session, "count_documents", { index: place.index });
  let exportId: string | undefined;
  return contender(session, {
    async run() {
      const exported = await exportIndex(caller, session, place.index);
      exportId = exported.export_id;
      return { documents: exported.documents, bytes: exported.bytes };
    },
    async after() {
      if (exportId !== undefined) await session.call("delete_export", { export_id: exportId });
    },
  });
}

async function openLoad(
  place: Place,
  { schema, stateSchema }: Target,
  exportId: string,
  env: Record<string, string>,
): Promise<Contender & AsyncDisposable> {
  const session = await place.openServer("pg-mcp", { PG_MCP_STATE_SCHEMA: stateSchema, ...env });
  const caller = new Caller({});
  await caller.call(session, "get_schema", { table: "products", schema });
  return contender(session, {
    async run() {
      const args = { table: "products", schema, export_id: exportId, fresh: true };
      const { figures } = await loadExport(caller, session, args);
      return { documents: figures.staged, bytes: 0 };
    },
  });
}

function contender(
  session: Session,
  work: { run(): Promise<Moved>; after?(): Promise<void> },
): Contender & AsyncDisposable {
  return {
    pids: session.pid === null ? [] : [session.pid],
    run: () => work.run(),
    async [Symbol.asyncDispose]() {
      await work.after?.();
      await session.close();
    },
  };
}
