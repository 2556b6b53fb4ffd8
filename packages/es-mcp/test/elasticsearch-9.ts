import { createServer, type IncomingMessage } from "node:http";

/** A request, as Elasticsearch has to answer it. */
interface Asked {
  method: string;
  path: string;
  query: URLSearchParams;
  headers: IncomingMessage["headers"];
  body: string;
}

export interface Elasticsearch9 extends AsyncDisposable {
  url: string;
  /** Method and path of everything that came. */
  seen: string[];
}

const shards = { total: 1, successful: 1, skipped: 0, failed: 0 };
const index = "products";

/** The documents as they were sent. Vectors are kept outside `_source`, as 9.2 does it. */
const documents = [
  '{"name":"desk","big":9007199254740993,"embedding":[0.5,1.0]}',
  '{"name":"chair","big":2,"embedding":[0.25,-1.0]}',
  '{"name":"lamp","big":3}',
];

/** Parameters of each endpoint that is asked, from the REST specification of 9.2. Any other is refused. */
const parameters: Record<string, string[]> = {
  "GET /_resolve/index/*": ["expand_wildcards"],
  "GET /_cat/indices/*": ["format", "bytes", "h"],
  "GET /_cluster/state/metadata": ["local"],
  "GET /*/_settings": ["flat_settings"],
  "GET /*/_mapping": [],
  "GET /*/_stats/*": ["level"],
  "GET /*/_doc/*": [],
  "POST /*/_refresh": [],
  "POST /*/_pit": ["keep_alive", "preference"],
  "POST /*/_count": [],
  "POST /_msearch": [],
  "POST /*/_search": ["allow_partial_search_results"],
  "POST /_search": ["allow_partial_search_results"],
  "DELETE /_pit": [],
};

const answers: Record<string, (asked: Asked) => unknown> = {
  "GET /_resolve/index/*": () => ({
    indices: [{ name: index, attributes: ["open"], mode: "standard" }],
    aliases: [],
    data_streams: [],
  }),
  "GET /_cat/indices/*": () => [{ index, health: "green", "pri.store.size": "5120" }],
  "GET /_cluster/state/metadata": () => ({
    metadata: {
      cluster_uuid: "nine-two-cluster-uuid",
      indices: { [index]: { primary_terms: { 0: 1 } } },
    },
  }),
  "GET /*/_settings": () => ({
    [index]: {
      settings: {
        "index.number_of_shards": "1",
        "index.number_of_replicas": "1",
        "index.provided_name": index,
        "index.uuid": "Wq3vQn1oRk2l9dAb0cXyZg",
        "index.version.created": "9039003",
      },
    },
  }),
  "GET /*/_mapping": () => ({
    [index]: {
      mappings: {
        properties: {
          name: { type: "keyword" },
          big: { type: "long" },
          embedding: { type: "dense_vector", dims: 2, index: true, similarity: "cosine" },
        },
      },
    },
  }),
  "GET /*/_stats/*": () => ({
    indices: {
      [index]: {
        uuid: "Wq3vQn1oRk2l9dAb0cXyZg",
        primaries: { store: { size_in_bytes: 5120, total_data_set_size_in_bytes: 5120, reserved_in_bytes: 0 } },
        shards: {
          0: [
            {
              routing: { state: "STARTED", primary: true, node: "n", relocating_node: null },
              docs: { count: 3, deleted: 0, total_size_in_bytes: 5120 },
              commit: { id: "c", generation: 3, user_data: { history_uuid: "h" }, num_docs: 3 },
              seq_no: { max_seq_no: 2, local_checkpoint: 2, global_checkpoint: 2 },
            },
          ],
        },
      },
    },
  }),
  "GET /*/_doc/*": ({ path }) => {
    const id = Number(path.split("/").at(-1));
    return raw(
      `{"_index":"${index}","_id":"${id}","_version":1,"_seq_no":${id},"_primary_term":1,"found":true,"_source":${withoutVector(documents[id] ?? "")}}`,
    );
  },
  "POST /*/_refresh": () => ({ _shards: { total: 2, successful: 1, failed: 0 } }),
  "POST /*/_pit": () => ({ id: "nine-pit", _shards: shards }),
  "POST /*/_count": () => ({ count: documents.length, _shards: shards }),
  "POST /_msearch": ({ body }) => ({
    took: 1,
    responses: body
      .trim()
      .split("\n")
      .filter((_, at) => at % 2 === 1)
      .map(() => ({ ...found(), status: 200 })),
  }),
  "POST /*/_search": search,
  "POST /_search": search,
  "DELETE /_pit": () => ({ succeeded: true, num_freed: 1 }),
};

