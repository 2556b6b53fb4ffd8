import type { MappingField } from "@es-to-pg/staging";
import { record } from "./record.ts";

/** Depth at which flattening stops; Elasticsearch's own limit is 20 unless somebody raised it. */
const DEPTH_MAX = 100;

/** Parameters that have a place of their own in `MappingField`, or hold fields. */
const PLACED = new Set(["type", "format", "scaling_factor", "enabled", "properties", "fields"]);

/** Parameters that say how Elasticsearch finds or stores a value, not what it means. */
const IMMATERIAL = new Set([
  "analyzer",
  "search_analyzer",
  "search_quote_analyzer",
  "boost",
  "eager_global_ordinals",
  "fielddata",
  "fielddata_frequency_filter",
  "index_options",
  "index_phrases",
  "index_prefixes",
  "norms",
  "position_increment_gap",
  "similarity",
  "store",
  "term_vector",
]);

/** Fields of one index's mapping as a flat list, parents before children, in the mapping's own order. */
export function flattenMapping(mappings: unknown): MappingField[] {
  const fields: MappingField[] = [];
  const { properties, runtime } = record(mappings);
  visit(record(properties), "", { nested: false, enabled: true }, fields, 0);
  for (const [path, definition] of Object.entries(record(runtime))) {
    const { type, ...rest } = record(definition);
    // The script of a runtime field is code of the cluster, not a parameter of the value.
    const { script, ...parameters } = rest;
    fields.push({
      path,
      type: typeof type === "string" ? type : "object",
      parameters: { ...parameters, runtime: true, ...(script === undefined ? {} : { script: true }) },
    });
  }
  return fields;
}

interface Surroundings {
  nested: boolean;
  enabled: boolean;
}

function visit(
  properties: Record<string, unknown>,
  prefix: string,
  surroundings: Surroundings,
  fields: MappingField[],
  depth: number,
): void {
  if (depth > DEPTH_MAX) return;
  for (const [name, value] of Object.entries(properties)) {
    const definition = record(value);
    const path = prefix === "" ? name : `${prefix}.${name}`;
    fields.push(fieldOf(path, definition, surroundings, false));
    for (const [subName, sub] of Object.entries(record(definition["fields"]))) {
      fields.push(fieldOf(`${path}.${subName}`, record(sub), surroundings, true));
    }
    const inner = {
      nested: surroundings.nested || definition["type"] === "nested",
      enabled: surroundings.enabled && definition["enabled"] !== false && definition["enabled"] !== "false",
    };
    visit(record(definition["properties"]), path, inner, fields, depth + 1);
  }
}

function fieldOf(
  path: string,
  definition: Record<string, unknown>,
  surroundings: Surroundings,
  multiField: boolean,
): MappingField {
  const { type, format, scaling_factor, enabled, value } = definition;
  const parameters = Object.fromEntries(
    Object.entries(definition).filter(([key]) => !PLACED.has(key) && !IMMATERIAL.has(key)),
  );
  const disabled = !surroundings.enabled || enabled === false || enabled === "false";
  return {
    path,
    // An object that only has properties states no type.
    type: typeof type === "string" ? type : "object",
    ...(typeof format === "string" ? { format } : {}),
    ...(scaling_factor === undefined ? {} : { scaling_factor: Number(scaling_factor) }),
    ...(multiField ? { multi_field: true } : {}),
    ...(surroundings.nested ? { nested: true } : {}),
    ...(disabled ? { enabled: false } : {}),
    ...(type === "constant_keyword" && typeof value === "string" ? { constant: value } : {}),
    ...(Object.keys(parameters).length === 0 ? {} : { parameters }),
  };
}

/**
 * The mappings of several indices as one list, in the order in which paths are first met. Where types differ, the first
 * index's type stands and `conflicts` names the others; where only parameters differ, the first index's stand.
 */
export function mergeMappings(mappings: readonly (readonly MappingField[])[]): MappingField[] {
  const merged = new Map<string, MappingField>();
  for (const fields of mappings) {
    for (const field of fields) {
      const known = merged.get(field.path);
      if (known === undefined) merged.set(field.path, field);
      else if (known.type !== field.type && known.conflicts?.includes(field.type) !== true) {
        merged.set(field.path, { ...known, conflicts: [...(known.conflicts ?? []), field.type] });
      }
    }
  }
  return [...merged.values()];
}

/** How an index keeps `_source`, from its mapping and settings. */
export function sourceModeOf(
  mappings: unknown,
  settings: Record<string, unknown>,
): "stored" | "filtered" | "synthetic" | "disabled" {
  const source = record(record(mappings)["_source"]);
  if (source["enabled"] === false || source["enabled"] === "false") return "disabled";
  const mode = source["mode"] ?? settings["index.mapping.source.mode"];
  if (mode === "synthetic" || mode === "disabled") return mode;
  if (mode === undefined && isSyntheticByIndexMode(settings["index.mode"])) return "synthetic";
  return isFilled(source["includes"]) || isFilled(source["excludes"]) ? "filtered" : "stored";
}

/** Of these index modes a mapping states no `_source` mode although it is synthetic. */
function isSyntheticByIndexMode(mode: unknown): boolean {
  return mode === "logsdb" || mode === "time_series";
}

function isFilled(list: unknown): boolean {
  return Array.isArray(list) && list.length > 0;
}
