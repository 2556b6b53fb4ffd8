import { nearest, ToolError } from "@es-to-pg/mcp-kit";
import type { MappingField } from "@es-to-pg/staging";
import { FieldSelection } from "./rewrite.ts";

/**
 * Throws for names that select nothing of a document: those that no mapped field has, which are misspelt more often than
 * not (a glob says that they are meant), and those of fields that are not in `_source`.
 */
export function refuseUnknownFields(fields: readonly string[], mapping: readonly MappingField[]): void {
  // Selecting validates the patterns too.
  const selection = new FieldSelection(fields);
  for (const field of fields) {
    const exact = mapping.find(({ path }) => path === field);
    if (exact?.multi_field === true || exact?.type === "alias") {
      throw new ToolError(
        "field_not_in_source",
        `${exact.type === "alias" ? "An alias" : "A multi-field"} is not part of a document.`,
        {
          next: "Name the field that it stands for.",
          details: { field },
        },
      );
    }
    if (exact?.parameters?.["script"] === true) {
      throw new ToolError(
        "field_not_in_source",
        "A runtime field is computed by a script and is not part of a document.",
        {
          next: "Export the fields that its script reads, and compute it by an expression of the mapping in pg-mcp.",
          details: { field },
        },
      );
    }
    const isKnown =
      field.includes("*") ||
      mapping.some(({ path, enabled, type }) => {
        const isOpen = enabled === false || type === "flattened";
        return path === field || path.startsWith(`${field}.`) || (isOpen && field.startsWith(`${path}.`));
      });
    if (isKnown) continue;
    throw new ToolError("unknown_field", "The mapping has no field of this name.", {
      next: "Use one of the nearest names or get_mapping; a field that is not mapped can be named with a * beside mapped ones.",
      details: {
        field,
        nearest: nearest(
          field,
          mapping.map(({ path }) => path),
        ),
      },
    });
  }
  if (mapping.length > 0 && mapping.every(({ path }) => selection.judge(path) === "dropped")) {
    throw new ToolError("unknown_field", "The fields match nothing in the mapping.", {
      next: "Use get_mapping to see the names there are.",
    });
  }
}

/**
 * The part of a mapping that documents cut to `fields` can still hold: what is selected, the objects on the way to it, and
 * objects of which the mapping does not say what they hold.
 */
export function selectedMapping(fields: readonly string[], mapping: readonly MappingField[]): MappingField[] {
  const selection = new FieldSelection(fields);
  const kept = mapping.filter(({ path }) => selection.judge(path) === "kept");
  return mapping.filter(({ path, type, enabled }) => {
    const verdict = selection.judge(path);
    if (verdict !== "searched") return verdict === "kept";
    if (kept.some((field) => field.path.startsWith(`${path}.`))) return true;
    const isOpen = enabled === false || ["object", "nested", "flattened"].includes(type);
    return isOpen && !mapping.some((field) => field.path.startsWith(`${path}.`));
  });
}
