import { ToolError } from "@es-to-pg/mcp-kit";
import { isServerError } from "../errors.ts";
import { type BatchStatement, failedStatement, quoteIdentifier, type Transaction } from "../postgres/index.ts";
import { foresee } from "./foresight.ts";
import type { JudgePolicy } from "./function-policy.ts";
import type { Grounds } from "./grounds.ts";
import { judgeTree } from "./judge-tree.ts";
import { refuseRunningLiterals } from "./literals.ts";
import { nodesOf, numbersOf, parseTree, type TreeNode, type TreeValue, valuesOf } from "./node-tree.ts";
import type { Foresight } from "./questions.ts";
import { flag, isEmpty } from "./references.ts";
import { refused, refusedWriting } from "./refusals.ts";
import { checkSqlText } from "./sql-text.ts";

/**
 * READ ONLY and ROLLBACK stop what happens inside the transaction. This judge stops what reaches outside of it: it lets
 * PostgreSQL resolve every name of a statement (as the body of a temporary function, before 14 as a temporary view), and
 * looks at the functions, operators, casts, domains and relations that came out, by OID and not by spelling.
 *
 * Refuses a statement that is not one plain query of functions that read. What was checked stays in the transaction as
 * `pg_temp.judged`, a function of the parameters or a view: reading it runs the very tree that was judged, whatever has
 * come to answer to its names since. Answers what the judgement rests on, undefined where no view can be made of the
 * statement.
 */
export async function judgeStatement(
  tx: Transaction,
  options: { sql: string; parameterTypes: readonly string[]; policy: JudgePolicy },
): Promise<Grounds | undefined> {
  const queries = await resolveQuery(tx, options.sql, options.parameterTypes);
  if (queries === undefined) return undefined;
  return await judgeQueries(tx, { queries }, options.policy);
}

/** Judges what the server resolved a statement to. */
export async function judgeQueries(
  tx: Transaction,
  { queries, foresight }: Pick<Resolved, "queries"> & Partial<Resolved>,
  policy: JudgePolicy,
): Promise<Grounds> {
  if (queries.length !== 1) throw refused("more than one statement", "Send one statement per call.");
  if (tx.major < quickPlansSince && queriesWithin(queries) > queriesMax) {
    throw refused(`more than ${queriesMax} sub-queries`, "Send less of it at a time, or ask a newer server.");
  }
  return await judgeTree(tx, queries, { policy, foresight });
}

/**
 * Before 15 the planner's time grows with the third power of the depth of sub-queries, in FROM or in WITH, and nothing
 * stops it meanwhile: 100 take 0.1 s, 400 take 10 s.
 */
const quickPlansSince = 15;
const queriesMax = 100;

function queriesWithin(trees: readonly TreeNode[]): number {
  let count = 0;
  for (const { kind } of nodesOf(trees)) if (kind === "QUERY") count++;
  return count;
}

/** What a statement without parameters takes and answers, and what the server resolves it to. */
export interface Resolved {
  described: { parameterTypes: string[]; columns: { name: string; type: string }[] };
  queries: TreeNode[];
  /** Which transactions had ended before anything was judged. */
  snapshot: string;
  foresight: Foresight;
}

/** Which transactions have ended, in the order of whole transactions; on a standby it does not tell all. */
export const endedTransactions = "pg_catalog.pg_current_snapshot()::text";

/**
 * Describes and resolves a statement without parameters in one round trip. Undefined where that is not possible; whoever
 * takes the steps one by one then learns why. Fails where the statement itself cannot be parsed.
 */
export async function resolveAtOnce(
  tx: Transaction,
  sql: string,
  goBack: () => Promise<void>,
): Promise<Resolved | undefined> {
  if (!judgesAsFunction(tx.major)) return undefined;
  const { before, after, tree } = functionResolver([]);
  const foreseen = foresee(sql, { judged: judgedFunction, major: tx.major });
  try {
    const [described, , printed, ...answers] = await tx.batch([
      { sql, describe: true },
      { sql: `${before}${sql}${after}` },
      tree,
      ...foreseen.statements,
    ]);
    if (described === undefined) return undefined;
    const { text, view, snapshot } = readTree(printed?.rows ?? []);
    return { described, queries: queriesIn({ text, view }), snapshot, foresight: foreseen.read(answers) };
  } catch (error) {
    if (!isServerError(error) || failedStatement(error) === 0 || failedStatement(error) === undefined) throw error;
    await goBack();
    return undefined;
  }
}

/**
 * Refuses a mapping's expression unless it is one scalar over one staged row: no sub-query, aggregate, window,
 * set-returning or volatile function, and a result that the target column takes. The transaction must be writable; what
 * the check creates is gone when it returns.
 */
