import { ANSWER_BYTES_MAX, parseExactJson, ToolError } from "@es-to-pg/mcp-kit";
import type { MappingField } from "@es-to-pg/staging";
import type { Elasticsearch } from "../elasticsearch/elasticsearch.ts";
import { searchTimedOut } from "../elasticsearch/failures.ts";
import { guardBody } from "../elasticsearch/guard.ts";
import { targetsOf } from "../elasticsearch/targets.ts";
import { LineWriter } from "./line-writer.ts";
import type { ExportRequest } from "./request.ts";
import { FieldSelection } from "./rewrite.ts";
import { PageScanner } from "./scan.ts";
import { refuseUnknownFields } from "./selected-fields.ts";
import { VectorRequest } from "./vectors.ts";

/** Most documents that are given out in an answer. More belong into staging. */
export const INLINE_DOCUMENTS_MAX = 100;

/** Room of an answer for what is not documents. */
const ANSWER_BYTES_REST = 1024;

/** The documents themselves, if they are few and small: what they are is exact, numbers included. */
export async function exportInline(
  elasticsearch: Elasticsearch,
  request: ExportRequest,
  signal: AbortSignal,
): Promise<{ documents: unknown[]; total: number }> {
  guardBody(request.query);
  if (request.since !== undefined) {
    throw new ToolError("not_inline", "What was written since an export is staged, and not given out inline.", {
      next: STAGE_INSTEAD,
    });
  }
  const { indices } = await elasticsearch.names(request.index, { includeHidden: request.includeHidden, signal });
  const { path, query } = targetsOf(indices, request.query);
  const size = Math.min(request.maxDocuments ?? INLINE_DOCUMENTS_MAX, INLINE_DOCUMENTS_MAX);
  const mapping = await visibleMapping(
    elasticsearch,
    indices.map(({ name }) => name),
    signal,
  );
  if (request.fields !== undefined && mapping !== undefined) refuseUnknownFields(request.fields, mapping);
  const vectors = new VectorRequest(mapping ?? []);
  const page = await vectors
    .ask((body) =>
      elasticsearch.bytes(
        {
          method: "POST",
          path: [path, "_search"],
          query: { allow_partial_search_results: "false" },
          body: { size, query, sort: ["_doc"], seq_no_primary_term: true, track_total_hits: true, ...body },
        },
        { signal, bytesMax: INLINE_BYTES_MAX },
      ),
    )
    .catch((error: unknown) => {
      throw error instanceof ToolError && error.code === "response_too_large" ? tooLarge({}) : error;
    });
  const lines = new LineWriter(request.fields === undefined ? undefined : new FieldSelection(request.fields));
  lines.begin(page);
  const scanned = new PageScanner().scan(page, { visit: (hit) => void lines.append(hit) });
  const total = scanned.total ?? 0;
  if (scanned.timedOut) throw searchTimedOut({ status: 200 });
  if (scanned.shardsFailed > 0) {
    throw new ToolError("shards_failed", "Not every shard of the index answers.", { retryable: true });
  }
  const written = lines.take();
  const bytes = written.length;
  if (request.maxDocuments === undefined && total > INLINE_DOCUMENTS_MAX) throw tooLarge({ total });
  if (bytes > ANSWER_BYTES_MAX - ANSWER_BYTES_REST) throw tooLarge({ total, bytes });
  if (scanned.stoppedAtLineComment) {
    throw new ToolError("not_inline", "A document ends in a comment that hides the ones after it.", {
      next: STAGE_INSTEAD,
    });
  }
  const texts = written.toString("utf8").split("\n").slice(0, -1);
  return { documents: texts.map((text) => parseExactJson(text)), total };
}

/** Undefined without the right to see it: then documents are given out as Elasticsearch shows them by itself. */
async function visibleMapping(
  elasticsearch: Elasticsearch,
  names: string[],
  signal: AbortSignal,
): Promise<MappingField[] | undefined> {
  try {
    return await elasticsearch.mapping(names, { signal });
  } catch (error) {
    if (error instanceof ToolError && error.code === "forbidden") return undefined;
    throw error;
  }
}

/** A page that is read for an answer of 24 KiB; larger documents are for staging anyway. */
const INLINE_BYTES_MAX = 8 * 1024 * 1024;

const STAGE_INSTEAD = "Leave delivery out: the export is staged, and its handle goes to pg-mcp.";

function tooLarge(met: { total?: number; bytes?: number }): ToolError {
  return new ToolError("too_large_inline", "The documents are too many or too large for an answer.", {
    next: STAGE_INSTEAD,
    instead: { arguments: { delivery: undefined } },
    details: { ...met, documents_max: INLINE_DOCUMENTS_MAX, bytes_max: ANSWER_BYTES_MAX - ANSWER_BYTES_REST },
  });
}
