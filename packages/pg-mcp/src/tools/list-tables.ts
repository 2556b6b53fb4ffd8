import { clip, fitItems } from "@es-to-pg/mcp-kit";
import { z } from "zod";
import { describePosture, listTables, readPosture } from "../postgres/index.ts";
import { defineTool } from "./tool.ts";

/** Rows of the catalog looked at for one page; the bytes of the answer cut it further. */
const pageRowsMax = 200;
const commentCharactersMax = 200;

export const listTablesTool = defineTool({
  name: "list_tables",
  title: "List tables",
  description:
    "Lists tables, views and materialized views with estimated rows and bytes; partitions are folded. Start here; get_schema comes next.",
  input: z.strictObject({
    schema: z.string().optional().describe("Only this schema. Default: all but system schemas."),
    pattern: z.string().min(1).default("*").describe("Glob over table names (* and ?), or over schema.table."),
    cursor: z.string().optional().describe("next_cursor of the previous page."),
  }),
  output: z.object({
    tables: z.array(
      z.object({
        schema: z.string(),
        table: z.string(),
        kind: z.string(),
        rows_estimate: z.number().nullable(),
        bytes: z.number(),
        partitions: z.number().optional(),
        comment: z.string().optional(),
      }),
    ),
    returned: z.number(),
    total: z.number(),
    next_cursor: z.string().optional(),
    posture: z.string(),
    next: z.string().optional(),
  }),
  annotations: { readOnlyHint: true, destructiveHint: false, idempotentHint: true, openWorldHint: false },
  async handler(params, { postgres, policy, signal, cursors }) {
    const scope = { tool: "list_tables", arguments: params };
    const after =
      params.cursor === undefined
        ? undefined
        : cursors.decode(scope, params.cursor, z.object({ schema: z.string(), table: z.string() }));
    const { schema, pattern } = params;
    const [found, posture] = await Promise.all([
      postgres.read((tx) => listTables(tx, { schema, pattern, policy, after, limit: pageRowsMax }), { signal }),
      readPosture(postgres, { signal }),
    ]);
    const { items, cutBy } = fitItems(
      found.tables.map(({ rowsEstimate, partitions, comment, ...table }) => ({
        ...table,
        rows_estimate: rowsEstimate,
        ...(table.kind === "partitioned" ? { partitions } : {}),
        ...(comment === null ? {} : { comment: clip(comment, commentCharactersMax) }),
      })),
    );
    const last = items.at(-1);
    const more = cutBy !== null || found.more;
    return {
      tables: items,
      returned: items.length,
      total: found.total,
      ...(more && last !== undefined
        ? { next_cursor: cursors.encode(scope, { schema: last.schema, table: last.table }) }
        : {}),
      posture: describePosture(posture),
      ...(found.total > 0 ? {} : { next: nothingFits(params.pattern) }),
    };
  },
});

function nothingFits(pattern: string): string {
  if (/[%]/.test(pattern)) return "Nothing fits: in a glob * stands for any text, and % for itself.";
  return pattern === "*"
    ? "There is no table yet; create_table makes one."
    : "Nothing fits; leave pattern and schema out to see all.";
}
