import { exportIdSchema } from "@es-to-pg/staging";
import { z } from "zod";
import { cancelledState, describeExport } from "../export/state.ts";
import { cancelExport as cancel } from "../export/stop-export.ts";
import { defineTool } from "./tool.ts";

export const cancelExport = defineTool({
  name: "cancel_export",
  title: "Cancel an export",
  description:
    "Stops a working export for every caller that shares it and closes its snapshot. What is staged stays until delete_export.",
  input: z.strictObject({ export_id: exportIdSchema.describe("Handle that bulk_export answered.") }),
  output: cancelledState,
  annotations: { readOnlyHint: false, destructiveHint: true, idempotentHint: true, openWorldHint: false },
  async handler({ export_id }, { elasticsearch, jobs, store: open }) {
    const store = await open();
    await cancel({ elasticsearch, store, jobs }, export_id);
    return describeExport(store, await store.read(export_id));
  },
});
