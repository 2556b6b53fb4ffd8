import type { MappingField } from "@es-to-pg/staging";
import { flattenMapping } from "./mapping.ts";
import { isRecord, record } from "./record.ts";
import { matchesWildcard } from "./wildcard.ts";

/** Indices that a conflict names per type. */
const CONFLICT_INDICES_MAX = 3;

/** A field with its multi-fields, and with the types that other indices give it. */
export interface MappingRow extends Omit<MappingField, "multi_field" | "conflicts"> {
  /** Type by the name of the multi-field. */
  multi_fields?: Record<string, string>;
  /** Some of the indices by type, where indices disagree. */
  conflicts?: Record<string, string[]>;
}

/** The fields of several mappings as one list, in the order in which they are met; only those that the patterns name. */
export function mappingRows(
  mappings: ReadonlyMap<string, unknown>,
  patterns: readonly string[] | undefined,
): MappingRow[] {
  const rows = new Map<string, MappingRow>();
  /** Per path and type: the indices that have it so. */
  const types = new Map<string, Map<string, string[]>>();
  const wanted = new Set<string>();
  for (const { mapping, indices } of distinct(mappings)) {
    for (const { multi_field, conflicts: _none, ...field } of flattenMapping(mapping)) {
      const owner = multi_field === true ? field.path.slice(0, field.path.lastIndexOf(".")) : field.path;
      if (patterns === undefined || patterns.some((pattern) => matchesWildcard(pattern, field.path))) wanted.add(owner);
      if (multi_field === true) addMultiField(rows.get(owner), field.path.slice(owner.length + 1), field.type);
      else {
        if (!rows.has(field.path)) rows.set(field.path, field);
        const byType = types.get(field.path) ?? new Map<string, string[]>();
        byType.set(field.type, [...(byType.get(field.type) ?? []), ...indices]);
        types.set(field.path, byType);
      }
    }
  }
  for (const [path, byType] of types) {
    const row = rows.get(path);
    if (byType.size < 2 || row === undefined) continue;
    row.conflicts = Object.fromEntries(
      [...byType].map(([type, names]) => [type, names.slice(0, CONFLICT_INDICES_MAX)]),
    );
  }
  return [...rows.values()].filter(({ path }) => wanted.has(path));
}

/** Hundreds of indices of one pattern usually share one mapping, which is then looked at once. */
function distinct(mappings: ReadonlyMap<string, unknown>): { mapping: unknown; indices: string[] }[] {
  const groups = new Map<string, { mapping: unknown; indices: string[] }>();
  for (const [name, mapping] of mappings) {
    const text = JSON.stringify(mapping) ?? "";
    const group = groups.get(text) ?? { mapping, indices: [] };
    group.indices.push(name);
    groups.set(text, group);
  }
  return [...groups.values()];
}

function addMultiField(row: MappingRow | undefined, name: string, type: string): void {
  if (row === undefined) return;
  row.multi_fields = { ...row.multi_fields, [name]: row.multi_fields?.[name] ?? type };
}

/** A mapping without the properties that no pattern names; what a pattern names stays whole. */
export function pruneMapping(mapping: unknown, patterns: readonly string[]): unknown {
  if (!isRecord(mapping)) return mapping;
  const { properties, ...rest } = mapping;
  return properties === undefined ? rest : { ...rest, properties: prune(record(properties), patterns, "") };
}

function prune(
  properties: Record<string, unknown>,
  patterns: readonly string[],
  prefix: string,
): Record<string, unknown> {
  const kept: [string, unknown][] = [];
  for (const [name, definition] of Object.entries(properties)) {
    const path = prefix === "" ? name : `${prefix}.${name}`;
    if (patterns.some((pattern) => matchesWildcard(pattern, path))) kept.push([name, definition]);
    else if (isRecord(definition) && isRecord(definition["properties"])) {
      const inner = prune(definition["properties"], patterns, path);
      if (Object.keys(inner).length > 0) kept.push([name, { ...definition, properties: inner }]);
    }
  }
  return Object.fromEntries(kept);
}
