import { ToolError } from "@es-to-pg/mcp-kit";
import type { FieldProfile, MappingField } from "@es-to-pg/staging";
import type { Elasticsearch } from "../elasticsearch/elasticsearch.ts";
import { searchTimedOut } from "../elasticsearch/failures.ts";
import { guardBody } from "../elasticsearch/guard.ts";
import { targetsOf } from "../elasticsearch/targets.ts";
import { PAGE_BYTES_MAX } from "./page-size.ts";
import { Profile } from "./profile.ts";
import { PageScanner } from "./scan.ts";
import { VectorRequest } from "./vectors.ts";

export interface Sample {
  documents: number;
  total: number;
  profile: FieldProfile[];
  mapping: MappingField[];
  warnings: string[];
}

/** Profiles a random sample of the matching documents. Smaller than asked for where documents are large. */
export async function profileSample(
  elasticsearch: Elasticsearch,
  options: {
    index: string[];
    query: Record<string, unknown> | undefined;
    sample: number;
    includeHidden: boolean;
    signal: AbortSignal;
  },
): Promise<Sample> {
  const { signal } = options;
  guardBody(options.query);
  const { indices } = await elasticsearch.names(options.index, { includeHidden: options.includeHidden, signal });
  const { path, query } = targetsOf(indices, options.query);
  const mapping = await elasticsearch.mapping(
    indices.map(({ name }) => name),
    { signal },
  );
  const profile = new Profile();
  const warnings: string[] = [];
  const vectors = new VectorRequest(mapping);
  for (let size = options.sample; ; ) {
    try {
      const page = await elasticsearch.bytes(
        {
          method: "POST",
          path: [path, "_search"],
          query: { allow_partial_search_results: "false" },
          body: {
            size,
            track_total_hits: true,
            ...vectors.body,
            query: {
              function_score: { query: { bool: { filter: [query] } }, random_score: {}, boost_mode: "replace" },
            },
          },
        },
        { signal, ...(size === 1 ? {} : { bytesMax: PAGE_BYTES_MAX }) },
      );
      const scanned = new PageScanner().scan(page, { profile, visit() {} });
      if (scanned.timedOut) throw searchTimedOut({ status: 200 });
      if (scanned.shardsFailed > 0) {
        throw new ToolError("shards_failed", "Not every shard of the index answers.", { retryable: true });
      }
      if (size < options.sample) warnings.push("The documents are large, so the sample is smaller than asked for.");
      if (scanned.stoppedAtLineComment)
        warnings.push("A document with a line comment behind it ended the sample early.");
      if (profile.truncated) warnings.push("There are more paths than are profiled: keys seem to be data.");
      return { documents: scanned.hits, total: scanned.total ?? 0, profile: profile.fields(), mapping, warnings };
    } catch (error) {
      if (vectors.isRefused(error)) continue;
      if (!(error instanceof ToolError) || error.code !== "response_too_large" || size === 1) throw error;
      size = Math.max(1, size >> 2);
    }
  }
}