export async function judgeExpression(
  tx: Transaction,
  options: {
    expression: string;
    /** The columns an expression may use, with their types. */
    stage: { columns: readonly { name: string; type: string }[] };
    /** Type of the target column, as `format_type` prints it. */
    expectedType: string;
    policy?: JudgePolicy;
  },
): Promise<void> {
  const { expression, stage, expectedType, policy = { functionsAllow: [] } } = options;
  checkSqlText(expression);
  await refuseRunningLiterals(tx, expression, policy);
  const undo = new Error("undo");
  try {
    await tx.savepoint(async () => {
      const columns = stage.columns.map(({ name, type }) => `${quoteIdentifier(name)} ${type}`);
      await tx.query(`CREATE TEMPORARY TABLE judged_stage (${columns.join(", ")}) ON COMMIT DROP`);
      await tx.query(`CREATE TEMPORARY TABLE judged_target (value ${expectedType}) ON COMMIT DROP`);
      // The line end closes a comment that the expression may leave open.
      const sql = `SELECT (${expression}\n) FROM pg_temp.judged_stage`;
      const queries = await resolve(tx, sql, [], { ownCharacters: "SELECT (".length, columns: 1 });
      checkScalar(queries);
      await judgeTree(tx, queries, { policy: { ...policy, repeatable: true } });
      // Stage and target are empty: nothing is computed, but the assignment's types are checked as the load will.
      await withPosition(
        tx.query(`INSERT INTO pg_temp.judged_target ${sql}`),
        "INSERT INTO pg_temp.judged_target SELECT (".length,
      );
      throw undo;
    });
  } catch (error) {
    if (error !== undo) throw error;
  }
}

async function resolveQuery(
  tx: Transaction,
  sql: string,
  parameterTypes: readonly string[],
): Promise<TreeNode[] | undefined> {
  if (judgesAsFunction(tx.major)) return await resolveOrRefuse(tx, sql, parameterTypes);
  // A view has no parameters.
  if (parameterTypes.length > 0) return undefined;
  const { columns } = await tx.describe(sql);
  try {
    return await resolveOrRefuse(tx, sql, [], columns.length);
  } catch (error) {
    // No columns, or one of a type that no column can have.
    if (isServerError(error) && error.code === "42P16") return undefined;
    // The text itself was parsed just now; what is no query is a syntax error in a view only.
    if (isServerError(error) && error.code === "42601") throw refusedWriting();
    throw error;
  }
}

async function resolveOrRefuse(
  tx: Transaction,
  sql: string,
  parameterTypes: readonly string[],
  columns?: number,
): Promise<TreeNode[]> {
  try {
    return await resolve(tx, sql, parameterTypes, { keep: true, ...(columns === undefined ? {} : { columns }) });
  } catch (error) {
    // The server's own words would be about a function, of which the caller knows nothing.
    if (isServerError(error) && error.code === "42P13") throw refusedWriting();
    if (isServerError(error) && error.code === "0A000" && error.position === undefined) throw refusedWriting();
    throw error;
  }
}

/** Whether what was judged is a function, which takes a parsed body, and no view. */
export function judgesAsFunction(major: number): boolean {
  return major >= 14;
}

/** How the server is made to resolve a query, and where the tree is then. */
interface Resolver {
  before: string;
  after: string;
  /** Answers the tree, which transactions had ended when it was read, and the OID of the view that holds it. */
  tree: BatchStatement;
}

/**
 * A tree takes some thirty times its text in memory here. The longest that people write, with a list of some thousand
 * constants, print half a megabyte.
 */
const treeCharactersMax = 2_000_000;

function boundedTree(column: string): string {
  return `pg_catalog.left(${column}::text, ${treeCharactersMax + 1})`;
}

const judgedFunction = "pg_temp.judged";

function functionResolver(parameterTypes: readonly string[]): Resolver {
  return {
    // STABLE, because only then is the call replaced by the query itself, and rows come as they are found.
    before: `CREATE OR REPLACE FUNCTION ${judgedFunction}(${parameterTypes.join(", ")}) RETURNS SETOF record LANGUAGE sql STABLE BEGIN ATOMIC `,
    after: "\n; END",
    tree: {
      sql: `SELECT ${boundedTree("prosqlbody")}, ${endedTransactions} FROM pg_catalog.pg_proc WHERE oid = $1::pg_catalog.regproc::oid`,
      // No constant: the plan is kept, and the function is another one each time.
      params: [judgedFunction],
      kept: true,
    },
  };
}

function viewResolver(columns: number): Resolver {
  // Names of its own: the query's may come twice.
  const names = Array.from({ length: columns }, (_, index) => `c${index}`);
  return {
    before: `CREATE TEMPORARY VIEW judged ${columns === 0 ? "" : `(${names.join(", ")}) `}AS `,
    after: "",
    tree: {
      sql: `SELECT ${boundedTree("r.ev_action")}, ${endedTransactions}, c.oid::int8::text FROM pg_catalog.pg_rewrite r JOIN pg_catalog.pg_class c ON c.oid = r.ev_class
        WHERE c.relname = 'judged' AND c.relnamespace = pg_catalog.pg_my_temp_schema()`,
      kept: true,
    },
  };
}

