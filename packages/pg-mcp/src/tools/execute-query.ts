import { clip, fitItems } from "@es-to-pg/mcp-kit";
import { z } from "zod";
import { runQuery } from "../query/index.ts";
import { defineTool } from "./tool.ts";

/** Bytes of rows where nothing was said, and where the caller asked for a number of rows. */
const bytesDefault = 5_000;
const bytesAsked = 18_000;
/** A result of a thousand columns is described in part. */
const columnsBytesMax = 4_000;
const nameCharactersMax = 200;

export const executeQuery = defineTool({
  name: "execute_query",
  title: "Run a reading query",
  description:
    "Runs one SELECT, WITH, VALUES, TABLE, SHOW or EXPLAIN, read-only by construction. Rows are arrays in the order of columns; bigint and numeric are strings. Aggregate in SQL, do not read many rows.",
  input: z.strictObject({
    sql: z.string().describe("One statement, with $1, $2 … for values."),
    params: z.array(z.unknown()).default([]).describe("Values of $1, $2 …; arrays for = ANY($1)."),
    max_rows: z.int().min(1).max(1000).optional().describe("Default 100; the answer's bytes may cut earlier."),
    timeout_seconds: z.int().min(1).max(45).optional().describe("Default 30."),
  }),
  output: z.object({
    columns: z.array(z.object({ name: z.string(), type: z.string() })),
    rows: z.array(z.array(z.unknown())),
    returned: z.number(),
    cut_by: z.enum(["rows", "bytes"]).nullable(),
    clipped_values: z.number().optional(),
    columns_left_out: z.number().optional(),
    next: z.string().optional(),
  }),
  annotations: { readOnlyHint: true, destructiveHint: false, idempotentHint: true, openWorldHint: false },
  async handler(params, { postgres, policy, settings, signal }) {
    const answer = await runQuery({
      postgres,
      policy,
      signal,
      sql: params.sql,
      params: params.params,
      rowsMax: params.max_rows ?? 100,
      bytesMax: params.max_rows === undefined ? bytesDefault : bytesAsked,
      timeoutMs: (params.timeout_seconds ?? settings.PG_MCP_QUERY_TIMEOUT_SECONDS) * 1_000,
      functionsAllow: settings.PG_MCP_ALLOW_FUNCTIONS,
      isWritable: settings.PG_MCP_ACCESS === "read-write",
    });
    const columns = fitItems(
      answer.columns.map(({ name, type }) => ({ name: clip(name, nameCharactersMax), type })),
      { bytesMax: columnsBytesMax },
    ).items;
    const leftOut = answer.columns.length - columns.length;
    return {
      columns,
      rows: leftOut === 0 ? answer.rows : answer.rows.map((row) => row.slice(0, columns.length)),
      returned: answer.rows.length,
      cut_by: answer.cutBy,
      ...(answer.clipped > 0 ? { clipped_values: answer.clipped } : {}),
      ...(leftOut > 0 ? { columns_left_out: leftOut } : {}),
      ...(answer.cutBy === null ? {} : { next: "Aggregate, filter, or page by key: WHERE key > last ORDER BY key." }),
    };
  },
});
