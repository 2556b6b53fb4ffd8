import { createLogger, Jobs, readSettings } from "@es-to-pg/mcp-kit";
import { openStore } from "@es-to-pg/staging";
import { esSettings } from "../src/config.ts";
import { createElasticsearch } from "../src/elasticsearch/gateway.ts";
import { startExport } from "../src/export/start-export.ts";

/** A process that exports and is killed by its test: `export-child.ts <elasticsearch> <staging root> <index>`. */
const [url = "", root = "", index = ""] = process.argv.slice(2);
const store = await openStore({ url: `file://${root}`, leaseMs: 1500 });
const context = {
  elasticsearch: createElasticsearch(readSettings(esSettings, { ELASTICSEARCH_URL: url })),
  store,
  jobs: new Jobs(),
  logger: createLogger({ level: "error" }),
  partDocumentsMax: 250,
};
const started = await startExport(
  context,
  {
    index: [index],
    query: undefined,
    fields: undefined,
    maxDocuments: undefined,
    includeHidden: false,
    since: undefined,
  },
  { fresh: false, signal: new AbortController().signal },
);
process.stdout.write(`${JSON.stringify(started)}\n`);
