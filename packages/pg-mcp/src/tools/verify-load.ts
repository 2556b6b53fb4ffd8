import { z } from "zod";
import { loadIdSchema } from "../load/ledger.ts";
import { verification, verifyLoad } from "../load/verify.ts";
import { defineTool } from "./tool.ts";

export const verifyLoadTool = defineTool({
  name: "verify_load",
  title: "Verify a load",
  description:
    "Compares every staged row of a completed load with the table: matched, missing, different by column, extra. Use it to prove a load.",
  input: z.strictObject({
    load_id: loadIdSchema,
    extra: z.boolean().default(false).describe("Count rows of the table that the export lacks; replace always does."),
  }),
  output: verification,
  annotations: { readOnlyHint: true, destructiveHint: false, idempotentHint: true, openWorldHint: false },
  handler: ({ load_id, extra }, context) => verifyLoad(context, load_id, { extra }),
});
