import { ANSWER_BYTES_MAX, clip, fitItems, ToolError } from "@es-to-pg/mcp-kit";
import { z } from "zod";
import { unknownAmong } from "../elasticsearch/fields.ts";
import { jsonBytes } from "../elasticsearch/fit.ts";
import { flattenMapping } from "../elasticsearch/mapping.ts";
import { type MappingRow, mappingRows, pruneMapping } from "../elasticsearch/mapping-rows.ts";
import { cursor, fieldPatterns, indexExpression } from "./inputs.ts";
import { leftOut, leftOutOf, shownName, unknownFields, unknownFieldsOf } from "./outputs.ts";
import { defineTool } from "./tool.ts";

/** A page of fields. With what surrounds it, the answer stays below 5 kB. */
const FIELDS_BYTES_MAX = 4_000;

/** Indices that an answer names; a pattern can mean hundreds. */
const INDICES_MAX = 10;

const positionSchema = z.strictObject({ after: z.string() });

export const getMapping = defineTool({
  name: "get_mapping",
  title: "Get the mapping",
  description:
    "Lists the fields of an index as paths with types, parameters and multi-fields, and conflicts between indices. Next: profile_index, which tells what the documents really hold.",
  input: z.strictObject({
    index: indexExpression,
    fields: fieldPatterns.describe("Paths or globs to list, e.g. address.*."),
    format: z.enum(["fields", "raw"]).default("fields").describe("raw: Elasticsearch's own JSON."),
    cursor,
  }),
  output: z.object({
    indices: z.array(z.string()),
    indices_total: z.int(),
    fields: z.array(z.looseObject({ path: z.string(), type: z.string() })).optional(),
    raw: z.record(z.string(), z.unknown()).optional(),
    returned: z.int().optional(),
    total: z.int().optional(),
    types: z.record(z.string(), z.int()).optional(),
    left_out: leftOut,
    unknown_fields: unknownFields,
    next_cursor: z.string().optional(),
    hint: z.string().optional(),
  }),
  annotations: { readOnlyHint: true, destructiveHint: false, idempotentHint: true, openWorldHint: false },
  async handler({ index, fields, format, cursor: given }, { elasticsearch, signal, cursors }) {
    const scope = { tool: "get_mapping", arguments: { index, fields, format } };
    const { indices, leftOut: out } = await elasticsearch.names(index, { includeHidden: false, signal });
    const names = indices.map(({ name }) => name);
    const mappings = await elasticsearch.mappings(names, { signal });
    const about = {
      indices: names.slice(0, INDICES_MAX).map(shownName),
      indices_total: names.length,
      ...leftOutOf(out),
    };
    if (format === "raw") return { ...about, raw: rawOf(mappings, fields) };

    const rows = mappingRows(mappings, fields);
    const after = given === undefined ? undefined : cursors.decode(scope, given, positionSchema).after;
    const start = after === undefined ? 0 : rows.findIndex(({ path }) => path === after) + 1;
    if (after !== undefined && start === 0) throw mappingChanged();
    const { items } = fitItems(rows.slice(start).map(shownField), { bytesMax: FIELDS_BYTES_MAX });
    const end = start + items.length;
    const last = rows[end - 1];
    const unknown = fields === undefined ? [] : unknownAmong(fields, [...mappings.values()].flatMap(flattenMapping));
    return {
      ...about,
      fields: items,
      returned: items.length,
      total: rows.length,
      ...(end - start < rows.length && start === 0 ? { types: typesOf(rows) } : {}),
      ...unknownFieldsOf(unknown),
      ...(end < rows.length && last !== undefined ? { next_cursor: cursors.encode(scope, { after: last.path }) } : {}),
      ...(rows.length === 0 && fields === undefined
        ? { hint: "The mapping has no fields yet: the index was created without any and holds no documents." }
        : {}),
    };
  },
});

function shownField({ path, type, parameters, ...rest }: MappingRow) {
  return { path: shownName(path), type: clip(type, 50), ...rest, ...shownParameters(parameters) };
}

/** Parameters can hold any text (`meta`, `null_value`): long ones are clipped. */
function shownParameters(parameters: Record<string, unknown> | undefined): { parameters?: Record<string, unknown> } {
  if (parameters === undefined) return {};
  const shown = Object.entries(parameters).map(([name, value]) => {
    const text = JSON.stringify(value);
    return [shownName(name), text.length <= 300 ? value : clip(text, 300)];
  });
  return { parameters: Object.fromEntries(shown) };
}

/** How many fields there are of each type: what a page does not show. */
function typesOf(rows: readonly MappingRow[]): Record<string, number> {
  const counts: Record<string, number> = {};
  for (const { type } of rows) counts[type] = (counts[type] ?? 0) + 1;
  return counts;
}

function rawOf(mappings: ReadonlyMap<string, unknown>, fields: readonly string[] | undefined): Record<string, unknown> {
  const raw = Object.fromEntries(
    [...mappings].map(([name, mapping]) => [name, fields === undefined ? mapping : pruneMapping(mapping, fields)]),
  );
  const bytes = jsonBytes(raw);
  if (bytes <= ANSWER_BYTES_MAX - 1_024) return raw;
  throw new ToolError("answer_too_large", `The mapping has ${bytes} bytes, more than an answer may have.`, {
    next: 'Name fields or a single index, or use format "fields", which comes in pages.',
  });
}

function mappingChanged(): ToolError {
  return new ToolError("invalid_cursor", "The mapping has changed since the cursor was given.", {
    next: "Call without cursor to start over.",
  });
}
