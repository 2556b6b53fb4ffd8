import { nearest, ToolError } from "@es-to-pg/mcp-kit";
import type { MappingField } from "@es-to-pg/staging";
import type { Elasticsearch } from "./elasticsearch.ts";
import { isRecord } from "./record.ts";
import { matchesWildcard } from "./wildcard.ts";

/** Clauses and aggregations whose one key is the name of a field. */
const FIELD_KEYED = new Set([
  "match",
  "match_phrase",
  "match_phrase_prefix",
  "match_bool_prefix",
  "term",
  "terms",
  "terms_set",
  "range",
  "prefix",
  "wildcard",
  "regexp",
  "fuzzy",
]);

/** Parameters of the same clauses that are no fields. */
const NOT_FIELDS = new Set(["boost", "_name"]);

/** A name in a query that no index has, and what may have been meant. */
export interface UnknownField {
  field: string;
  nearest: string[];
}

/**
 * The parts of a document that the patterns name, values untouched. A pattern that names an object takes all of it.
 * Cutting here and not by `_source` includes keeps decimals as they were written: Elasticsearch would write them anew.
 */
export function pickFields(source: unknown, patterns: readonly string[]): unknown {
  return pick(source, patterns, "") ?? {};
}

function pick(value: unknown, patterns: readonly string[], path: string): unknown {
  if (Array.isArray(value)) {
    const items = value.map((item) => pick(item, patterns, path)).filter((item) => item !== undefined);
    return items.length === 0 ? undefined : items;
  }
  if (!isRecord(value)) return undefined;
  const kept: [string, unknown][] = [];
  for (const [key, member] of Object.entries(value)) {
    const inner = path === "" ? key : `${path}.${key}`;
    if (patterns.some((pattern) => matchesWildcard(pattern, inner))) kept.push([key, member]);
    else {
      const picked = pick(member, patterns, inner);
      if (picked !== undefined) kept.push([key, picked]);
    }
  }
  return kept.length === 0 ? undefined : Object.fromEntries(kept);
}

/** Names of fields that a query, aggregations or a sort refer to. */
export function referencedFields(...parts: unknown[]): Set<string> {
  const names = new Set<string>();
  for (const part of parts) collect(part, names, 0);
  return names;
}

function collect(value: unknown, names: Set<string>, depth: number): void {
  if (depth > 100) return;
  if (Array.isArray(value)) for (const item of value) collect(item, names, depth + 1);
  if (!isRecord(value)) return;
  for (const [key, member] of Object.entries(value)) {
    if (key === "field" && typeof member === "string") names.add(member);
    else if ((key === "fields" || key === "default_field") && (Array.isArray(member) || typeof member === "string")) {
      for (const name of [member].flat()) if (typeof name === "string") names.add(name.replace(/\^.*$/, ""));
    } else if (key === "query_string" && isRecord(member) && typeof member["query"] === "string") {
      for (const [, name] of member["query"].matchAll(/(?:^|[\s(+\-!])([A-Za-z_][\w.]*):/g)) names.add(name ?? "");
    } else if (FIELD_KEYED.has(key) && isRecord(member) && typeof member["field"] !== "string") {
      for (const name of Object.keys(member)) if (!NOT_FIELDS.has(name)) names.add(name);
      continue;
    }
    collect(member, names, depth + 1);
  }
}

/** The names that no index has; a search with one finds nothing and does not say why. */
export async function unknownFields(
  elasticsearch: Elasticsearch,
  index: string,
  referenced: Iterable<string>,
  signal: AbortSignal,
): Promise<UnknownField[]> {
  const asked = [...new Set(referenced)].filter((name) => !name.startsWith("_"));
  if (asked.length === 0) return [];
  try {
    const { indices } = await elasticsearch.names(index, { includeHidden: false, signal });
    const names = indices.map(({ name }) => name);
    return unknownAmong(asked, await elasticsearch.mapping(names, { signal }));
  } catch (error) {
    // Only a hint: where the credentials show no mapping, the answer does without.
    if (error instanceof ToolError) return [];
    throw error;
  }
}

/** Of names and patterns, those that fit no field of the mapping. */
export function unknownAmong(asked: readonly string[], fields: readonly MappingField[]): UnknownField[] {
  const paths = new Set(fields.map(({ path }) => path));
  // Below these, documents may hold paths that the mapping does not list.
  const open = fields
    .filter(({ type, enabled }) => type === "flattened" || type === "flat_object" || enabled === false)
    .map(({ path }) => `${path}.`);
  return asked
    .filter((name) => !paths.has(name) && !open.some((prefix) => name.startsWith(prefix)))
    .filter((name) => !name.includes("*") || ![...paths].some((path) => matchesWildcard(name, path)))
    .map((field) => ({ field, nearest: nearest(field, paths) }));
}
