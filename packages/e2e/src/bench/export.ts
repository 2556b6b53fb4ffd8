/**
 * `npm run bench:export`: reads the same index by es-mcp's `bulk_export` and by what else there is, each in a process of
 * its own, and prints rows per second, CPU and memory against the raw read.
 */
import { Caller, exportIndex } from "../course.ts";
import { benchOptions, type Entry, main, type Place, runBench } from "./bench.ts";
import type { Contender, Measured } from "./measure.ts";
import { startTask } from "./task.ts";

const options = benchOptions("Usage: npm run bench:export -- [options]");
await main(options, (place) => runBench("Export", options, place, entriesOf(place)));

function entriesOf(place: Place): Entry[] {
  const task = (name: string) => () => startTask(name, place.taskOptions);
  return [
    { name: "raw point-in-time read (floor)", floor: true, open: task("read-raw"), after: allCame },
    { name: "JSON.parse and rewrite", open: task("parse-and-rewrite"), after: allCame },
    { name: "official client helper", open: task("client-helper"), after: allCame },
    { name: "es-mcp bulk_export", open: () => openExport(place), after: allCame },
  ];
}

async function allCame({ documents }: Measured): Promise<void> {
  if (documents !== options.documents) throw new Error(`${documents} documents came, not ${options.documents}`);
}

async function openExport(place: Place): Promise<Contender & AsyncDisposable> {
  const session = await place.openServer("es-mcp");
  const caller = new Caller({});
  // The client library and the connection are opened by the first request; the floors have theirs open too.
  await caller.call(session, "count_documents", { index: place.index });
  let exportId: string | undefined;
  return {
    pids: session.pid === null ? [] : [session.pid],
    async run() {
      const exported = await exportIndex(caller, session, place.index);
      exportId = exported.export_id;
      return { documents: exported.documents, bytes: exported.bytes };
    },
    async [Symbol.asyncDispose]() {
      if (exportId !== undefined) await session.call("delete_export", { export_id: exportId });
      await session.close();
    },
  };
}