function found() {
  return {
    took: 1,
    timed_out: false,
    _shards: shards,
    hits: { total: { value: documents.length, relation: "eq" }, max_score: null, hits: [] },
  };
}

function search({ body }: Asked): unknown {
  const { size, search_after: after, pit, _source: source } = JSON.parse(body);
  const start = after === undefined ? 0 : Number(after.at(-1)) + 1;
  const hits = documents.slice(start, start + size).map((document, at) => {
    const shown = source?.exclude_vectors === false ? document : withoutVector(document);
    const n = start + at;
    return `{"_index":"${index}","_id":"${n}","_seq_no":${n},"_primary_term":1,"_score":null,"_source":${shown},"sort":[${n}]}`;
  });
  const head = pit === undefined ? "" : `"pit_id":"${pit.id}",`;
  return raw(
    `{${head}"took":1,"timed_out":false,"_shards":${JSON.stringify(shards)},"hits":{"total":{"value":${documents.length},"relation":"eq"},"max_score":null,"hits":[${hits.join(",")}]}}`,
  );
}

/** What 9.2 shows of a document unless it is asked for more. */
function withoutVector(document: string): string {
  return document.replace(/,"embedding":\[[^\]]*\]/, "");
}

/** JSON that must not be written anew: its numbers are more than a double holds. */
function raw(json: string): { raw: string } {
  return { raw: json };
}

/** A media type that 9.2 takes: plain JSON, or that of the version before it or its own. */
function isTaken(mediaType: string): boolean {
  const compatible = /^application\/vnd\.elasticsearch\+(?:x-nd)?json;\s*compatible-with=(\d+)$/.exec(mediaType)?.[1];
  return compatible === undefined ? /^application\/(x-nd)?json$/.test(mediaType) : /^[89]$/.test(compatible);
}

function refusal(type: string, reason: string) {
  return { error: { root_cause: [{ type, reason }], type, reason }, status: 400 };
}

function respond(asked: Asked): { status: number; body: unknown } {
  const { method, path, query, headers } = asked;
  if (method === "HEAD") return { status: 200, body: "" };
  for (const mediaType of [headers.accept, headers["content-type"]]) {
    if (mediaType !== undefined && !isTaken(mediaType)) {
      return {
        status: 400,
        body: refusal("media_type_header_exception", `Invalid media-type value on [${mediaType}]`),
      };
    }
  }
  const known = Object.keys(parameters).find((template) => {
    const [templateMethod, templatePath = ""] = template.split(" ");
    return templateMethod === method && new RegExp(`^${templatePath.replaceAll("*", "[^/]+")}$`).test(path);
  });
  if (known === undefined) {
    return { status: 400, body: { error: `no handler found for uri [${path}] and method [${method}]` } };
  }
  const unknown = [...query.keys()].find((name) => name !== "filter_path" && !parameters[known]?.includes(name));
  if (unknown !== undefined) {
    const reason = `request [${path}] contains unrecognized parameter: [${unknown}]`;
    return { status: 400, body: refusal("illegal_argument_exception", reason) };
  }
  return { status: 200, body: answers[known]?.(asked) };
}

/** A stand-in for Elasticsearch 9.2 with one index of three documents, where no real one is at hand. */
export async function openElasticsearch9(): Promise<Elasticsearch9> {
  const seen: string[] = [];
  const server = createServer((incoming, outgoing) => {
    const chunks: Buffer[] = [];
    incoming.on("data", (chunk: Buffer) => chunks.push(chunk));
    incoming.on("end", () => {
      const { method = "GET", headers } = incoming;
      const { pathname: path, searchParams: query } = new URL(incoming.url ?? "/", "http://stand-in");
      seen.push(`${method} ${path}`);
      const { status, body } = respond({ method, path, query, headers, body: Buffer.concat(chunks).toString("utf8") });
      outgoing.writeHead(status, {
        "x-elastic-product": "Elasticsearch",
        // It answers in the media type that it is asked for.
        "content-type": headers.accept ?? "application/json",
      });
      outgoing.end(isRaw(body) ? body.raw : JSON.stringify(body));
    });
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const address = server.address();
  if (address === null || typeof address === "string") throw new Error("the stand-in has no port");
  return {
    url: `http://127.0.0.1:${address.port}`,
    seen,
    async [Symbol.asyncDispose]() {
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}

function isRaw(body: unknown): body is { raw: string } {
  return typeof body === "object" && body !== null && "raw" in body && typeof body.raw === "string";
}
