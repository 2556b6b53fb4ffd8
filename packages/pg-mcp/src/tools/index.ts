import type { AnyTool } from "@es-to-pg/mcp-kit";
import { bulkInsert } from "./bulk-insert.ts";
import { cancelLoadTool } from "./cancel-load.ts";
import { countRows } from "./count-rows.ts";
import { createTable } from "./create-table.ts";
import { executeQuery } from "./execute-query.ts";
import { getLoad } from "./get-load.ts";
import { getSchema } from "./get-schema.ts";
import { insertData } from "./insert-data.ts";
import { listLoadsTool } from "./list-loads.ts";
import { listRejectsTool } from "./list-rejects.ts";
import { listTablesTool } from "./list-tables.ts";
import { proposeMapping } from "./propose-mapping.ts";
import type { PgContext } from "./tool.ts";
import { verifyLoadTool } from "./verify-load.ts";

/** Every tool of this server, in the order in which a model meets them. */
export const tools: readonly AnyTool<PgContext>[] = [
  listTablesTool,
  getSchema,
  countRows,
  executeQuery,
  proposeMapping,
  createTable,
  insertData,
  bulkInsert,
  getLoad,
  listLoadsTool,
  cancelLoadTool,
  listRejectsTool,
  verifyLoadTool,
];

/** The tools of an access mode: `read-only` has none that changes anything. */
export function toolsOf(access: "read-write" | "read-only"): readonly AnyTool<PgContext>[] {
  return access === "read-write" ? tools : tools.filter((tool) => tool.annotations.readOnlyHint);
}
