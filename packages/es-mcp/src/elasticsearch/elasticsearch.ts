import type { MappingField, SourceIndex } from "@es-to-pg/staging";
import type { ResponseBuffer } from "./response-buffer.ts";

/** One request, by path segments. Only methods and templates of `requests.ts` leave the process. */
export interface EsRequest {
  method: "GET" | "POST" | "DELETE";
  /** Segments are percent-encoded by the gateway; several indices are one segment with commas. */
  path: string[];
  query?: Record<string, string>;
  body?: unknown;
  /** Instead of `body`: one JSON text per line, for `_msearch`. */
  lines?: unknown[];
}

export interface RequestOptions {
  signal: AbortSignal;
  /** How long the answer may take in all. Default: `ES_MCP_REQUEST_TIMEOUT_SECONDS`. */
  timeoutMs?: number;
  /** Largest answer read into memory; beyond it the call fails with `response_too_large`. */
  bytesMax?: number;
  /** Statuses of 400 and more that are answers to this request: a missing document is a 404. */
  accept?: readonly number[];
  /** Never sent again by itself: the next page of a scroll is another one each time. */
  once?: boolean;
  /** Memory to read the answer into; the answer is valid until that is used again. */
  into?: ResponseBuffer;
}

export interface ResolveOptions {
  includeHidden: boolean;
  /** Answers with an empty list where a pattern fits nothing, instead of `index_not_found`. */
  allowNone?: boolean;
  signal: AbortSignal;
}

/** An index that matched but is not read, and why: `closed`, `hidden`, `system` … */
export interface LeftOut {
  name: string;
  why: string;
}

/** An open, permitted index behind an expression. */
export interface IndexName {
  name: string;
  hidden: boolean;
  aliases: string[];
  /** The data stream that it backs, if any. */
  dataStream: string | null;
  /** The filter to AND to every query, where the expression reaches the index only through filtered aliases. */
  aliasFilter?: unknown;
}

export interface Names {
  indices: IndexName[];
  leftOut: LeftOut[];
  /** Whether the expression stands for these indices and no other: Elasticsearch may then be given it as it is. */
  isExact: boolean;
}

export interface ResolvedIndex extends IndexName {
  uuid: string;
  shards: number;
  /** `disabled` stands for `_source: {enabled: false}`: there is nothing to export. */
  sourceMode: SourceIndex["source_mode"] | "disabled";
  /** Index settings, flat, as Elasticsearch gives them. */
  settings: Record<string, unknown>;
}

/** Everything this server asks of Elasticsearch. Failures are `ToolError`s; an abort throws the signal's reason. */
export interface Elasticsearch {
  /** Whether the configuration permits some indices only: then nothing is asked of a name that has not been expanded. */
  readonly restricted: boolean;
  /** The answer's body through `parseExactJson`. */
  json(request: EsRequest, options: RequestOptions): Promise<unknown>;
  /** The answer's body as it came, never parsed. */
  bytes(request: EsRequest, options: RequestOptions): Promise<Buffer>;
  /** Expands names, wildcards, aliases and data streams to open, permitted indices. Throws where a literal name is missing, or nothing is left. */
  names(expression: string | string[], options: ResolveOptions): Promise<Names>;
  /**
   * What `names` said within the last seconds of a name that is an index itself and no alias. Only good for an answer
   * whose hits prove that it still is.
   */
  recentIndex(name: string): Names | undefined;
  /** As `names`, with what a complete copy needs to know about each index. */
  resolve(
    expression: string | string[],
    options: ResolveOptions,
  ): Promise<{ indices: ResolvedIndex[]; leftOut: LeftOut[] }>;
  /** The mappings of concrete indices as Elasticsearch writes them, by name. */
  mappings(indices: readonly string[], options: { signal: AbortSignal }): Promise<Map<string, unknown>>;
  /** The flattened mapping of concrete indices, merged: multi-fields and implicit objects included, conflicts marked. */
  mapping(index: string | string[], options: { signal: AbortSignal }): Promise<MappingField[]>;
  /** The cluster's uuid, or a stable name made of its address where the credentials may not see it. */
  clusterUuid(options: { signal: AbortSignal }): Promise<string>;
  close(): Promise<void>;
}
