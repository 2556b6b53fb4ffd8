import { waitForJob, waitSeconds } from "@es-to-pg/mcp-kit";
import { exportIdSchema } from "@es-to-pg/staging";
import { z } from "zod";
import { describeExport, exportState, isSettled } from "../export/state.ts";
import { defineTool } from "./tool.ts";

export const getExport = defineTool({
  name: "get_export",
  title: "State of an export",
  description:
    "How far an export is: documents of expected, parts, what its fields hold, warnings, why it failed. Use it with wait_seconds after bulk_export.",
  input: z.strictObject({
    export_id: exportIdSchema.describe("Handle that bulk_export answered."),
    wait_seconds: waitSeconds,
  }),
  output: exportState,
  annotations: { readOnlyHint: true, destructiveHint: false, idempotentHint: true, openWorldHint: false },
  onPage: true,
  async handler({ export_id, wait_seconds }, context) {
    const store = await context.store();
    const manifest = await waitForJob({
      read: () => store.read(export_id),
      isDone: (state) => isSettled(store, state),
      waitSeconds: wait_seconds ?? 0,
      call: context,
      end: context.jobs.end(export_id),
      progress: ({ totals, source }) => ({ done: totals.documents, total: source.expected }),
    });
    return describeExport(store, manifest);
  },
});
