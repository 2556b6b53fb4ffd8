import { ToolError } from "@es-to-pg/mcp-kit";
import { z } from "zod";
import type { Elasticsearch, IndexName } from "./elasticsearch.ts";
import { readDocuments } from "./rewritten.ts";
import { targetsOf } from "./targets.ts";

const wholeNumber = z.union([z.int(), z.string()]);

const documentSchema = z.object({
  _index: z.string(),
  _id: z.string(),
  _routing: z.string().optional(),
  _seq_no: wholeNumber,
  _primary_term: wholeNumber,
  _version: wholeNumber,
  _source: z.unknown().optional(),
});

export type Document = z.output<typeof documentSchema> & {
  /** Not as it was stored, because a comment in it cannot be read otherwise. */
  rewritten?: true;
};

const foundSchema = z.union([documentSchema.extend({ found: z.literal(true) }), z.object({ found: z.literal(false) })]);

/** Copies of one id that an answer names before it asks which one is meant. */
const COPIES_MAX = 10;

/**
 * One document by its id. A single index is read in real time; where that finds nothing, or several indices are meant,
 * a search over all shards does, which also finds documents whose routing the caller does not know.
 */
export async function getDocument(
  elasticsearch: Elasticsearch,
  request: { indices: readonly IndexName[]; id: string; routing: string | undefined },
  signal: AbortSignal,
): Promise<Document> {
  const { indices, id, routing } = request;
  const [only, ...others] = indices;
  // An address with a dot as a segment of its own means another one to every library on the way.
  const isAddressable = id !== "." && id !== "..";
  if (only !== undefined && others.length === 0 && only.aliasFilter === undefined && isAddressable) {
    const document = await readNow(elasticsearch, only.name, id, routing, signal);
    if (document !== undefined) return document;
  }
  const found = await searchId(elasticsearch, request, signal);
  const [document] = found;
  if (document === undefined) {
    throw new ToolError("document_not_found", "There is no document with this id.", {
      next: "Check the id; search_documents shows ids of real documents.",
      details: { indices: indices.slice(0, COPIES_MAX).map(({ name }) => name) },
    });
  }
  if (found.length > 1) {
    throw new ToolError("document_ambiguous", "Several documents have this id.", {
      next: "Name one index, and the routing where the index is the same.",
      details: { found: found.map(({ _index, _routing }) => ({ index: _index, routing: _routing ?? null })) },
    });
  }
  return document;
}

async function readNow(
  elasticsearch: Elasticsearch,
  index: string,
  id: string,
  routing: string | undefined,
  signal: AbortSignal,
): Promise<Document | undefined> {
  try {
    const { answer, rewritten } = await readDocuments(
      elasticsearch,
      { method: "GET", path: [index, "_doc", id], ...(routing === undefined ? {} : { query: { routing } }) },
      { signal, accept: [404] },
    );
    const parsed = foundSchema.safeParse(answer);
    if (!parsed.success || !parsed.data.found) return undefined;
    return rewritten ? { ...parsed.data, rewritten } : parsed.data;
  } catch (error) {
    if (error instanceof ToolError && error.code === "routing_missing") return undefined;
    throw error;
  }
}

async function searchId(
  elasticsearch: Elasticsearch,
  { indices, id, routing }: { indices: readonly IndexName[]; id: string; routing: string | undefined },
  signal: AbortSignal,
): Promise<Document[]> {
  const { path, query } = targetsOf(indices, { ids: { values: [id] } });
  const { answer, rewritten } = await readDocuments(
    elasticsearch,
    {
      method: "POST",
      path: [path, "_search"],
      query: { allow_partial_search_results: "false", ...(routing === undefined ? {} : { routing }) },
      body: { query, size: COPIES_MAX, seq_no_primary_term: true, version: true },
    },
    { signal },
  );
  const { hits } = z.object({ hits: z.object({ hits: z.array(documentSchema) }) }).parse(answer).hits;
  return rewritten ? hits.map((hit) => ({ ...hit, rewritten })) : hits;
}
