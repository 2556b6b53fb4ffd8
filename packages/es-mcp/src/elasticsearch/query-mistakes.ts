import { nearest, ToolError } from "@es-to-pg/mcp-kit";
import { isRecord } from "./record.ts";

/** Kinds of query that Elasticsearch has had since 7.14; a name that is none of them is a field, or a misspelt kind. */
const KINDS = `
  bool boosting constant_score dis_max function_score nested has_child has_parent match match_all
  match_none match_phrase match_phrase_prefix match_bool_prefix multi_match combined_fields
  query_string simple_query_string intervals term terms terms_set range exists prefix wildcard regexp
  fuzzy ids type geo_bounding_box geo_distance geo_polygon geo_shape shape parent_id percolate pinned
  rank_feature distance_feature script script_score more_like_this knn semantic wrapper span_term
  span_near span_or
`
  .trim()
  .split(/\s+/);

/** What stands in a request's body beside its query. */
const BODY_PARTS = ["aggs", "aggregations", "sort", "size", "from", "_source", "highlight", "track_total_hits"];

const BOUNDS = ["gt", "gte", "lt", "lte"];

/** Does the work, and adds the corrected query to the error where Elasticsearch refuses the query as it is written. */
export async function explainingQuery<T>(
  query: Record<string, unknown> | undefined,
  work: () => Promise<T>,
): Promise<T> {
  try {
    return await work();
  } catch (error) {
    const corrected = query === undefined || !isRefusal(error) ? undefined : correctedQuery(query);
    if (corrected === undefined || !(error instanceof ToolError)) throw error;
    throw new ToolError(error.code, error.message, {
      next: `${error.next ?? "Correct the query."} If the call of example is what is meant, make it.`,
      details: error.details,
      instead: { arguments: { query: corrected } },
      cause: error,
    });
  }
}

function isRefusal(error: unknown): boolean {
  return error instanceof ToolError && error.code === "query_invalid";
}

/** The query as it may have been meant, where its first key tells that; undefined where nothing is seen to be wrong. */
export function correctedQuery(query: Record<string, unknown>): Record<string, unknown> | undefined {
  const [[name, value] = ["", undefined], ...others] = Object.entries(query);
  if (name === "") return undefined;
  if (others.length > 0) {
    // Several conditions side by side are all meant to hold.
    const each = Object.entries(query).map(([key, member]) => correctedQuery({ [key]: member }) ?? { [key]: member });
    return { bool: { filter: each } };
  }
  if (name === "range" && isRecord(value)) {
    const [[field, bounds] = ["", undefined], ...more] = Object.entries(value);
    const isBare = typeof bounds === "number" || typeof bounds === "string";
    return isBare && more.length === 0 ? { range: { [field]: { gte: bounds } } } : undefined;
  }
  if (KINDS.includes(name)) return undefined;
  if (typeof value === "string" || typeof value === "number" || typeof value === "boolean") {
    return { match: { [name]: value } };
  }
  if (Array.isArray(value)) return { terms: { [name]: value } };
  if (!isRecord(value)) return undefined;
  const keys = Object.keys(value);
  if (keys.length > 0 && keys.every((key) => BOUNDS.includes(key))) return { range: { [name]: value } };
  const [kind = ""] = nearest(name, KINDS, 1);
  return kind === "" ? undefined : { [kind]: value };
}

/**
 * Models often send the whole body, `{"query": {…}}`, where its query is asked for. `takes` names the arguments that the
 * tool has for the rest of a body.
 */
export function unwrapped(
  query: Record<string, unknown> | undefined,
  takes: readonly string[] = [],
): Record<string, unknown> | undefined {
  if (query === undefined || Object.keys(query).length === 0) return undefined;
  const { query: inner, ...others } = query;
  const beside = Object.entries(isRecord(inner) ? others : query);
  const isBody = beside.length > 0 && beside.every(([name]) => BODY_PARTS.includes(name));
  if (!isBody && !isRecord(inner)) return query;
  if (beside.length === 0 && isRecord(inner)) return inner;
  const moved = beside
    .map(([name, value]): [string, unknown] => [argumentNames[name] ?? name, value])
    .filter(([name]) => takes.includes(name));
  throw new ToolError("query_invalid", "query is the query alone, and not a whole request body.", {
    next: "Give what stands under query; the rest has arguments of its own where the tool takes it. If example is what is meant, call that.",
    details: { beside_query: beside.map(([name]) => name).slice(0, BESIDE_MAX) },
    instead: { arguments: { query: isRecord(inner) ? inner : undefined, ...Object.fromEntries(moved) } },
  });
}

/** What parts of a body are called as arguments. */
const argumentNames: Record<string, string> = { aggregations: "aggs", _source: "fields" };

/** Names that an error quotes from a body that holds too much. */
const BESIDE_MAX = 10;

const SQL = /^\s*select\s.+\sfrom\s/is;

export function isSql(text: string): boolean {
  return SQL.test(text);
}
