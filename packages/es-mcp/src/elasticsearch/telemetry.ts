import { databaseDuration, type Operation } from "@es-to-pg/mcp-kit";
import type { EsRequest } from "./elasticsearch.ts";

/**
 * A request to Elasticsearch, as the semantic conventions of databases have it, but for what can hold values: its body,
 * and its address, which has a document's id in it.
 */
export function requestOperation(
  { method, path }: Pick<EsRequest, "method" | "path">,
  nodes: readonly URL[],
): Operation {
  const at = path.findIndex((segment) => segment.startsWith("_"));
  const name = operationName(method, path.slice(at));
  const index = path[at - 1];
  const only = nodes.length === 1 ? nodes[0] : undefined;
  return {
    name: index === undefined ? name : `${name} ${index}`,
    kind: "client",
    attributes: {
      "db.system.name": "elasticsearch",
      "db.operation.name": name,
      "http.request.method": method,
      ...(index === undefined ? {} : { "db.collection.name": index }),
      ...(only === undefined ? {} : { "server.address": only.hostname, "server.port": portOf(only) }),
    },
    duration: databaseDuration,
  };
}

/** `search` of `POST /{index}/_search`; only requests of the permitted templates come here, so there are few of them. */
function operationName(method: string, [api = "", more]: readonly string[]): string {
  if (api === "_pit") return method === "DELETE" ? "close_point_in_time" : "open_point_in_time";
  if (more === "scroll") return method === "DELETE" ? "clear_scroll" : "scroll";
  return api === "_doc" ? "get" : api.slice(1);
}

function portOf({ port, protocol }: URL): number {
  return port === "" ? (protocol === "https:" ? 443 : 80) : Number(port);
}
