import { Readable } from "node:stream";
import type { Client as Elasticsearch } from "@elastic/elasticsearch";
import { connect as connectElasticsearch } from "./export-tasks.ts";
import { connect, copyText, insertValues, throughTemporary } from "./load-tasks.ts";
import type { Product } from "./rows.ts";
import type { Task } from "./task.ts";

/** The helper's default is a thousand; careful scripts take more. */
const usualDocuments = 1_000;
const carefulDocuments = 5_000;

/** The client's scroll helper and a multi-row INSERT for every hundred documents. */
const usualScript: Task = async (options) => {
  const source = await connectElasticsearch(options.elasticsearchUrl);
  const { client, table } = await connect(options);
  return async () =>
    await insertValues(client, table, scrolled(source, options.index, usualDocuments), options.documentsMax);
};

/** The client's scroll helper, COPY into a temporary table and one upsert. */
const carefulScript: Task = async (options) => {
  const source = await connectElasticsearch(options.elasticsearchUrl);
  const { client, table } = await connect(options);
  return async () => {
    const moved = { documents: 0, bytes: 0 };
    const text = copyText(scrolled(source, options.index, carefulDocuments), moved);
    await throughTemporary(client, table, Readable.from(text));
    return moved;
  };
};

export const etlTasks: Record<string, Task> = { "usual-script": usualScript, "careful-script": carefulScript };

async function* scrolled(
  source: Elasticsearch,
  index: string,
  size: number,
): AsyncGenerator<{ document: Product; bytes: number }> {
  for await (const document of source.helpers.scrollDocuments<Product>({ index, size, sort: ["_doc"] })) {
    yield { document, bytes: 0 };
  }
}
