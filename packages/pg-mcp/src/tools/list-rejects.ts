import { fitItems } from "@es-to-pg/mcp-kit";
import { z } from "zod";
import { loadIdSchema } from "../load/ledger.ts";
import { listRejects, rejectPosition, shownReject } from "../load/listing.ts";
import { defineTool } from "./tool.ts";

/** A page of rejects: some twenty, enough to see what they have in common. */
const PAGE_BYTES_MAX = 4_096;

/** What brings rejected documents in without touching those that are. */
const CORRECT_AND_REPLAY =
  'Correct the mapping with {"id":"map_…","changes":{…}} and call bulk_insert with rejects_of of this load_id.';

export const listRejectsTool = defineTool({
  name: "list_rejects",
  title: "List a load's rejects",
  description:
    "Documents that a load kept out: id, column, reason, SQLSTATE, clipped value. Use it to correct the mapping, then load again.",
  input: z.strictObject({
    load_id: loadIdSchema,
    reason: z.string().optional().describe("Only this reason."),
    cursor: z.string().optional().describe("next_cursor of the previous page."),
  }),
  output: z.object({
    load_id: z.string(),
    total: z.number(),
    reasons: z.array(z.object({ reason: z.string(), count: z.number() })),
    rejects: z.array(shownReject),
    returned: z.number(),
    next_cursor: z.string().optional(),
    next: z.string().optional(),
  }),
  annotations: { readOnlyHint: true, destructiveHint: false, idempotentHint: true, openWorldHint: false },
  async handler(params, context) {
    const scope = { tool: "list_rejects", arguments: params };
    const after = params.cursor === undefined ? null : context.cursors.decode(scope, params.cursor, rejectPosition);
    const page = { loadId: params.load_id, reason: params.reason ?? null, after };
    const found = await listRejects(context, page, context.signal);
    const { items } = fitItems(found.rejects, { bytesMax: PAGE_BYTES_MAX });
    const last = items.at(-1);
    const hasMore = items.length < found.rejects.length || found.more;
    return {
      load_id: params.load_id,
      total: found.total,
      reasons: found.reasons,
      rejects: items,
      returned: items.length,
      ...(hasMore && last !== undefined
        ? { next_cursor: context.cursors.encode(scope, { part: last.part, line: last.line }) }
        : {}),
      ...(found.total === 0 ? {} : { next: CORRECT_AND_REPLAY }),
    };
  },
});