/** Takes the entries out of a view's tree that stand for the view itself; they are no relations that it reads. */
function withoutOwn(query: TreeNode, view: number): TreeNode {
  const isOwn = (value: TreeValue) =>
    typeof value !== "string" && !Array.isArray(value) && numbersOf(value, "relid").includes(view);
  const strip = (values: TreeValue[]) =>
    values.map((value) => (Array.isArray(value) ? value.filter((entry) => !isOwn(entry)) : value));
  return {
    ...query,
    fields: query.fields.map((field) => (field.name === "rtable" ? { ...field, values: strip(field.values) } : field)),
  };
}

/** The parsed queries of a text, resolved by the server and not run. */
async function resolve(
  tx: Transaction,
  sql: string,
  parameterTypes: readonly string[],
  { ownCharacters = 0, keep = false, columns = 0 } = {},
): Promise<TreeNode[]> {
  const {
    before,
    after,
    tree: treeOf,
  } = judgesAsFunction(tx.major) ? functionResolver(parameterTypes) : viewResolver(columns);
  let printed: PrintedTree | undefined;
  const read = async (): Promise<void> => {
    const [, answer] = await withPosition(
      tx.batch([{ sql: `${before}${sql}${after}` }, treeOf]),
      before.length + ownCharacters,
    );
    printed = readTree(answer?.rows ?? []);
  };
  if (keep) await read();
  else await undone(tx, read);
  return printed === undefined ? [] : queriesIn(printed);
}

/** A tree as the server prints it, and the view that it is in, if that it is. */
interface PrintedTree {
  text: string;
  view: number | undefined;
}

function readTree(rows: readonly unknown[][]): PrintedTree & { snapshot: string } {
  const [text, snapshot, view] = rows[0] ?? [];
  if (typeof text !== "string" || text.length > treeCharactersMax) {
    throw refused("a statement of so many parts", "Pass long lists as one array parameter: = ANY($1).");
  }
  return { text, snapshot: String(snapshot), view: view === undefined ? undefined : Number(view) };
}

function queriesIn({ text, view }: PrintedTree): TreeNode[] {
  const queries: TreeNode[] = [];
  const waiting: TreeValue[] = parseTree(text);
  for (let value = waiting.shift(); value !== undefined; value = waiting.shift()) {
    if (typeof value === "string") continue;
    if (Array.isArray(value)) waiting.push(...value);
    else queries.push(view === undefined ? value : withoutOwn(value, view));
  }
  return queries;
}

/** Does the work and takes back what it made. */
async function undone(tx: Transaction, work: () => Promise<void>): Promise<void> {
  const undo = new Error("undo");
  try {
    await tx.savepoint(async () => {
      await work();
      throw undo;
    });
  } catch (error) {
    if (error !== undo) throw error;
  }
}

/** Counts the position in an error from the beginning of the caller's text. */
async function withPosition<T>(work: Promise<T>, characters: number): Promise<T> {
  try {
    return await work;
  } catch (error) {
    if (error instanceof Error && "position" in error && typeof error.position === "string") {
      error.position = String(Math.max(1, Number(error.position) - characters));
    }
    throw error;
  }
}

function checkScalar(queries: readonly TreeNode[]): void {
  const [query] = queries;
  if (query === undefined || queries.length !== 1) throw refusedExpression("more than one statement");
  const all = [...nodesOf([query])];
  const has = (kind: string) => all.some((node) => node.kind === kind);
  if (flag(query, "hasAggs") || has("AGGREF")) throw refusedExpression("an aggregate");
  if (flag(query, "hasWindowFuncs") || has("WINDOWFUNC")) throw refusedExpression("a window function");
  if (flag(query, "hasTargetSRFs")) throw refusedExpression("a set-returning function");
  if (flag(query, "hasSubLinks") || has("SUBLINK") || all.filter((node) => node.kind === "QUERY").length > 1) {
    throw refusedExpression("a sub-query");
  }
  if (has("PARAM")) throw refusedExpression("a parameter");
  const clauses = [
    "cteList",
    "groupClause",
    "groupingSets",
    "havingQual",
    "windowClause",
    "distinctClause",
    "sortClause",
    "limitOffset",
    "limitCount",
    "rowMarks",
    "setOperations",
  ];
  const targets = valuesOf(query, "targetList")
    .flat()
    .filter((value) => typeof value !== "string");
  const tables = valuesOf(query, "rtable")
    .flat()
    .filter((value) => typeof value !== "string");
  const from = all.filter((node) => node.kind === "FROMEXPR");
  if (
    numbersOf(query, "commandType")[0] !== 1 ||
    clauses.some((clause) => !isEmpty(query, clause)) ||
    targets.length !== 1 ||
    tables.length !== 1 ||
    from.length !== 1 ||
    !from.every((node) => isEmpty(node, "quals"))
  ) {
    throw refusedExpression("more than one scalar expression");
  }
}

function refusedExpression(construct: string): ToolError {
  return new ToolError(
    "expression_refused",
    `A mapping's expression must be one scalar over one document; this one holds ${construct}.`,
    {
      next: "Use operators and non-volatile built-in functions over the staged columns.",
    },
  );
}
