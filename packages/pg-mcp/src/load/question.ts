import type { Question } from "@es-to-pg/mcp-kit";
import type { LoadPlan } from "../mapping/plan.ts";
import type { LoadRequest } from "./start.ts";

/** Documents that a load may leave out without a person being asked. */
const REJECTS_UNASKED_MAX = 100;

/**
 * What a person should say yes to before a load: rows that it removes, and more documents left out than a few, as a dry
 * run of the same arguments found or the caller allows. Undefined where nothing is lost.
 */
export function questionBefore(
  { table }: Pick<LoadPlan, "table">,
  found: {
    request: Pick<LoadRequest, "exportId" | "limits">;
    /** Rows that `replace` may remove from a table that holds some. */
    deletesMax: number | null;
    /** Documents that a dry run of the same arguments rejected. */
    rejected: number | undefined;
    expected: number;
  },
): Question | undefined {
  const { request, deletesMax, rejected, expected } = found;
  const target = `${table.schema}.${table.table}`;
  const source = request.exportId ?? "the rows of the call";
  const sentences: string[] = [];
  if (deletesMax !== null) {
    sentences.push(`Replace the rows of ${target} by ${source}? ${count(deletesMax, "row")} would be removed.`);
  }
  const { rejectsMax } = request.limits;
  const isMeasured = rejected !== undefined && rejected > REJECTS_UNASKED_MAX;
  if (isMeasured) {
    const documents = count(expected, "document");
    sentences.push(
      `Load ${source} into ${target} although ${rejected.toLocaleString("en")} of ${documents} are rejected?`,
    );
  } else if (rejectsMax !== null && rejectsMax > REJECTS_UNASKED_MAX) {
    sentences.push(`Load ${source} into ${target} although up to ${count(rejectsMax, "document")} may be rejected?`);
  }
  if (sentences.length === 0) return undefined;
  return { message: sentences.join(" "), yes: deletesMax === null ? "Load the rest" : "Replace" };
}

function count(number: number, unit: string): string {
  return `${number.toLocaleString("en")} ${unit}${number === 1 ? "" : "s"}`;
}
