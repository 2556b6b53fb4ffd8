import { ToolError } from "@es-to-pg/mcp-kit";
import { expect, test } from "vitest";
import type { Elasticsearch, EsRequest, IndexName } from "./elasticsearch.ts";
import { listIndices } from "./listing.ts";

const { signal } = new AbortController();

function none(): never {
  throw new Error("no answer is written for this");
}

/** Answers written after Elasticsearch's documentation: the engine of the integration tests has no data streams. */
function written(indices: IndexName[], answer: (request: EsRequest) => unknown): Elasticsearch {
  return {
    restricted: false,
    recentIndex: () => undefined,
    names: async () => ({ indices, leftOut: [], isExact: true }),
    json: async (request) => answer(request),
    bytes: none,
    resolve: none,
    mappings: none,
    mapping: none,
    clusterUuid: none,
    close: none,
  };
}

function backing(at: number): IndexName {
  return { name: `.ds-logs-app-2026.11.2${at}-00000${at}`, hidden: true, aliases: [], dataStream: "logs-app" };
}

const plain: IndexName = { name: "products", hidden: false, aliases: ["shop"], dataStream: null };

test("a data stream is one row: counted once, sizes added, the worst health", async () => {
  const requests: EsRequest[] = [];
  const elasticsearch = written([backing(1), backing(2), plain], (request) => {
    requests.push(request);
    if (request.path[0] === "_msearch") {
      return { responses: [{ hits: { total: { value: 30 } } }, { hits: { total: { value: 5 } } }] };
    }
    return [
      { index: backing(1).name, health: "green", "pri.store.size": "1000" },
      { index: backing(2).name, health: "yellow", "pri.store.size": "500" },
      { index: "products", health: "green", "pri.store.size": "7" },
    ];
  });
  const listing = await listIndices(
    elasticsearch,
    { pattern: "*", includeHidden: false, after: undefined, rowsMax: 10 },
    signal,
  );
  expect(listing.rows).toEqual([
    {
      name: "logs-app",
      documents: 30,
      bytes: 1_500,
      health: "yellow",
      aliases: [],
      data_stream: true,
      backing_indices: 2,
      hidden: false,
    },
    {
      name: "products",
      documents: 5,
      bytes: 7,
      health: "green",
      aliases: ["shop"],
      data_stream: false,
      backing_indices: null,
      hidden: false,
    },
  ]);
  const counted = requests.find(({ path }) => path[0] === "_msearch")?.lines;
  expect(counted?.[0]).toEqual({ index: [backing(1).name, backing(2).name] });
});

test("only the rows of a page are counted, after the one that was given last", async () => {
  const indices = ["a", "b", "c", "d"].map((name) => ({ ...plain, name }));
  const asked: unknown[] = [];
  const elasticsearch = written(indices, ({ path, lines }) => {
    if (path[0] !== "_msearch") throw new ToolError("forbidden", "no");
    asked.push(...(lines ?? []));
    return { responses: [{ hits: { total: { value: 1 } } }, { error: { type: "index_not_found_exception" } }] };
  });
  const listing = await listIndices(
    elasticsearch,
    { pattern: "*", includeHidden: false, after: "a", rowsMax: 2 },
    signal,
  );
  expect(listing.rows.map(({ name, documents, bytes }) => [name, documents, bytes])).toEqual([
    ["b", 1, null],
    ["c", null, null],
  ]);
  expect(listing).toMatchObject({ total: 4, lastName: "d", notPermitted: ["bytes", "health"] });
  expect(asked).toHaveLength(4);
});
