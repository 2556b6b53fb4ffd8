import { type AnyTool, toolsFor } from "@es-to-pg/mcp-kit";
import type { EsSettings } from "../config.ts";
import type { Elasticsearch } from "../elasticsearch/elasticsearch.ts";
import type { Jobs, Logger, StagingStore } from "../pending.ts";

/** What every tool of this server may use besides the call itself. */
export interface EsContext {
  elasticsearch: Elasticsearch;
  /** Opened at first use, so that discovery works where no staging root can be written. */
  store: () => Promise<StagingStore>;
  jobs: Jobs;
  settings: EsSettings;
  logger: Logger;
}

/** Types a tool for this server. */
export const defineTool = toolsFor<EsContext>();

export type EsTool = AnyTool<EsContext>;
