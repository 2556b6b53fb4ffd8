import { ToolError } from "@es-to-pg/mcp-kit";

export function refusedWriting(): ToolError {
  return refused(
    "statements that write or define",
    "Send a SELECT; writing goes through insert_data, create_table and bulk_insert.",
  );
}

export function refused(construct: string, next: string, details: Record<string, unknown> = {}): ToolError {
  return new ToolError("sql_refused", `This server does not run ${construct}.`, { next, details });
}
