#!/usr/bin/env node
/**
 * A third source in one file: an MCP server that stages CSV files, which pg-mcp then loads like any export.
 *
 *     CSV_FOLDER=/data STAGING_URL=file:///staging node packages/examples/dist/csv-mcp.js
 */
import { createReadStream } from "node:fs";
import { lstat, readdir } from "node:fs/promises";
import { join, resolve } from "node:path";
import { pipeline } from "node:stream";
import {
  clip,
  defineSettings,
  digest,
  type Jobs,
  nearest,
  runServer,
  stagingSettings,
  ToolError,
  toolsFor,
  waitSeconds,
} from "@es-to-pg/mcp-kit";
import type { MappingField, StagingStore } from "@es-to-pg/staging";
import { storeAtFirstUse } from "@es-to-pg/staging/at-first-use";
import { CsvError, parse } from "csv-parse";
import { z } from "zod";
import { describeStaged, type StagedDocument, stageDocuments, staged } from "./stage.ts";

const settings = defineSettings({
  ...stagingSettings,
  CSV_FOLDER: {
    schema: z.string({ error: "set it to the folder of the CSV files" }).transform((path) => resolve(path)),
    description: "Folder of the CSV files.",
    example: "/data",
  },
});

interface Context {
  folder: string;
  store: () => Promise<StagingStore>;
  jobs: Jobs;
}

const defineTool = toolsFor<Context>();

/** The files by name, so that no path comes from a caller. */
async function filesIn(folder: string): Promise<string[]> {
  const entries = await readdir(folder, { withFileTypes: true });
  return entries.flatMap((entry) => (entry.isFile() && entry.name.endsWith(".csv") ? [entry.name] : []));
}

/** The rows, or an error that says what is wrong with the file: another encoding or a broken line must not pass for data. */
async function* rowsOf(path: string): AsyncGenerator<Record<string, string>> {
  const parser = parse({ columns: namesOf, skip_empty_lines: true });
  try {
    // Whoever reads the rows hears of a failure, too.
    yield* pipeline(createReadStream(path), decoded, parser, () => {});
  } catch (error) {
    if (error instanceof CsvError) {
      const where = typeof error["lines"] === "number" ? ` in line ${error["lines"]}` : "";
      throw unreadable(`it breaks the rules of CSV${where} (${error.code})`);
    }
    if (error instanceof TypeError) throw unreadable("it is not in UTF-8");
    throw error;
  }
}

async function* decoded(chunks: AsyncIterable<Buffer>): AsyncGenerator<string> {
  const decoder = new TextDecoder("utf-8", { fatal: true });
  for await (const chunk of chunks) yield decoder.decode(chunk, { stream: true });
  yield decoder.decode();
}

/** The header. Of two columns of one name, one would be lost. */
function namesOf(header: string[]): string[] {
  const twice = header.find((name, at) => header.indexOf(name) !== at);
  if (twice === undefined) return header;
  throw unreadable(`two of its columns are called ${clip(JSON.stringify(twice), 100)}`);
}

function unreadable(why: string): ToolError {
  return new ToolError("file_unreadable", `The file cannot be read: ${why}.`, { next: "Have the file put right." });
}

/** What a first pass learns: how many rows there are, and which columns hold nothing but numbers. */
interface Survey {
  rows: number;
  mapping: MappingField[];
  /** Changes when the file does. */
  version: string;
}

async function survey(path: string): Promise<Survey> {
  const version = await versionOf(path);
  const columns = new Map<string, { isInteger: boolean; isDecimal: boolean; scale: number }>();
  let rows = 0;
  for await (const row of rowsOf(path)) {
    rows++;
    for (const [name, value] of Object.entries(row)) {
      const column = columns.get(name) ?? { isInteger: true, isDecimal: true, scale: 0 };
      columns.set(name, column);
      if (value === "") continue;
      // What begins with a zero is a code, of which a number would lose the zero.
      column.isInteger &&= /^(0|-?[1-9]\d{0,17})$/.test(value);
      column.isDecimal &&= /^-?(0|[1-9]\d*)(\.\d+)?$/.test(value);
      column.scale = Math.max(column.scale, value.split(".")[1]?.length ?? 0);
    }
  }
  // Types are spelt as Elasticsearch spells them: propose_mapping makes PostgreSQL's of them.
  const mapping = [...columns].map(([name, { isInteger, isDecimal, scale }]): MappingField => {
    if (isInteger) return { path: name, type: "long" };
    return isDecimal
      ? { path: name, type: "scaled_float", scaling_factor: 10 ** scale }
      : { path: name, type: "keyword" };
  });
  return { rows, mapping, version };
}

