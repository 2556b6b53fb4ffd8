import { ToolError } from "@es-to-pg/mcp-kit";
import type { Elasticsearch, EsRequest, RequestOptions } from "./elasticsearch.ts";

/** What a caller has to know of documents that did not come as they were stored. */
export const REWRITTEN_HINT =
  "A document ends in a comment, so Elasticsearch wrote the documents anew: numbers of more than 17 digits may be rounded here. bulk_export keeps them.";

/**
 * Reads an answer that holds documents. Elasticsearch keeps comments in documents, and one that runs to the end of a line
 * takes the rest of the answer with it: then the documents are asked for again as Elasticsearch writes them anew.
 */
export async function readDocuments(
  elasticsearch: Elasticsearch,
  request: EsRequest,
  options: RequestOptions,
): Promise<{ answer: unknown; rewritten: boolean }> {
  try {
    return { answer: await elasticsearch.json(request, options), rewritten: false };
  } catch (error) {
    if (!(error instanceof ToolError) || error.code !== UNREADABLE) throw error;
  }
  const anew = { ...request, query: { ...request.query, _source_includes: "*" } };
  return { answer: await elasticsearch.json(anew, options), rewritten: true };
}

const UNREADABLE = "answer_unreadable";

/** The failure of an answer in which a comment of a document hides what follows. */
export function answerUnreadable(cause: unknown): ToolError {
  return new ToolError(UNREADABLE, "A document holds a comment that hides the rest of Elasticsearch's answer.", {
    next: "Leave out top_hits, or export the documents with bulk_export, which reads each of them.",
    cause,
  });
}
