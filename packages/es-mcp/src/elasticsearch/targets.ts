import { ToolError } from "@es-to-pg/mcp-kit";
import type { IndexName } from "./elasticsearch.ts";
import { isRecord } from "./record.ts";
import { PATH_BYTES_MAX } from "./requests.ts";

/** Where a request goes, and the query that keeps it within the expanded indices. */
export interface Targets {
  /** The `{index}` segment. */
  path: string;
  /** The caller's query, restricted where an alias filter or a long list demands it. */
  query: Record<string, unknown>;
}

/** Concrete indices as a path segment. Alias filters, which a concrete name does not carry, go into the query. */
export function targetsOf(indices: readonly IndexName[], query: Record<string, unknown> | undefined): Targets {
  const wanted = query ?? { match_all: {} };
  const names = indices.map(({ name }) => name);
  const path = names.join(",");
  const filter = aliasFilterOf(indices);
  if (pathBytes(path) <= PATH_BYTES_MAX)
    return { path, query: filter === undefined ? wanted : restrict(wanted, filter) };

  // Backing indices have long names, and a stream has many: its own name stands for them, and the filter for the rest.
  const short = [...new Set(indices.map(({ name, dataStream }) => dataStream ?? name))].join(",");
  if (pathBytes(short) <= PATH_BYTES_MAX) {
    const listed = { terms: { _index: names } };
    return {
      path: short,
      query: restrict(wanted, filter === undefined ? listed : { bool: { filter: [listed, filter] } }),
    };
  }
  throw new ToolError("too_many_indices", `${names.length} indices match, more than one request can name.`, {
    next: "Use a narrower pattern, an alias, or several calls.",
    details: { indices: names.length },
  });
}

/** Refuses the aggregation that looks past the query, and so past an alias filter. */
export function refuseGlobal(aggs: unknown, indices: readonly IndexName[]): void {
  if (aliasFilterOf(indices) === undefined || !hasKey(aggs, "global")) return;
  throw new ToolError("aggregation_refused", "A global aggregation would count documents that the alias filters out.", {
    next: "Leave out the global aggregation, or name the index itself.",
  });
}

function aliasFilterOf(indices: readonly IndexName[]): Record<string, unknown> | undefined {
  const filtered = indices.filter(({ aliasFilter }) => aliasFilter !== undefined);
  if (filtered.length === 0) return undefined;
  const open = indices.filter(({ aliasFilter }) => aliasFilter === undefined).map(({ name }) => name);
  return {
    bool: {
      should: [
        ...(open.length === 0 ? [] : [{ terms: { _index: open } }]),
        ...filtered.map(({ name, aliasFilter }) => ({ bool: { filter: [{ term: { _index: name } }, aliasFilter] } })),
      ],
      minimum_should_match: 1,
    },
  };
}

function restrict(query: Record<string, unknown>, filter: Record<string, unknown>): Record<string, unknown> {
  return { bool: { must: [query], filter: [filter] } };
}

function pathBytes(path: string): number {
  return encodeURIComponent(path).length;
}

function hasKey(value: unknown, key: string): boolean {
  if (Array.isArray(value)) return value.some((item) => hasKey(item, key));
  return isRecord(value) && (key in value || Object.values(value).some((member) => hasKey(member, key)));
}