async function versionOf(path: string): Promise<string> {
  const { mtimeMs, size } = await lstat(path);
  return `${mtimeMs}-${size}`;
}

/** The rows as documents. An empty cell is no value; everything else stays the text that it is. */
async function* documentsOf(path: string, file: string, { version }: Survey, idColumn: string | undefined) {
  let line = 0;
  for await (const row of rowsOf(path)) {
    line++;
    const values = Object.entries(row).filter(([, value]) => value !== "");
    const id = idColumn === undefined ? String(line) : (row[idColumn] ?? "");
    yield { index: file, id, source: JSON.stringify(Object.fromEntries(values)) } satisfies StagedDocument;
  }
  if ((await versionOf(path)) !== version) throw new Error(`${file} was changed while it was read.`);
}

const listFiles = defineTool({
  name: "list_files",
  title: "List CSV files",
  description: "The CSV files that can be exported. Next: export_csv.",
  input: z.strictObject({}),
  output: z.object({ files: z.array(z.string()) }),
  annotations: { readOnlyHint: true, destructiveHint: false, idempotentHint: true, openWorldHint: false },
  handler: async (_params, { folder }) => ({ files: await filesIn(folder) }),
});

const exportCsv = defineTool({
  name: "export_csv",
  title: "Stage a CSV file",
  description:
    "Copies all rows of a CSV file with a header into staging and answers a handle (exp_…) for pg-mcp: propose_mapping, bulk_insert, verify_load.",
  input: z.strictObject({
    file: z.string().describe("Name as list_files gives it."),
    id_column: z.string().optional().describe("Column that identifies a row. Default: the row's number."),
    wait_seconds: waitSeconds,
  }),
  output: staged,
  annotations: { readOnlyHint: false, destructiveHint: false, idempotentHint: true, openWorldHint: false },
  async handler({ file, id_column: idColumn, wait_seconds }, context) {
    const { folder, jobs } = context;
    const files = await filesIn(folder);
    if (!files.includes(file)) {
      throw new ToolError("file_not_found", `There is no file ${file}.`, {
        details: { nearest: nearest(file, files) },
      });
    }
    const path = join(folder, file);
    const surveyed = await survey(path);
    const columns = surveyed.mapping.map((field) => field.path);
    if (idColumn !== undefined && !columns.includes(idColumn)) {
      throw new ToolError("column_not_found", `${file} has no column ${idColumn}.`, {
        details: { nearest: nearest(idColumn, columns) },
      });
    }
    const store = await context.store();
    const requestDigest = digest({ csv: path, idColumn, version: surveyed.version });
    const { exports } = await store.list();
    const equal = exports.find(
      (one) =>
        one.request_digest === requestDigest && ["working", "completed"].includes(one.status) && !store.isStalled(one),
    );
    const exportId = equal?.export_id ?? (await start());
    return await describeStaged(store, exportId, { jobs, waitSeconds: wait_seconds ?? 20, call: context });

    async function start(): Promise<string> {
      const documents = surveyed.rows;
      const writer = await store.create({
        request_digest: requestDigest,
        mapping: surveyed.mapping,
        source: {
          cluster_uuid: "csv",
          indices: [{ name: file, uuid: surveyed.version, shards: 1, source_mode: "stored", documents }],
          query: null,
          fields: null,
          max_documents: null,
          since: null,
          method: "other",
          pit_time: new Date().toISOString(),
          expected: documents,
        },
      });
      const { export_id: started } = writer.manifest;
      jobs.start(started, (signal) => stageDocuments(writer, documentsOf(path, file, surveyed, idColumn), signal));
      return started;
    }
  },
});

await runServer({
  name: "csv-mcp",
  title: "CSV files to staging",
  version: "0.1.0",
  instructions:
    "Stages CSV files for PostgreSQL. Call list_files, then export_csv; give its handle (exp_…) to pg-mcp. Rows never pass through this conversation.",
  settings,
  async open(values, { jobs }) {
    const store = storeAtFirstUse(values);
    return {
      tools: [listFiles, exportCsv],
      context: { folder: values.CSV_FOLDER, store, jobs },
      ready: async () => (await store()).probe(),
      close: async () => {},
    };
  },
});
