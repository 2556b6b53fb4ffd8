import { spelling } from "./meant.ts";
import { nearest } from "./nearest.ts";

/** Words of one meaning: what an argument is called here, and elsewhere, where models have seen it. */
const SYNONYMS: readonly (readonly string[])[] = [
  ["size", "limit", "max_rows", "max_documents", "sample", "count", "top", "max_results", "page_size"],
  ["aggs", "aggregations", "aggregation", "facets"],
  ["sql", "query", "statement", "q"],
  ["query_string", "q", "lucene"],
  ["fields", "_source", "includes", "source_includes", "select", "docvalue_fields"],
  ["index", "indices", "index_name", "index_pattern", "pattern", "collection", "data_stream"],
  ["table", "table_name", "name", "target", "target_table", "relation", "into"],
  ["row", "data", "values", "record", "document"],
  ["rows", "data", "values", "records", "documents"],
  ["cursor", "next_cursor"],
  ["wait_seconds", "wait"],
  ["where", "filter", "filters", "condition", "conditions", "query"],
  ["sort", "order_by", "order"],
  ["id", "doc_id", "document_id"],
  ["mapping", "mapping_id", "map_id", "plan"],
  ["params", "parameters", "args", "values", "bindings"],
  ["key", "primary_key", "conflict_key", "conflict_columns", "keys", "upsert_key", "id_column"],
  ["export_id", "export", "handle", "id"],
  ["load_id", "load", "job_id", "handle", "id"],
  ["dry_run", "preview", "simulate"],
  ["name", "column", "column_name", "field"],
  ["column", "name", "target", "to"],
  ["from", "source", "path", "field", "source_field"],
  ["type", "data_type", "column_type"],
  ["path", "name", "field"],
];

/** Words of like meaning whose values differ: worth naming, and not worth trying. */
const RELATED: readonly (readonly string[])[] = [
  ["cursor", "from", "offset", "after", "page", "search_after", "scroll_id"],
  ["row", "rows", "records", "documents"],
  ["wait_seconds", "timeout", "timeout_seconds", "timeout_ms"],
  ["export_id", "index", "source"],
  ["load_id", "export_id", "table"],
  ["columns", "sql", "ddl", "fields", "schema"],
];

/** Words for the same thing where a choice is to be made. */
const VALUES: readonly (readonly string[])[] = [
  ["append", "insert", "add"],
  ["upsert", "update", "merge"],
  ["ignore", "skip", "do_nothing", "nothing"],
  ["replace", "overwrite", "truncate"],
];

const [SAME, LIKE, MEANT] = [SYNONYMS, RELATED, VALUES].map((groups) =>
  groups.map((group) => new Set(group.map(spelling))),
);

/** Of the known names, those that `name` may have been meant for: near in letters, then in meaning. */
export function nearestNames(name: string, known: readonly string[]): string[] {
  return [...new Set([...nearest(name, known, 2), ...related(SAME, name, known), ...related(LIKE, name, known)])];
}

/** Whether what was given as `name` can be tried as `known`. */
export function takesValueOf(name: string, known: string): boolean {
  return nearest(name, [known]).length > 0 || related(SAME, name, [known]).length > 0;
}

/** Of the values to choose from, the one that a wrong one may have been meant for. */
export function nearestValue(given: string, values: readonly unknown[]): string | undefined {
  const words = values.filter((value) => typeof value === "string");
  return related(MEANT, given, words)[0] ?? nearest(given, words, 1)[0];
}

function related(groups: readonly ReadonlySet<string>[] | undefined, name: string, known: readonly string[]): string[] {
  const own = (groups ?? []).filter((group) => group.has(spelling(name)));
  return known.filter((candidate) => own.some((group) => group.has(spelling(candidate))));
}
