import { suggesting } from "@es-to-pg/mcp-kit";
import { z } from "zod";
import { countRows as count } from "../query/index.ts";
import { tableName } from "./inputs.ts";
import { defineTool } from "./tool.ts";

export const countRows = defineTool({
  name: "count_rows",
  title: "Count rows",
  description: "Counts the rows of a table, all or those that match. Use it to check a plan or a load.",
  input: z.strictObject({
    table: tableName.describe("Table name, or schema.table."),
    schema: z.string().optional().describe("Default: the first allowed schema, else public."),
    where: suggesting(z.union([z.record(z.string(), z.unknown()), z.string()]), (given) =>
      Array.isArray(given) && given.length > 0 ? { and: given } : undefined,
    )
      .optional()
      .describe(
        '{"column":"price","op":">","value":10}, nested in {"and":[…]}, {"or":[…]}, {"not":{…}}; op: = != < <= > >= in not_in between like ilike contains is_null not_null. Or a SQL condition.',
      ),
    params: z.array(z.unknown()).default([]).describe("Values of $1, $2 … in a SQL condition."),
    estimate: z.boolean().default(false).describe("The planner's estimate, at once."),
  }),
  output: z.object({ schema: z.string(), table: z.string(), count: z.number(), exact: z.boolean() }),
  annotations: { readOnlyHint: true, destructiveHint: false, idempotentHint: true, openWorldHint: false },
  async handler(params, { postgres, policy, settings, signal }) {
    const { table, count: rows } = await count({
      ...params,
      postgres,
      policy,
      signal,
      timeoutMs: settings.PG_MCP_QUERY_TIMEOUT_SECONDS * 1_000,
      functionsAllow: settings.PG_MCP_ALLOW_FUNCTIONS,
    });
    return { schema: table.schema, table: table.table, count: rows, exact: !params.estimate };
  },
});
