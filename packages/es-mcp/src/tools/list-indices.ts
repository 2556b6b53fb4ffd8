import { fitItems } from "@es-to-pg/mcp-kit";
import { z } from "zod";
import { type IndexRow, listIndices as listRows } from "../elasticsearch/listing.ts";
import { cursor, includeHidden } from "./inputs.ts";
import { leftOut, leftOutOf, shownName } from "./outputs.ts";
import { defineTool } from "./tool.ts";

/** Rows that are counted for one page: each costs a search. */
const ROWS_MAX = 100;

/** What is left of the answer's target for rows. */
const ROWS_BYTES_MAX = 5_000;

const positionSchema = z.strictObject({ after: z.string() });

export const listIndices = defineTool({
  name: "list_indices",
  title: "List indices",
  description:
    "Lists indices and data streams with exact document counts, sizes and aliases. Start here; get_mapping comes next.",
  input: z.strictObject({
    pattern: z.string().min(1).max(2_000).default("*").describe("Name or pattern with *."),
    include_hidden: includeHidden,
    cursor,
  }),
  output: z.object({
    indices: z.array(
      z.object({
        name: z.string(),
        documents: z.int().nullable(),
        bytes: z.int().nullable(),
        health: z.string().nullable(),
        aliases: z.array(z.string()).optional(),
        data_stream: z.literal(true).optional(),
        backing_indices: z.int().optional(),
        hidden: z.literal(true).optional(),
      }),
    ),
    returned: z.int(),
    total: z.int(),
    left_out: leftOut,
    not_permitted: z.array(z.string()).optional(),
    next_cursor: z.string().optional(),
    hint: z.string().optional(),
  }),
  annotations: { readOnlyHint: true, destructiveHint: false, idempotentHint: true, openWorldHint: false },
  async handler({ pattern, include_hidden = false, cursor: given }, { elasticsearch, signal, cursors }) {
    const scope = { tool: "list_indices", arguments: { pattern, include_hidden } };
    const after = given === undefined ? undefined : cursors.decode(scope, given, positionSchema).after;
    const listing = await listRows(
      elasticsearch,
      { pattern, includeHidden: include_hidden, after, rowsMax: ROWS_MAX },
      signal,
    );
    const { items } = fitItems(listing.rows.map(shownRow), { bytesMax: ROWS_BYTES_MAX });
    const last = listing.rows[items.length - 1];
    const hasMore = last !== undefined && last.name !== listing.lastName;
    return {
      indices: items,
      returned: items.length,
      total: listing.total,
      ...leftOutOf(listing.leftOut),
      ...(listing.notPermitted.length === 0 ? {} : { not_permitted: listing.notPermitted }),
      ...(hasMore ? { next_cursor: cursors.encode(scope, { after: last.name }) } : {}),
      ...(listing.total === 0 ? { hint: "No readable index fits the pattern; call without pattern to see all." } : {}),
    };
  },
});

function shownRow({ name, documents, bytes, health, aliases, data_stream, backing_indices, hidden }: IndexRow) {
  return {
    name: shownName(name),
    documents,
    bytes,
    health,
    ...(aliases.length === 0 ? {} : { aliases: aliases.slice(0, 10).map(shownName) }),
    ...(data_stream ? { data_stream } : {}),
    ...(backing_indices === null ? {} : { backing_indices }),
    ...(hidden ? { hidden } : {}),
  };
}
