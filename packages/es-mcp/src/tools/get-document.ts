import { ANSWER_BYTES_MAX } from "@es-to-pg/mcp-kit";
import { z } from "zod";
import { getDocument as readDocument } from "../elasticsearch/document.ts";
import { pickFields } from "../elasticsearch/fields.ts";
import { fitValue } from "../elasticsearch/fit.ts";
import { REWRITTEN_HINT } from "../elasticsearch/rewritten.ts";
import { fieldPatterns, indexExpression } from "./inputs.ts";
import { defineTool } from "./tool.ts";

/** One document was asked for by name, so it may fill the answer; the rest is for its metadata. */
const SOURCE_BYTES_MAX = ANSWER_BYTES_MAX - 2_048;

const wholeNumber = z.union([z.int(), z.string()]);

export const getDocument = defineTool({
  name: "get_document",
  title: "Get one document",
  description: "Reads one document by its id, values exact. Use search_documents to find ids.",
  input: z.strictObject({
    index: indexExpression,
    id: z.string().min(1).max(512),
    routing: z.string().min(1).optional().describe("Custom routing value, where the index uses one."),
    fields: fieldPatterns.describe("Paths or globs to return. Default: all."),
  }),
  output: z.object({
    _index: z.string(),
    _id: z.string(),
    _routing: z.string().optional(),
    _seq_no: wholeNumber,
    _primary_term: wholeNumber,
    _version: wholeNumber,
    _source: z.unknown(),
    clipped: z.array(z.string()).optional(),
    hint: z.string().optional(),
  }),
  annotations: { readOnlyHint: true, destructiveHint: false, idempotentHint: true, openWorldHint: false },
  async handler({ index, id, routing, fields }, { elasticsearch, signal }) {
    const { indices } = await elasticsearch.names(index, { includeHidden: false, signal });
    const { _source, rewritten, ...meta } = await readDocument(elasticsearch, { indices, id, routing }, signal);
    const source = fields === undefined ? (_source ?? null) : pickFields(_source, fields);
    const { value, clipped } = fitValue(source, SOURCE_BYTES_MAX);
    const { _index, _id, _routing, _seq_no, _primary_term, _version } = meta;
    return {
      _index,
      _id,
      ...(_routing === undefined ? {} : { _routing }),
      _seq_no,
      _primary_term,
      _version,
      _source: value,
      ...(clipped.length === 0
        ? {}
        : {
            clipped,
            hint: "The document is larger than an answer; name fields to see a part, bulk_export to move it whole.",
          }),
      ...(rewritten === undefined ? {} : { hint: REWRITTEN_HINT }),
      ...(_source === undefined ? { hint: "The index keeps no _source, so there is nothing to show or export." } : {}),
    };
  },
});
