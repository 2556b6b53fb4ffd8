import { ToolError } from "@es-to-pg/mcp-kit";

/** One JSON value as the text that the server reads for a parameter of that type. */
export function encodeParameter(value: unknown, type: string): string | null {
  if (value === null || value === undefined) return null;
  if (type === "json" || type === "jsonb") return JSON.stringify(value);
  if (Array.isArray(value)) return arrayLiteral(value);
  return scalar(value);
}

/** An array as PostgreSQL writes it: `{1,"a b",NULL,{2}}`. */
export function arrayLiteral(values: readonly unknown[]): string {
  const elements = values.map((value) => {
    if (value === null || value === undefined) return "NULL";
    if (Array.isArray(value)) return arrayLiteral(value);
    return `"${scalar(value).replaceAll(/["\\]/g, "\\$&")}"`;
  });
  return `{${elements.join(",")}}`;
}

function scalar(value: unknown): string {
  switch (typeof value) {
    case "string":
      if (value.includes("\0")) {
        throw new ToolError("invalid_value", "A parameter holds a NUL character, which PostgreSQL's text cannot.", {
          next: "Remove it.",
        });
      }
      if (!value.isWellFormed()) {
        throw new ToolError("invalid_value", "A parameter holds half of a surrogate pair, which is no character.", {
          next: "Send whole characters.",
        });
      }
      return value;
    case "number":
    case "boolean":
    case "bigint":
      return String(value);
    default:
      return JSON.stringify(value);
  }
}
