import { waitSeconds } from "@es-to-pg/mcp-kit";
import { z } from "zod";
import { loadAnswer } from "../load/answer.ts";
import { loadIdSchema } from "../load/ledger.ts";
import { showLoad } from "../load/show.ts";
import { defineTool } from "./tool.ts";

export const getLoad = defineTool({
  name: "get_load",
  title: "Get a load",
  description: "State, figures and first rejects of a load; waits for its end. Use it while bulk_insert is working.",
  input: z.strictObject({ load_id: loadIdSchema, wait_seconds: waitSeconds }),
  // What a start alone can find is no part of the answer.
  output: loadAnswer.omit({ reused: true, already_loaded: true }),
  annotations: { readOnlyHint: true, destructiveHint: false, idempotentHint: true, openWorldHint: false },
  onPage: true,
  handler: ({ load_id, wait_seconds }, context) => showLoad(context, load_id, { waitSeconds: wait_seconds }),
});
