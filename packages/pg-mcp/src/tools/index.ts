import type { AnyTool } from "@es-to-pg/mcp-kit";
import { countRows } from "./count-rows.ts";
import { executeQuery } from "./execute-query.ts";
import { getSchema } from "./get-schema.ts";
import { listTablesTool } from "./list-tables.ts";
import type { PgContext } from "./tool.ts";

/** Every tool of this server, in the order in which a model meets them. */
export const tools: readonly AnyTool<PgContext>[] = [listTablesTool, getSchema, countRows, executeQuery];

/** The tools of an access mode: `read-only` has none that changes anything. */
export function toolsOf(access: "read-write" | "read-only"): readonly AnyTool<PgContext>[] {
  return access === "read-write" ? tools : tools.filter((tool) => tool.annotations.readOnlyHint);
}
