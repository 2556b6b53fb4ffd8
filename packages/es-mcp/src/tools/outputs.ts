import { clip } from "@es-to-pg/mcp-kit";
import { z } from "zod";
import type { LeftOut } from "../elasticsearch/elasticsearch.ts";
import type { UnknownField } from "../elasticsearch/fields.ts";

/** Indices that an answer names as left out; of more, the number is enough. */
const LEFT_OUT_MAX = 10;

/** Longest name of an index or a field in a list, in characters: names are foreign text too. */
const NAME_CHARACTERS_MAX = 200;

export const leftOut = z
  .object({ total: z.int(), indices: z.array(z.object({ name: z.string(), why: z.string() })) })
  .optional();

export const unknownFields = z.array(z.object({ field: z.string(), nearest: z.array(z.string()) })).optional();

/** What an answer says that holds nothing because of a name. */
export const UNKNOWN_FIELDS_HINT =
  "No index has the unknown fields, so nothing can match; get_mapping lists the fields.";

/** What matched and is not in the answer, or nothing at all where nothing was left out. */
export function leftOutOf(indices: readonly LeftOut[]): { left_out?: z.output<typeof leftOut> } {
  if (indices.length === 0) return {};
  const named = indices.slice(0, LEFT_OUT_MAX).map(({ name, why }) => ({ name: shownName(name), why }));
  return { left_out: { total: indices.length, indices: named } };
}

/** Names that no index has, or nothing where all are known. */
export function unknownFieldsOf(fields: readonly UnknownField[]): { unknown_fields?: UnknownField[] } {
  if (fields.length === 0) return {};
  return {
    unknown_fields: fields
      .slice(0, LEFT_OUT_MAX)
      .map(({ field, nearest }) => ({ field: shownName(field), nearest: nearest.map(shownName) })),
  };
}

/** A name as a list shows it. */
export function shownName(name: string): string {
  return clip(name, NAME_CHARACTERS_MAX);
}
