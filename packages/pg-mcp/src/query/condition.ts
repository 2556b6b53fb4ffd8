import { nearest, ToolError } from "@es-to-pg/mcp-kit";
import { z } from "zod";
import { quoteIdentifier, type Table } from "../postgres/index.ts";
import { arrayLiteral, encodeParameter } from "./parameters.ts";

/** What a leaf of a structured condition compares with; each takes the value as its operator does in SQL. */
const comparisons = {
  "=": "=",
  "!=": "<>",
  "<": "<",
  "<=": "<=",
  ">": ">",
  ">=": ">=",
  like: "LIKE",
  ilike: "ILIKE",
  contains: "@>",
} as const;

const operators = [
  ...([
    "=",
    "!=",
    "<",
    "<=",
    ">",
    ">=",
    "like",
    "ilike",
    "contains",
  ] as const satisfies readonly (keyof typeof comparisons)[]),
  "in",
  "not_in",
  "between",
  "is_null",
  "not_null",
] as const;

export type Condition =
  | { and: Condition[] }
  | { or: Condition[] }
  | { not: Condition }
  | { column: string; op: (typeof operators)[number]; value?: unknown };

/** Other spellings of the operators, each of which can mean one thing only. */
const spellings: Readonly<Record<string, (typeof operators)[number]>> = {
  "==": "=",
  "<>": "!=",
  eq: "=",
  ne: "!=",
  neq: "!=",
  lt: "<",
  lte: "<=",
  gt: ">",
  gte: ">=",
  "not in": "not_in",
  nin: "not_in",
  "is null": "is_null",
  "is not null": "not_null",
  is_not_null: "not_null",
};

/** Other names of a comparison's members, in place of all of ours: nobody compares columns of these names alone. */
const members: Readonly<Record<string, string>> = { field: "column", operator: "op", operation: "op" };

/** Depth of and/or/not that is followed. */
const depthMax = 20;

/** Reads a structured condition, or fails with what is wrong and where. */
export function parseCondition(given: unknown, path = "where", depth = 0): Condition {
  if (depth > depthMax) throw invalid(path, `nests deeper than ${depthMax}`);
  if (typeof given !== "object" || given === null || Array.isArray(given)) throw invalid(path, "must be an object");
  const entries = Object.entries(given);
  const [key, inner]: [string, unknown] = entries[0] ?? ["", undefined];
  if (entries.length === 1 && (key === "and" || key === "or")) {
    if (!Array.isArray(inner) || inner.length === 0) throw invalid(`${path}.${key}`, "must be a list of conditions");
    const parts = inner.map((part: unknown, index) => parseCondition(part, `${path}.${key}[${index}]`, depth + 1));
    return key === "and" ? { and: parts } : { or: parts };
  }
  if (entries.length === 1 && key === "not") return { not: parseCondition(inner, `${path}.not`, depth + 1) };
  const named = Object.fromEntries(entries.map(([name, member]) => [members[name] ?? name, member]));
  const leaf = z.strictObject({ column: z.string(), op: z.string(), value: z.unknown().optional() }).safeParse(named);
  if (!leaf.success) {
    const problem = "must be {and:[…]}, {or:[…]}, {not:{…}} or {column, op, value}";
    throw invalid(path, problem, {}, depth === 0 ? byColumns(entries) : undefined);
  }
  const word = leaf.data.op.trim().toLowerCase().replaceAll(/\s+/g, " ");
  const op = operators.find((known) => known === word) ?? spellings[word];
  if (op === undefined) {
    throw invalid(`${path}.op`, "is no operator", { allowed: operators, nearest: nearest(leaf.data.op, operators) });
  }
  const { column } = leaf.data;
  const isList = op === "in" || op === "not_in";
  const isOne = typeof leaf.data.value === "string" || typeof leaf.data.value === "number";
  const value = isList && isOne ? [leaf.data.value] : leaf.data.value;
  if (isList && !Array.isArray(value)) throw invalid(`${path}.value`, "must be a list");
  if (op === "between" && !(Array.isArray(value) && value.length === 2)) {
    throw invalid(`${path}.value`, "must be a list of two values");
  }
  if (op !== "is_null" && op !== "not_null" && (value === null || value === undefined)) {
    throw invalid(`${path}.value`, "is missing; for null use is_null or not_null");
  }
  return { column, op, value };
}

/** Values by the names of columns are meant as equal, all of them. */
function byColumns(entries: readonly [string, unknown][]): Condition | undefined {
  const isPlain = entries.every(([, value]) => value !== null && typeof value !== "object");
  if (entries.length === 0 || !isPlain) return undefined;
  const leaves = entries.map(([column, value]): Condition => ({ column, op: "=", value }));
  return leaves.length === 1 ? leaves[0] : { and: leaves };
}

/** A structured condition as SQL over the columns of a table, its values apart as parameters. */
export function conditionSql(condition: Condition, table: Table, params: (string | null)[]): string {
  if ("and" in condition) return joined(condition.and, " AND ", table, params);
  if ("or" in condition) return joined(condition.or, " OR ", table, params);
  if ("not" in condition) return `NOT (${conditionSql(condition.not, table, params)})`;
  const column = table.columns.find(({ name }) => name === condition.column);
  if (column === undefined) {
    throw new ToolError("column_not_found", "A condition names a column that the table does not have.", {
      next: "Use one of the nearest names, or call get_schema.",
      details: {
        column: condition.column,
        nearest: nearest(
          condition.column,
          table.columns.map(({ name }) => name),
        ),
      },
    });
  }
  const name = quoteIdentifier(column.name);
  const { op, value } = condition;
  // The server infers each parameter's type from the column beside it.
  const parameter = (item: unknown) => `$${params.push(encodeParameter(item, column.baseType))}`;
  if (op === "is_null") return `${name} IS NULL`;
  if (op === "not_null") return `${name} IS NOT NULL`;
  if (op === "in" || op === "not_in") {
    const list = `$${params.push(arrayLiteral(Array.isArray(value) ? value : [value]))}`;
    return op === "in" ? `${name} = ANY(${list})` : `${name} <> ALL(${list})`;
  }
  if (op === "between") {
    const [low, high]: unknown[] = Array.isArray(value) ? value : [];
    return `${name} BETWEEN ${parameter(low)} AND ${parameter(high)}`;
  }
  if (op === "like" || op === "ilike")
    return `${name}::text ${comparisons[op]} $${params.push(encodeParameter(value, "text"))}`;
  return `${name} ${comparisons[op]} ${parameter(value)}`;
}

function joined(parts: readonly Condition[], by: string, table: Table, params: (string | null)[]): string {
  return `(${parts.map((part) => conditionSql(part, table, params)).join(by)})`;
}

function invalid(
  argument: string,
  problem: string,
  details: Record<string, unknown> = {},
  where?: Condition,
): ToolError {
  return new ToolError("invalid_arguments", `${argument} ${problem}.`, {
    next: 'Say where as {"and":[{"column":"price","op":">","value":10}]} or as a SQL condition.',
    details: { argument, ...details },
    ...(where === undefined ? {} : { instead: { arguments: { where } } }),
  });
}
