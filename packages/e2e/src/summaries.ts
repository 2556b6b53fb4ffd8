import { z } from "zod";
import type { Answer } from "./servers.ts";

const named = z.looseObject({ name: z.string() });

/** One line on what a tool answered, for the narration. */
export function summarise(tool: string, answer: Answer): string {
  if (answer.isError) return errorLine(answer.data);
  const { data } = answer;
  switch (tool) {
    case "list_indices": {
      const { indices } = z.looseObject({ indices: z.array(named) }).parse(data);
      return `${indices.length} matching: ${indices.map(({ name }) => name).join(", ")}`;
    }
    case "get_mapping":
      return `${text(data, "total")} fields`;
    case "profile_index":
      return `${text(data, "fields_total")} fields, seen in ${text(data, "documents")} documents`;
    case "get_schema":
      return "the table is there";
    case "create_table":
      return text(data, "action");
    case "bulk_export":
    case "get_export":
      return `${text(data, "export_id")} ${text(data, "status")}: ${text(data, "documents")} documents`;
    case "propose_mapping":
      return `${text(data, "mapping_id")}, expects ${text(data, "rejects_expected")} rejects`;
    case "bulk_insert":
    case "get_load":
      return `${text(data, "load_id")} ${text(data, "status")}`;
    case "verify_load":
      return `${text(data, "matched")} rows match`;
    case "count_rows":
      return `${text(data, "count")} rows`;
    case "list_rejects":
    case "execute_query":
      return `${text(data, "returned")} rows`;
    default:
      return "";
  }
}

function errorLine(data: Record<string, unknown>): string {
  const error = z.looseObject({ error: z.looseObject({ code: z.string() }) }).safeParse(data);
  return error.success ? `no: ${error.data.error.code}` : "no";
}

/** A member of the answer as a person reads it. */
function text(data: Record<string, unknown>, name: string): string {
  const value = data[name];
  if (typeof value === "number") return value.toLocaleString("en");
  return typeof value === "string" ? value : JSON.stringify(value ?? null);
}
