import type { JsonValue } from "./json-value.ts";
import { Refusal } from "./refusal.ts";

/** Elasticsearch's range fields and the field type of their bounds, so that bounds are read like values of it. */
export const RANGE_FIELDS: Record<string, string> = {
  integer_range: "integer",
  long_range: "long",
  float_range: "float",
  double_range: "double",
  date_range: "date",
};

/** One end of a range; `open` where the bound itself does not belong to it. */
interface Side {
  limit: JsonValue;
  open: boolean;
}

/** The two ends of a range; null: without end. */
export interface Sides {
  lower: Side | null;
  upper: Side | null;
}

const NAMES: Record<string, { side: "lower" | "upper"; open: boolean }> = {
  gte: { side: "lower", open: false },
  gt: { side: "lower", open: true },
  lte: { side: "upper", open: false },
  lt: { side: "upper", open: true },
};

/** Reads `{gte|gt, lte|lt}` as Elasticsearch does: of two bounds on one side the later counts, and `""` is none. */
export function readSides(value: JsonValue): Sides | Refusal {
  const refusal = new Refusal("not_a_range", "The value is not an object of gte or gt, and lte or lt.", "22P02");
  if (value.kind !== "object") return refusal;
  const sides: Sides = { lower: null, upper: null };
  for (const [name, limit] of value.entries) {
    const known = Object.hasOwn(NAMES, name) ? NAMES[name] : undefined;
    if (known === undefined || (limit.kind === "string" && limit.text === "")) return refusal;
    sides[known.side] = limit.kind === "null" ? null : { limit, open: known.open };
  }
  return sides;
}
