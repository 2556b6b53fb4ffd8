import type { Readable } from "node:stream";
import type { Client } from "@elastic/elasticsearch";

const pageDocuments = 10_000;
/** As es-mcp cuts them: a page costs Elasticsearch its whole slice. */
const sliceDocuments = 100_000;
const keepAlive = "5m";
/** Holds the sort values of the last hit and all brackets after it. */
const tailBytes = 128;

/** Takes one page's bytes from the wire and returns at least the last bytes of it. */
export type TakePage = (body: Readable) => Promise<Buffer>;

/**
 * Reads an index through a point in time, slice by slice and page by page over the official client's transport. The
 * next page is on its way while one is in use. `take` gets each page as a stream, so that it decides what is kept.
 */
export async function* readPages(client: Client, index: string, take: TakePage): AsyncGenerator<Buffer> {
  const { count } = await client.count({ index });
  const slices = Math.max(1, Math.ceil(count / sliceDocuments));
  const { id } = await client.openPointInTime({ index, keep_alive: keepAlive });
  const page = async (slice: number, after: unknown): Promise<Buffer> => {
    const body = {
      size: pageDocuments,
      query: { match_all: {} },
      pit: { id, keep_alive: keepAlive },
      sort: [{ _shard_doc: "asc" }],
      seq_no_primary_term: true,
      track_total_hits: false,
      ...(slices > 1 ? { slice: { id: slice, max: slices } } : {}),
      ...(after === undefined ? {} : { search_after: after }),
    };
    const answer = await client.transport.request<Readable>(
      { method: "POST", path: "/_search", body: JSON.stringify(body) },
      { asStream: true, meta: false, headers: { "content-type": "application/json", accept: "application/json" } },
    );
    return await take(answer);
  };
  try {
    for (let slice = 0; slice < slices; slice++) {
      let next = page(slice, undefined);
      for (;;) {
        const bytes = await next;
        const after = lastSort(bytes);
        if (after === undefined) break;
        next = page(slice, after);
        next.catch(() => {});
        yield bytes;
      }
    }
  } finally {
    await client.closePointInTime({ id });
  }
}

function lastSort(page: Buffer): unknown {
  const tail = page.toString("latin1", Math.max(0, page.length - tailBytes));
  const values = /"sort":(\[-?\d+\])\}\]\}\}\s*$/.exec(tail)?.[1];
  return values === undefined ? undefined : JSON.parse(values);
}

/** Keeps a whole page. */
export async function wholePage(body: Readable): Promise<Buffer> {
  const chunks: Buffer[] = [];
  for await (const chunk of body) if (Buffer.isBuffer(chunk)) chunks.push(chunk);
  return Buffer.concat(chunks);
}

/** Keeps the end of a page only and counts the rest: nothing that reads pages can cost less. */
export function countedPage(count: (bytes: number) => void): TakePage {
  return async (body) => {
    let tail: Buffer = Buffer.alloc(0);
    body.on("data", (chunk: Buffer) => {
      count(chunk.length);
      tail = chunk.length >= tailBytes ? chunk : Buffer.concat([tail, chunk]).subarray(-tailBytes);
    });
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    body.once("end", resolve).once("error", reject);
    await promise;
    return tail;
  };
}
