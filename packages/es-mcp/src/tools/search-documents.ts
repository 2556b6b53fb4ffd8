import { ToolError } from "@es-to-pg/mcp-kit";
import { z } from "zod";
import type { Elasticsearch } from "../elasticsearch/elasticsearch.ts";
import { unknownFields as findUnknownFields, referencedFields } from "../elasticsearch/fields.ts";
import { jsonBytes } from "../elasticsearch/fit.ts";
import { explainingQuery } from "../elasticsearch/query-mistakes.ts";
import { REWRITTEN_HINT } from "../elasticsearch/rewritten.ts";
import {
  closeSnapshot,
  positionSchema,
  queryOf,
  searchExpression,
  sortClauses,
  unwrappedAggs,
} from "../elasticsearch/search.ts";
import { fitPage } from "../elasticsearch/search-answer.ts";
import { cursor, fieldPatterns, indexExpression, queryDsl } from "./inputs.ts";
import { leftOut, leftOutOf, shownName, UNKNOWN_FIELDS_HINT, unknownFields, unknownFieldsOf } from "./outputs.ts";
import { defineTool } from "./tool.ts";

const SIZE_DEFAULT = 10;

/** Hits of one request. An answer holds fewer; the rest would be read for nothing. */
const SIZE_MAX = 1_000;

export const searchDocuments = defineTool({
  name: "search_documents",
  title: "Search documents",
  description:
    "Searches documents and runs aggregations, values exact. For questions about a few documents; to move data use bulk_export.",
  input: z.strictObject({
    index: indexExpression,
    query: queryDsl,
    query_string: z.string().min(1).optional().describe("Lucene syntax, e.g. brand:acme AND price:>10."),
    fields: fieldPatterns.describe("Paths or globs to return. Default: all."),
    sort: z
      .union([z.string(), z.array(z.unknown()), z.record(z.string(), z.unknown())])
      .optional()
      .describe('"field", "field:desc" or DSL. Default: relevance.'),
    size: z.int().min(0).max(SIZE_MAX).optional().describe("Hits. Default 10, or 0 with aggs."),
    aggs: z.record(z.string(), z.unknown()).optional().describe("Aggregations DSL."),
    highlight: z.array(z.string()).min(1).max(20).optional().describe("Fields to highlight."),
    cursor,
  }),
  output: z.object({
    total: z.int(),
    returned: z.int(),
    hits: z.array(z.looseObject({ _id: z.string() })),
    aggregations: z.unknown().optional(),
    cut_by: z.enum(["size", "bytes"]).optional(),
    clipped: z.array(z.string()).optional(),
    left_out: leftOut,
    unknown_fields: unknownFields,
    next_cursor: z.string().optional(),
    hint: z.string().optional(),
  }),
  annotations: { readOnlyHint: true, destructiveHint: false, idempotentHint: true, openWorldHint: false },
  async handler({ cursor: given, ...params }, { elasticsearch, signal, cursors }) {
    const { index, fields, highlight = [] } = params;
    const aggs = unwrappedAggs(params.aggs);
    const scope = { tool: "search_documents", arguments: params };
    const request = {
      query: queryOf(params.query, params.query_string),
      sort: sortClauses(params.sort),
      size: params.size ?? (aggs === undefined ? SIZE_DEFAULT : 0),
      aggs,
      highlight,
      position: given === undefined ? undefined : cursors.decode(scope, given, positionSchema),
    };
    const referenced = referencedFields(request.query, aggs, sortFields(request.sort));
    const unknownAmong = async (asked: Iterable<string>) =>
      unknownFieldsOf(await findUnknownFields(elasticsearch, index, asked, signal));

    const { page, names } = await explainingQuery(request.query, () =>
      searchExpression(elasticsearch, index, request, signal),
    ).catch(async (failure: unknown) => {
      if (!isInvalidQuery(failure)) throw failure;
      const unfit = unsortableField(failure);
      if (unfit !== undefined) throw unsortable(failure, unfit, await sortableFields(elasticsearch, index, signal));
      throw withUnknown(failure, await unknownAmong(referenced));
    });
    const { answer, next, hasMore } = fitPage(
      page,
      { ...request, indices: names.indices },
      { fields, large: params.size !== undefined },
    );
    if (page.pit !== undefined && next === null) await closeSnapshot(elasticsearch, page.pit);

    const isEmptied = answer.returned > 0 && answer.hits.every(({ _source }) => jsonBytes(_source) <= 2);
    const isSuspicious = page.total === 0 || aggs !== undefined || (fields !== undefined && isEmptied);
    const unknown = given === undefined && isSuspicious ? await unknownAmong([...referenced, ...(fields ?? [])]) : {};
    return {
      ...answer,
      ...leftOutOf(names.leftOut),
      // A misspelt field finds nothing and is no error to Elasticsearch.
      ...unknown,
      ...(next === null ? {} : { next_cursor: cursors.encode(scope, next) }),
      ...hintOf({
        hasNoCursor: hasMore && next === null,
        isRewritten: page.rewritten,
        isClipped: answer.clipped !== undefined,
        isUnknown: unknown.unknown_fields !== undefined && page.total === 0,
      }),
    };
  },
});

