import { z } from "zod";
import { cancelAnswer } from "../load/answer.ts";
import { loadIdSchema } from "../load/ledger.ts";
import { cancelLoad } from "../load/show.ts";
import { defineTool } from "./tool.ts";

export const cancelLoadTool = defineTool({
  name: "cancel_load",
  title: "Cancel a load",
  description:
    "Ends a working load in any process and leaves the target as it was. A finished load stays as it is; its verify_load is stopped.",
  input: z.strictObject({ load_id: loadIdSchema }),
  output: cancelAnswer,
  annotations: { readOnlyHint: false, destructiveHint: true, idempotentHint: true, openWorldHint: false },
  handler: ({ load_id }, context) => cancelLoad(context, load_id),
});
