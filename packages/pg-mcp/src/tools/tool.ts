import { toolsFor } from "@es-to-pg/mcp-kit";
import type { Postgres, TablePolicy } from "../postgres/index.ts";

/** What every tool of this server works with. */
export interface PgContext {
  postgres: Postgres;
  /** Which schemas and tables the settings let the tools touch. */
  policy: TablePolicy;
}

export const defineTool = toolsFor<PgContext>();
