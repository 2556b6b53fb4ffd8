import { fitItems } from "@es-to-pg/mcp-kit";
import { z } from "zod";
import { listLoads, loadPosition, loadSummary } from "../load/listing.ts";
import { defineTool } from "./tool.ts";

export const listLoadsTool = defineTool({
  name: "list_loads",
  title: "List loads",
  description: "Lists loads, newest first, with figures. Use it to find a load_id again.",
  input: z.strictObject({ cursor: z.string().optional().describe("next_cursor of the previous page.") }),
  output: z.object({
    loads: z.array(loadSummary),
    returned: z.number(),
    next_cursor: z.string().optional(),
  }),
  annotations: { readOnlyHint: true, destructiveHint: false, idempotentHint: true, openWorldHint: false },
  onPage: true,
  async handler({ cursor }, context) {
    const scope = { tool: "list_loads", arguments: {} };
    const before = cursor === undefined ? null : context.cursors.decode(scope, cursor, loadPosition);
    const found = await listLoads(context, before, context.signal);
    const { items } = fitItems(found.loads);
    const last = items.at(-1);
    const hasMore = items.length < found.loads.length || found.more;
    return {
      loads: items,
      returned: items.length,
      ...(hasMore && last !== undefined
        ? { next_cursor: context.cursors.encode(scope, { created_at: last.created_at, load_id: last.load_id }) }
        : {}),
    };
  },
});
