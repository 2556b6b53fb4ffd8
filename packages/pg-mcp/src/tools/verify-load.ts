import { waitSeconds } from "@es-to-pg/mcp-kit";
import { z } from "zod";
import { loadIdSchema } from "../load/ledger.ts";
import { verifyAnswer, verifyLoad } from "../load/verify-job.ts";
import { defineTool } from "./tool.ts";

export const verifyLoadTool = defineTool({
  name: "verify_load",
  title: "Verify a load",
  description:
    "Compares every staged row of a completed load with the table: matched, missing, different by column, extra. Use it to prove a load; call it again while the verdict is working.",
  input: z.strictObject({
    load_id: loadIdSchema,
    extra: z.boolean().default(false).describe("Count rows of the table that the export lacks; replace always does."),
    wait_seconds: waitSeconds,
  }),
  output: verifyAnswer,
  annotations: { readOnlyHint: true, destructiveHint: false, idempotentHint: true, openWorldHint: false },
  onPage: true,
  handler: ({ load_id, extra, wait_seconds }, context) =>
    verifyLoad(context, load_id, { extra, waitSeconds: wait_seconds }),
});
