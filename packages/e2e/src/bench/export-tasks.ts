import { open } from "node:fs/promises";
import { join } from "node:path";
import { Client } from "@elastic/elasticsearch";
import { countedPage, readPages, wholePage } from "./pages.ts";
import type { Task } from "./task.ts";

const scrollDocuments = 5_000;

/** What is used of a page; a benchmark's own index needs no check beyond this. */
interface ParsedPage {
  hits: { hits: { _index: string; _id: string; _source: unknown }[] };
}

/** The bytes from the wire, and nothing done with them. */
const readRaw: Task = async ({ elasticsearchUrl, index }) => {
  const client = await connect(elasticsearchUrl);
  const { count: documents } = await client.count({ index });
  return async () => {
    let bytes = 0;
    const take = countedPage((length) => {
      bytes += length;
    });
    for await (const _ of readPages(client, index, take));
    return { documents, bytes };
  };
};

/** Each page parsed, each document written as a line again. */
const parseAndRewrite: Task = async ({ elasticsearchUrl, index, directory }) => {
  const client = await connect(elasticsearchUrl);
  return async () => {
    const file = await open(join(directory, "parsed.ndjson"), "w");
    const moved = { documents: 0, bytes: 0 };
    for await (const bytes of readPages(client, index, wholePage)) {
      const parsed: ParsedPage = JSON.parse(bytes.toString());
      const { hits } = parsed.hits;
      const lines = Buffer.from(
        hits.map(({ _index, _id, _source }) => `${JSON.stringify({ _index, _id, _source })}\n`).join(""),
      );
      await file.writeFile(lines);
      moved.documents += hits.length;
      moved.bytes += lines.length;
    }
    await file.sync();
    await file.close();
    return moved;
  };
};

/** What the client's documentation offers for reading everything. */
const clientHelper: Task = async ({ elasticsearchUrl, index, directory }) => {
  const client = await connect(elasticsearchUrl);
  return async () => {
    const file = await open(join(directory, "helper.ndjson"), "w");
    const moved = { documents: 0, bytes: 0 };
    let lines: string[] = [];
    const flush = async (): Promise<void> => {
      const bytes = Buffer.from(lines.join(""));
      await file.writeFile(bytes);
      moved.documents += lines.length;
      moved.bytes += bytes.length;
      lines = [];
    };
    for await (const document of client.helpers.scrollDocuments({ index, size: scrollDocuments, sort: ["_doc"] })) {
      lines.push(`${JSON.stringify(document)}\n`);
      if (lines.length === scrollDocuments) await flush();
    }
    await flush();
    await file.sync();
    await file.close();
    return moved;
  };
};

export const exportTasks: Record<string, Task> = {
  "read-raw": readRaw,
  "parse-and-rewrite": parseAndRewrite,
  "client-helper": clientHelper,
};

/** A client whose connection is open. */
export async function connect(elasticsearchUrl: string): Promise<Client> {
  const client = new Client({ node: elasticsearchUrl });
  await client.cluster.health();
  return client;
}
