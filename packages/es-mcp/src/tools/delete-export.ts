import { exportIdSchema } from "@es-to-pg/staging";
import { z } from "zod";
import { deleteExport as remove } from "../export/stop-export.ts";
import { defineTool } from "./tool.ts";

export const deleteExport = defineTool({
  name: "delete_export",
  title: "Delete a staged export",
  description:
    "Removes a finished or stalled export from staging; Elasticsearch keeps its documents. Refused while a load reads it.",
  input: z.strictObject({ export_id: exportIdSchema.describe("Handle that bulk_export answered.") }),
  output: z.object({ export_id: z.string(), deleted: z.boolean(), bytes: z.int() }),
  annotations: { readOnlyHint: false, destructiveHint: true, idempotentHint: false, openWorldHint: false },
  async handler({ export_id }, { elasticsearch, jobs, store: open }) {
    const store = await open();
    const bytes = await remove({ elasticsearch, store, jobs }, export_id);
    return { export_id, deleted: true, bytes };
  },
});
