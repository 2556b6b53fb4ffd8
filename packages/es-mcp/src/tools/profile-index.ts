import { clip, fitItems } from "@es-to-pg/mcp-kit";
import { type FieldProfile, type MappingField, proposeType } from "@es-to-pg/staging";
import { z } from "zod";
import { expressionParts } from "../elasticsearch/expand.ts";
import { unknownAmong } from "../elasticsearch/fields.ts";
import { explainingQuery, unwrapped } from "../elasticsearch/query-mistakes.ts";
import { FieldSelection } from "../export/rewrite.ts";
import { profileSample } from "../export/sample.ts";
import { fieldPatterns, includeHidden, indexExpression, queryDsl } from "./inputs.ts";
import { unknownFields, unknownFieldsOf } from "./outputs.ts";
import { defineTool } from "./tool.ts";

/** Documents of a sample. Elasticsearch gives no more at once where an index does not raise its limit. */
const SAMPLE_MAX = 10_000;

export const profileIndex = defineTool({
  name: "profile_index",
  title: "What documents really hold",
  description:
    "Reads a random sample and tells per field what the mapping cannot: kinds of values, arrays, missing and null, lengths, digits, least and greatest, a proposed PostgreSQL type. Use it before planning a table; then bulk_export.",
  input: z.strictObject({
    index: indexExpression,
    query: queryDsl,
    fields: fieldPatterns.describe("Only these paths or globs."),
    sample: z.int().min(1).max(SAMPLE_MAX).default(1000).describe("Documents to read."),
    include_hidden: includeHidden,
  }),
  output: z.object({
    documents: z.int(),
    total: z.int(),
    fields: z.array(z.record(z.string(), z.unknown())),
    returned: z.int(),
    fields_total: z.int(),
    cut_by: z.literal("bytes").optional(),
    unknown_fields: unknownFields,
    warnings: z.array(z.string()).optional(),
    next: z.string(),
  }),
  annotations: { readOnlyHint: true, destructiveHint: false, idempotentHint: true, openWorldHint: false },
  async handler(params, { elasticsearch, signal }) {
    const query = unwrapped(params.query);
    const sample = await explainingQuery(query, () =>
      profileSample(elasticsearch, {
        index: expressionParts(params.index),
        query,
        sample: params.sample,
        includeHidden: params.include_hidden ?? false,
        signal,
      }),
    );
    const selection = new FieldSelection(params.fields ?? ["*"]);
    const described = describeFields(sample.mapping, sample.profile, sample.documents).filter(
      ({ path }) => selection.judge(path) === "kept",
    );
    const { items, cutBy } = fitItems(described);
    const known = [...sample.mapping, ...sample.profile.map(({ path }) => ({ path, type: "unmapped" }))];
    const unknown = unknownFieldsOf(unknownAmong(params.fields ?? [], known));
    return {
      documents: sample.documents,
      total: sample.total,
      fields: items,
      returned: items.length,
      fields_total: described.length,
      ...(cutBy === null ? {} : { cut_by: cutBy }),
      ...unknown,
      ...(sample.warnings.length > 0 ? { warnings: sample.warnings } : {}),
      next: nextStep(sample.documents, described.length, cutBy !== null),
    };
  },
});

function nextStep(documents: number, fields: number, isCut: boolean): string {
  if (isCut) return "Name fields to see the rest.";
  if (documents === 0) return "Nothing matches; count_documents and get_mapping tell why.";
  return fields === 0 ? "No field has these names; get_mapping lists them." : "bulk_export stages the documents.";
}

/** One entry per field of the mapping or the documents, in the order of the mapping; what is zero is left out. */
export function describeFields(
  mapping: readonly MappingField[],
  profile: readonly FieldProfile[],
  documents: number,
): ({ path: string } & Record<string, unknown>)[] {
  const profiles = new Map(profile.map((field) => [field.path, field]));
  const mapped = new Set(mapping.map(({ path }) => path));
  const fields: MappingField[] = [
    ...mapping.filter(({ multi_field }) => multi_field !== true),
    ...profile.filter(({ path }) => !mapped.has(path)).map(({ path }) => ({ path, type: "unmapped" })),
  ];
  return fields.map((field) => {
    const found = profiles.get(field.path);
    const proposal = proposeType(field, found);
    return {
      path: clip(field.path, 200),
      type: field.type,
      ...(found === undefined ? { missing_percent: 100 } : figures(found, documents)),
      postgres: proposal.type,
      ...(proposal.notes.length > 0 ? { notes: proposal.notes.map((note) => clip(note, 200)) } : {}),
    };
  });
}

function figures(field: FieldProfile, documents: number): Record<string, unknown> {
  const { kinds } = field;
  const values = Object.values(kinds).reduce((sum, count) => sum + count, 0);
  const missing = documents - field.present;
  const met = Object.entries(kinds).filter(([kind, count]) => kind !== "null" && count > 0);
  return {
    kinds: Object.fromEntries(met),
    ...(field.arrays > 0 ? { arrays: field.arrays, array_length_max: field.array_length_max } : {}),
    ...(missing > 0 ? { missing_percent: percent(missing, documents) } : {}),
    ...(kinds.null > 0 ? { null_percent: percent(kinds.null, values) } : {}),
    ...(kinds.string > 0 ? { length_max: field.length_max } : {}),
    ...(kinds.string > 0 && field.bytes_max !== field.length_max ? { bytes_max: field.bytes_max } : {}),
    ...(kinds.integer + kinds.decimal > 0 ? { digits: [field.integer_digits_max, field.scale_max] } : {}),
    ...(field.min === null ? {} : { min: clip(field.min, 40) }),
    ...(field.max === null ? {} : { max: clip(field.max, 40) }),
    ...(field.date_formats.length > 0 ? { date_formats: field.date_formats } : {}),
    ...Object.fromEntries(
      Object.entries(field.shapes)
        .filter(([, count]) => count > 0)
        .map(([shape, count]) => [`strings_${shape}`, count]),
    ),
  };
}

function percent(part: number, whole: number): number {
  return Math.round((part / whole) * 1000) / 10;
}
