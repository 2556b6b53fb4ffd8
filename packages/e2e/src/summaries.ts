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
    case "profile_index":
      return `${total(data)} fields`;
    case "get_schema":
      return "the table is there";
    case "create_table":
      return text(data, "action");
    case "bulk_export":
    case "get_export":
      return `${text(data, "export_id")} ${text(data, "status")}: ${text(data, "documents")} documents`;
    case "propose_mapping":
      return text(data, "mapping_id");
    case "bulk_insert":
    case "get_load":
      return `${text(data, "load_id")} ${text(data, "status")}`;
    case "verify_load":
      return `${text(data, "matched")} rows match`;
    case "count_rows":
      return `${text(data, "count")} rows`;
    default:
      return "";
  }
}

function errorLine(data: Record<string, unknown>): string {
  const error = z.looseObject({ error: z.looseObject({ code: z.string() }) }).safeParse(data);
  return error.success ? `no: ${error.data.error.code}` : "no";
}

function total(data: Record<string, unknown>): string {
  return text(data, "total", "returned");
}

/** The first of these members that the answer has. */
function text(data: Record<string, unknown>, ...names: string[]): string {
  const value = names.map((name) => data[name]).find((candidate) => candidate !== undefined);
  return typeof value === "number"
    ? value.toLocaleString("en")
    : typeof value === "string"
      ? value
      : JSON.stringify(value ?? null);
}
