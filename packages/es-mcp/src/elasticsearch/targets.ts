import { ToolError } from "@es-to-pg/mcp-kit";
import type { IndexName } from "./elasticsearch.ts";
import { numberOf } from "./guard.ts";
import { isRecord } from "./record.ts";
import { PATH_BYTES_MAX } from "./requests.ts";

/** Where a request goes, and the query that keeps it within the expanded indices. */
export interface Targets {
  /** The `{index}` segment. */
  path: string;
  /** The caller's query, restricted where an alias filter or a long list demands it. */
  query: Record<string, unknown>;
  /** Whether the path names more than the query lets through. */
  narrowed: boolean;
}

/** Concrete indices as a path segment. Alias filters, which a concrete name does not carry, go into the query. */
export function targetsOf(indices: readonly IndexName[], query: Record<string, unknown> | undefined): Targets {
  const wanted = query ?? { match_all: {} };
  const names = indices.map(({ name }) => name);
  const path = names.join(",");
  const filter = aliasFilterOf(indices);
  if (pathBytes(path) <= PATH_BYTES_MAX)
    return { path, query: filter === undefined ? wanted : restrict(wanted, filter), narrowed: filter !== undefined };

  // Backing indices have long names, and a stream has many: its own name stands for them, and the filter for the rest.
  const short = [...new Set(indices.map(({ name, dataStream }) => dataStream ?? name))].join(",");
  if (pathBytes(short) <= PATH_BYTES_MAX) {
    const listed = { terms: { _index: names } };
    return {
      path: short,
      query: restrict(wanted, filter === undefined ? listed : { bool: { filter: [listed, filter] } }),
      narrowed: true,
    };
  }
  throw new ToolError("too_many_indices", `${names.length} indices match, more than one request can name.`, {
    next: "Use a narrower pattern, an alias, or several calls.",
    details: { indices: names.length },
  });
}

/** Aggregations over documents that the query does not match: all, and those that its documents are joined with. */
const LOOKING_PAST = new Set(["global", "children", "parent"]);

/** Refuses aggregations that look past a query which keeps the caller within an alias's filter or a list of indices. */
export function refuseLookingPast(aggs: unknown): void {
  if (Array.isArray(aggs)) for (const item of aggs) refuseLookingPast(item);
  if (!isRecord(aggs)) return;
  for (const [key, member] of Object.entries(aggs)) {
    const isPast =
      LOOKING_PAST.has(key) || (key === "terms" && isRecord(member) && (numberOf(member["min_doc_count"]) ?? 1) < 1);
    if (isPast) {
      throw new ToolError(
        "aggregation_refused",
        "The aggregation would tell of documents that are filtered out here.",
        {
          next: "Leave out global, children, parent and min_doc_count 0, or name one index itself instead of an alias or data stream.",
          details: { aggregation: key },
        },
      );
    }
    refuseLookingPast(member);
  }
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
