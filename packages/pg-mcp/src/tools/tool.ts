import { type Jobs, type Logger, toolsFor } from "@es-to-pg/mcp-kit";
import type { StagingStore } from "@es-to-pg/staging";
import type { PgSettings } from "../config.ts";
import type { Postgres, TablePolicy } from "../postgres/index.ts";

/** What every tool of this server works with. */
export interface PgContext {
  postgres: Postgres;
  /** Opens the staging root on the first call. */
  store: () => Promise<StagingStore>;
  jobs: Jobs;
  settings: PgSettings;
  logger: Logger;
  /** Which schemas and tables the settings let the tools touch. */
  policy: TablePolicy;
}

export const defineTool = toolsFor<PgContext>();
