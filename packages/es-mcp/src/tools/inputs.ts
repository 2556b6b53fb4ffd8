import { suggesting } from "@es-to-pg/mcp-kit";
import { z } from "zod";
import { isSql } from "../elasticsearch/query-mistakes.ts";

/** Fields that several tools take, so that a model learns each once. */

export const indexExpression = z
  .string({
    error: ({ input }) => (input === undefined ? "is required (text); list_indices shows the names" : undefined),
  })
  .min(1)
  .max(2_000)
  .describe("Index, alias, data stream or pattern; several by commas.");

export const includeHidden = z.boolean().optional().describe("Also hidden indices. Default false.");

/** Lucene's syntax has a query of its own to stand in; SQL has none. */
const dsl = suggesting(
  z.record(z.string(), z.unknown(), {
    error: ({ input }) =>
      typeof input === "string" && isSql(input)
        ? 'is Query DSL and not SQL: conditions such as {"range":{"price":{"gt":10}}}; fields, sort and size are arguments of search_documents'
        : undefined,
  }),
  (given) =>
    typeof given === "string" && !isSql(given) && !/^\s*[[{]/.test(given)
      ? { query_string: { query: given } }
      : undefined,
);

export const queryDsl = dsl.optional().describe("Query DSL. Default: all documents.");

export const fieldPatterns = z
  .array(z.string().min(1).max(500))
  .min(1, "is empty; leave it out for all fields")
  .max(200)
  .optional();

export const cursor = z.string().min(1).optional().describe("next_cursor of the same call.");
