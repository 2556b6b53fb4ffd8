import { type AnyTool, type Jobs, type Logger, toolsFor } from "@es-to-pg/mcp-kit";
import type { StagingStore } from "@es-to-pg/staging";
import type { EsSettings } from "../config.ts";
import type { Elasticsearch } from "../elasticsearch/elasticsearch.ts";

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
