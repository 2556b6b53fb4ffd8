import { digest } from "@es-to-pg/mcp-kit";

/** What defines the data of an export. */
export interface ExportRequest {
  index: string[];
  query: Record<string, unknown> | undefined;
  fields: string[] | undefined;
  maxDocuments: number | undefined;
  includeHidden: boolean;
  since: string | undefined;
}

/** The same data asked of the same cluster has the same digest, whatever the order of keys, indices or fields. */
export function requestDigest(request: ExportRequest, clusterUuid: string): string {
  return digest({
    cluster: clusterUuid,
    index: [...new Set(request.index)].sort(),
    query: request.query ?? null,
    fields: request.fields === undefined ? null : [...new Set(request.fields)].sort(),
    max_documents: request.maxDocuments ?? null,
    include_hidden: request.includeHidden,
    since: request.since ?? null,
  });
}
