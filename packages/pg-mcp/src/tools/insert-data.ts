import { z } from "zod";
import { insertRow } from "../load/insert-row.ts";
import { tableName } from "./inputs.ts";
import { defineTool } from "./tool.ts";

export const insertData = defineTool({
  name: "insert_data",
  title: "Insert one row",
  description: "Writes one row and answers it as stored; several rows and exports go through bulk_insert.",
  input: z.strictObject({
    table: tableName.describe("Table, or schema.table."),
    schema: z.string().optional(),
    row: z
      .record(z.string(), z.unknown())
      .refine((row) => Object.keys(row).length > 0, "is empty; name at least one column, get_schema lists them")
      .describe("Values by column; big integers and decimals as strings."),
    on_conflict: z.enum(["error", "ignore", "update"]).default("error").describe("When the key exists."),
    key: z.array(z.string()).optional().describe("Default: the primary key."),
  }),
  output: z.object({
    load_id: z.string(),
    outcome: z.enum(["inserted", "updated", "unchanged", "skipped", "suppressed"]),
    table: z.string(),
    row: z.record(z.string(), z.unknown()).nullable(),
    cut: z.array(z.string()).optional(),
  }),
  annotations: { readOnlyHint: false, destructiveHint: true, idempotentHint: false, openWorldHint: false },
  handler: (params, context) => insertRow(context, params),
});
