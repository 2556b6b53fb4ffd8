import { z } from "zod";
import { unknownFields as findUnknownFields, referencedFields } from "../elasticsearch/fields.ts";
import { explainingQuery, unwrapped } from "../elasticsearch/query-mistakes.ts";
import { countDocuments as count } from "../elasticsearch/search.ts";
import { indexExpression, queryDsl } from "./inputs.ts";
import { leftOut, leftOutOf, UNKNOWN_FIELDS_HINT, unknownFields, unknownFieldsOf } from "./outputs.ts";
import { defineTool } from "./tool.ts";

export const countDocuments = defineTool({
  name: "count_documents",
  title: "Count documents",
  description:
    "Counts the documents that match a query, exactly. Use it to check a plan or a result; it reads no documents.",
  input: z.strictObject({ index: indexExpression, query: queryDsl }),
  output: z.object({
    count: z.int(),
    indices: z.int(),
    left_out: leftOut,
    unknown_fields: unknownFields,
    hint: z.string().optional(),
  }),
  annotations: { readOnlyHint: true, destructiveHint: false, idempotentHint: true, openWorldHint: false },
  async handler({ index, query }, { elasticsearch, signal }) {
    const { indices, leftOut: out } = await elasticsearch.names(index, { includeHidden: false, signal });
    const dsl = unwrapped(query);
    const total = await explainingQuery(dsl, () => count(elasticsearch, indices, dsl, signal));
    // A misspelt field counts nothing and is no error to Elasticsearch.
    const unknown = total > 0 ? [] : await findUnknownFields(elasticsearch, index, referencedFields(dsl), signal);
    return {
      count: total,
      indices: indices.length,
      ...leftOutOf(out),
      ...unknownFieldsOf(unknown),
      ...(unknown.length === 0 ? {} : { hint: UNKNOWN_FIELDS_HINT }),
    };
  },
});
