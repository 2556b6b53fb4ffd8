import type { EsRequest } from "./elasticsearch.ts";
import { isRecord } from "./record.ts";

/**
 * Everything that can be asked of Elasticsearch: the requests that read, and the two that let go of a snapshot.
 * `{index}` never begins with an underscore, so that no template can be bent into another one.
 */
const TEMPLATES = new Set([
  "GET /_resolve/index/{index}",
  "GET /{index}/_settings",
  "GET /{index}/_mapping",
  "GET /{index}/_alias",
  "GET /{index}/_stats/{metric}",
  "GET /_cat/indices/{index}",
  "GET /_cluster/state/metadata",
  "GET /{index}/_doc/{id}",
  "POST /{index}/_count",
  "POST /{index}/_search",
  "POST /{index}/_field_caps",
  "POST /{index}/_refresh",
  "POST /{index}/_pit",
  "DELETE /_pit",
  "POST /_search",
  "POST /_search/scroll",
  "DELETE /_search/scroll",
  "POST /_msearch",
]);

/**
 * What stands beside a caller's query, aggregations and sort in a search. Everything else that Elasticsearch takes there
 * (suggesters whose collate runs a query, runtime fields, script fields, retrievers, rescorers) cannot be asked for.
 */
const SEARCH_MEMBERS = new Set([
  "query",
  "aggs",
  "sort",
  "size",
  "highlight",
  "pit",
  "search_after",
  "slice",
  "track_total_hits",
  "terminate_after",
  "timeout",
  "seq_no_primary_term",
  "version",
  "_source",
]);

/** Refuses a search with a part that no search of this server has. It would be a programmer's error. */
function refuseMembers({ path, body }: EsRequest): void {
  if (path.at(-1) !== "_search" || !isRecord(body)) return;
  const strange = Object.keys(body).find((member) => !SEARCH_MEMBERS.has(member));
  if (strange !== undefined) throw new Error(`${JSON.stringify(strange)} is not part of a search of this server`);
}

/** Elasticsearch refuses a request line beyond 4 096 bytes (`http.max_initial_line_length`); the rest is for the query string. */
export const PATH_BYTES_MAX = 3_600;

/** The path of a permitted request, percent-encoded. A request beyond the list is a programmer's error. */
export function pathOf(request: EsRequest): string {
  const { method, path } = request;
  const known = [...TEMPLATES].some((template) => {
    const [templateMethod, templatePath = ""] = template.split(" ");
    const parts = templatePath.slice(1).split("/");
    return (
      templateMethod === method &&
      parts.length === path.length &&
      parts.every((part, at) => matches(part, path[at] ?? ""))
    );
  });
  if (!known) throw new Error(`${method} /${path.join("/")} is not a request of this server`);
  refuseMembers(request);
  return `/${path.map((segment) => encodeURIComponent(segment).replaceAll("%2C", ",").replaceAll("%2A", "*")).join("/")}`;
}

function matches(part: string, segment: string): boolean {
  if (segment === "" || segment === "." || segment === "..") return false;
  if (part === "{id}") return true;
  if (part === "{index}") return !segment.split(",").some((name) => name === "" || name.startsWith("_"));
  if (part === "{metric}") return /^[a-z_,]+$/.test(segment);
  return part === segment;
}

/** Names joined by commas, in as few texts as a request's path can hold. */
export function inPaths(names: readonly string[]): string[] {
  const paths: string[] = [];
  let bytes = 0;
  for (const name of names) {
    const nameBytes = encodeURIComponent(name).length + 1;
    const last = paths.length - 1;
    if (last >= 0 && bytes + nameBytes <= PATH_BYTES_MAX) {
      paths[last] += `,${name}`;
      bytes += nameBytes;
    } else {
      paths.push(name);
      bytes = nameBytes;
    }
  }
  return paths;
}
