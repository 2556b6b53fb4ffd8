import { createReadStream, createWriteStream } from "node:fs";
import { stat } from "node:fs/promises";
import { Readable } from "node:stream";
import { pipeline } from "node:stream/promises";
import { Client } from "pg";
import { from as copyFrom } from "pg-copy-streams";
import type { Moved } from "./measure.ts";
import { columns, copyLine, type Product, parsedDocuments, upsert } from "./rows.ts";
import type { Task } from "./task.ts";

/** Rows of one statement of the usual script. */
const valuesRows = 100;
/** Characters of COPY text put together before they are sent. */
const chunkCharacters = 64 * 1024;

/** Not a contender: makes the COPY text that the floors read. */
const writeCopyText: Task = async ({ parts, copyFile }) => {
  return async () => {
    const moved = { documents: 0, bytes: 0 };
    await pipeline(Readable.from(copyText(parsedDocuments(parts), moved)), createWriteStream(copyFile));
    return moved;
  };
};

/** Ready text straight into the table. */
const copyIntoTable: Task = async (options) => {
  const { client, table, ready } = await connect(options);
  return async () => {
    await pipeline(createReadStream(options.copyFile), client.query(copyFrom(copyStatement(table))));
    return ready;
  };
};

/** Ready text into a temporary table and from there into the table: the floor of every load that may meet rows. */
const copyAndUpsert: Task = async (options) => {
  const { client, table, ready } = await connect(options);
  return async () => {
    await throughTemporary(client, table, createReadStream(options.copyFile));
    return ready;
  };
};

/** Documents parsed and coerced, then as the floor. */
const parseAndCoerce: Task = async (options) => {
  const { client, table } = await connect(options);
  return async () => {
    const moved = { documents: 0, bytes: 0 };
    await throughTemporary(client, table, Readable.from(copyText(parsedDocuments(options.parts), moved)));
    return moved;
  };
};

/** Documents parsed, and a statement and transaction for every hundred. */
const multiRowValues: Task = async (options) => {
  const { client, table } = await connect(options);
  return async () => await insertValues(client, table, parsedDocuments(options.parts), options.documentsMax);
};

export const loadTasks: Record<string, Task> = {
  "write-copy-text": writeCopyText,
  "copy-into-table": copyIntoTable,
  "copy-and-upsert": copyAndUpsert,
  "parse-and-coerce": parseAndCoerce,
  "multi-row-values": multiRowValues,
};

/** A connection, the table's name, and what the ready text holds. */
export async function connect(options: {
  databaseUrl?: string | undefined;
  schema: string;
  copyFile: string;
  documentsMax: number;
}): Promise<{ client: Client; table: string; ready: Moved }> {
  const client = new Client({ connectionString: options.databaseUrl });
  await client.connect();
  const bytes = options.copyFile === "" ? 0 : (await stat(options.copyFile)).size;
  return { client, table: `${options.schema}.products`, ready: { documents: options.documentsMax, bytes } };
}

function copyStatement(table: string): string {
  return `COPY ${table} (${columns.join(", ")}) FROM STDIN`;
}

/** COPY into a temporary table and upsert from there, in one transaction. */
export async function throughTemporary(client: Client, table: string, text: Readable): Promise<void> {
  await client.query("BEGIN");
  await client.query(`CREATE TEMPORARY TABLE staged (LIKE ${table}) ON COMMIT DROP`);
  await pipeline(text, client.query(copyFrom(copyStatement("staged"))));
  await client.query(upsert(table, `SELECT ${columns.join(", ")} FROM staged`));
  await client.query("COMMIT");
}

/** COPY text of documents, in chunks; counts what passes. */
export async function* copyText(
  documents: AsyncIterable<{ document: Product; bytes: number }>,
  moved: Moved,
): AsyncGenerator<Buffer> {
  let text = "";
  for await (const { document, bytes } of documents) {
    text += copyLine(document);
    moved.documents++;
    moved.bytes += bytes;
    if (text.length < chunkCharacters) continue;
    yield Buffer.from(text);
    text = "";
  }
  if (text !== "") yield Buffer.from(text);
}

/** Multi-row INSERT of at most `documentsMax` documents, each statement a transaction of its own. */
export async function insertValues(
  client: Client,
  table: string,
  documents: AsyncIterable<{ document: Product; bytes: number }>,
  documentsMax: number,
): Promise<Moved> {
  const moved = { documents: 0, bytes: 0 };
  let values: unknown[] = [];
  const flush = async (): Promise<void> => {
    const rows = values.length / columns.length;
    if (rows === 0) return;
    await client.query(upsert(table, `VALUES ${placeholders(rows)}`), values);
    values = [];
  };
  for await (const { document, bytes } of documents) {
    values.push(...columns.map((column) => document[column]));
    moved.documents++;
    moved.bytes += bytes;
    if (values.length === valuesRows * columns.length) await flush();
    if (moved.documents === documentsMax) break;
  }
  await flush();
  return moved;
}

function placeholders(rows: number): string {
  return Array.from(
    { length: rows },
    (_, row) => `(${columns.map((_column, column) => `$${row * columns.length + column + 1}`).join(",")})`,
  ).join(",");
}