function isInvalidQuery(failure: unknown): failure is ToolError {
  return failure instanceof ToolError && failure.code === "query_invalid";
}

/** Elasticsearch says in several ways that it does not know a field, and never which one was meant. */
function withUnknown(failure: ToolError, unknown: ReturnType<typeof unknownFieldsOf>): ToolError {
  if (unknown.unknown_fields === undefined) return failure;
  return new ToolError(failure.code, failure.message, {
    next: "Correct the unknown fields; get_mapping shows the fields and their types.",
    // The first one, so that the answer can show the call with the nearest name.
    details: { ...failure.details, ...unknown, ...unknown.unknown_fields[0] },
    cause: failure,
  });
}

/** Fields that an error offers in place of one that cannot be sorted by. */
const SORTABLE_MAX = 12;

const SORTABLE = new Set(
  "keyword constant_keyword date date_nanos boolean ip long integer short byte unsigned_long double float half_float scaled_float".split(
    " ",
  ),
);

/** The text field that a sort or an aggregation stumbled over. */
function unsortableField({ details }: ToolError): string | undefined {
  const { reason } = details;
  if (typeof reason !== "string") return undefined;
  return /(?:Fielddata is disabled on|fielddata=true on) \[([^\]]+)\]/.exec(reason)?.[1];
}

async function sortableFields(elasticsearch: Elasticsearch, index: string, signal: AbortSignal): Promise<string[]> {
  const { indices } = await elasticsearch.names(index, { includeHidden: false, signal });
  const mapping = await elasticsearch.mapping(
    indices.map(({ name }) => name),
    { signal },
  );
  return mapping.filter(({ type }) => SORTABLE.has(type)).map(({ path }) => path);
}

/** A text field is sorted and grouped by its keyword sub-field, where it has one. */
function unsortable(failure: ToolError, field: string, fields: readonly string[]): ToolError {
  const nearest = fields.filter((path) => path.startsWith(`${field}.`));
  const { reason: _long, ...details } = failure.details;
  return new ToolError(failure.code, `${shownName(field)} is a text field: it is searched, not sorted or grouped by.`, {
    next: nearest.length > 0 ? "Use its sub-field." : "Sort and group by one of the allowed fields.",
    details: { ...details, field: shownName(field), nearest, allowed: fields.slice(0, SORTABLE_MAX).map(shownName) },
    cause: failure,
  });
}

/** A sort as clauses in which `referencedFields` finds the names. */
function sortFields(sort: readonly unknown[]): unknown[] {
  return sort.flatMap((item) => {
    if (typeof item === "string") return [{ field: item }];
    return typeof item === "object" && item !== null ? Object.keys(item).map((field) => ({ field })) : [];
  });
}

/** The hint that matters most. */
function hintOf(found: { hasNoCursor: boolean; isRewritten: boolean; isClipped: boolean; isUnknown: boolean }): {
  hint?: string;
} {
  const { hasNoCursor, isRewritten, isClipped, isUnknown } = found;
  if (isUnknown) return { hint: UNKNOWN_FIELDS_HINT };
  if (isRewritten) return { hint: REWRITTEN_HINT };
  if (hasNoCursor) {
    return { hint: "There is no cursor for this search; narrow the query, or use bulk_export to read everything." };
  }
  return isClipped ? { hint: "Long values were clipped; name fields, or use get_document." } : {};
}
