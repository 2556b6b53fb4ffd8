import type { PromptArgument } from "@es-to-pg/mcp-kit";
import { loadIds } from "../completions.ts";
import type { PgContext } from "../tools/tool.ts";

/** The load that a prompt is about. */
export const loadArgument: PromptArgument<PgContext> = {
  name: "load_id",
  description: "load (load_…)",
  required: true,
  complete: loadIds,
};
