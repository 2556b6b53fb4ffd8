import type { Jobs, Logger, ToolCall } from "@es-to-pg/mcp-kit";
import type { StagingStore } from "@es-to-pg/staging";
import type { Postgres, TablePolicy } from "../postgres/index.ts";

/** What loads need of the server; the tools' context is one. */
export interface LoadContext {
  postgres: Postgres;
  store: () => Promise<StagingStore>;
  jobs: Jobs;
  logger: Logger;
  policy: TablePolicy;
  settings: {
    readonly PG_MCP_STATE_SCHEMA: string;
    readonly PG_MCP_RETENTION_DAYS: number;
    readonly PG_MCP_PARTS_AT_ONCE: number;
    readonly PG_MCP_ALLOW_FUNCTIONS: readonly string[];
    readonly MCP_WAIT_SECONDS_DEFAULT: number;
  };
  /** Asks the person behind the call; absent where nobody can be asked. */
  confirm?: ToolCall["confirm"];
  /** Hears of each numbered step of `runLoad` as it begins; the kill tests end the process there. */
  onLoadStep?: (step: string) => void;
}
