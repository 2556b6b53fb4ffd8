import { ToolError } from "@es-to-pg/mcp-kit";
import { z } from "zod";
import { type Postgres, quoteTable, requireTable, type Table, type TablePolicy } from "../postgres/index.ts";
import { conditionSql, parseCondition } from "./condition.ts";
import { runQuery } from "./run.ts";

export interface CountRequest {
  postgres: Postgres;
  table: string;
  schema?: string | undefined;
  /** A SQL condition or a structured one. */
  where?: unknown;
  params: readonly unknown[];
  /** The planner's estimate, at once and whatever the size. */
  estimate: boolean;
  timeoutMs: number;
  policy: TablePolicy;
  functionsAllow: readonly string[];
  signal: AbortSignal;
}

/** Counts the rows of a table, exactly or by the planner's estimate. */
export async function countRows(request: CountRequest): Promise<{ table: Table; count: number }> {
  const { postgres, policy, signal, where, estimate } = request;
  const table = await postgres.read((tx) => requireTable(tx, request, policy), { signal });
  if (where === undefined && estimate && table.rowsEstimate !== null) return { table, count: table.rowsEstimate };
  const head = `SELECT count(*) FROM ${quoteTable(table)}`;
  if (typeof where === "string") return { table, count: await countBySql(request, head, where) };
  if (request.params.length > 0) {
    throw new ToolError("invalid_arguments", "params belong to a SQL condition; a structured one holds its values.", {
      next: "Leave params out, or write where as SQL with $1, $2 …",
    });
  }
  const params: (string | null)[] = [];
  const condition = where === undefined ? "" : ` WHERE ${conditionSql(parseCondition(where), table, params)}`;
  const sql = estimate ? `EXPLAIN (FORMAT JSON) SELECT FROM ${quoteTable(table)}${condition}` : `${head}${condition}`;
  // A view, a policy or a domain brings code of its own along, so this statement is judged as a foreign one is.
  const { rows } = await runQuery({ ...request, sql, params, areParamsTexts: true, rowsMax: 2, bytesMax: 100_000 });
  return { table, count: estimate ? plannedRows(rows[0]?.[0]) : Number(rows[0]?.[0]) };
}

async function countBySql(request: CountRequest, head: string, given: string): Promise<number> {
  // The word cannot begin a condition, so that it is only the beginning of the clause.
  const where = given.replace(/^\s*where\b/i, "");
  const explain = request.estimate ? "EXPLAIN (FORMAT JSON) " : "";
  // An estimate plans the rows themselves: the plan of a count has one row.
  const before = `${explain}${request.estimate ? head.replace("count(*)", "") : head} WHERE (`;
  const answer = await runQuery({
    ...request,
    // The line end closes a comment that the condition may leave open.
    sql: `${before}${where}\n)`,
    ownCharacters: before.length,
    rowsMax: 2,
    bytesMax: 100_000,
  });
  const value = answer.rows[0]?.[0];
  if (answer.columns.length !== 1 || answer.rows.length !== 1) {
    throw new ToolError("sql_refused", "The condition is more than a condition.", {
      next: "Write one boolean expression over the table's columns, or use execute_query.",
    });
  }
  return request.estimate ? plannedRows(value) : Number(value);
}

const planSchema = z.tuple([z.object({ Plan: z.object({ "Plan Rows": z.number() }) })]);

function plannedRows(plan: unknown): number {
  return planSchema.parse(JSON.parse(String(plan)))[0].Plan["Plan Rows"];
}
