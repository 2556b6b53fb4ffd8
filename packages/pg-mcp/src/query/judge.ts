import { ToolError } from "@es-to-pg/mcp-kit";
import { isServerError } from "../errors.ts";
import {
  allowsTable,
  everything,
  isRestricted,
  quoteIdentifier,
  type TablePolicy,
  type Transaction,
  tableNotAllowed,
} from "../postgres/index.ts";
import {
  firstUserOid,
  isShowableSetting,
  type JudgePolicy,
  judgeFunction,
  secretRelations,
  valueRelations,
} from "./function-policy.ts";
import { nodesOf, numbersOf, parseTree, type TreeNode, type TreeValue, textConstant, valuesOf } from "./node-tree.ts";
import { checkSqlText } from "./sql-text.ts";

/**
 * READ ONLY and ROLLBACK stop what happens inside the transaction. This judge stops what reaches outside of it: it lets
 * PostgreSQL resolve every name of a statement (as the body of a temporary function, before 14 as a temporary view), and
 * looks at the functions, operators, casts, domains and relations that came out, by OID and not by spelling.
 *
 * Refuses a statement that is not one plain query of functions that read. What was checked stays in the transaction as
 * `pg_temp.judged`, a function of the parameters or a view: reading it runs the very tree that was judged, whatever has
 * come to answer to its names since. False where no view can be made of the statement.
 */
export async function judgeStatement(
  tx: Transaction,
  options: { sql: string; parameterTypes: readonly string[]; policy: JudgePolicy },
): Promise<boolean> {
  const queries = await resolveQuery(tx, options.sql, options.parameterTypes);
  if (queries === undefined) return false;
  if (queries.length !== 1) throw refused("more than one statement", "Send one statement per call.");
  await judgeTree(tx, queries, options.policy);
  return true;
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
      await judgeTree(tx, queries, { ...policy, repeatable: true });
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

/**
 * The judgement where the server cannot resolve for us (a standby, a role without TEMPORARY): every
 * word of the text is taken for the name of a function, operator or relation, whatever stands around it. It refuses
 * more than the other.
 */
export async function judgeByNames(tx: Transaction, options: { sql: string; policy: JudgePolicy }): Promise<void> {
  const { sql, policy } = options;
  if (/u&"/i.test(sql)) throw refused("names in Unicode escapes", "Write the name as it is.");
  const words = new Set([...sql.matchAll(/[\p{L}_][\p{L}\p{N}_$]*/gu)].flatMap(([word]) => [word, word.toLowerCase()]));
  for (const [, quoted = ""] of sql.matchAll(/"((?:[^"]|"")+)"/g)) words.add(quoted.replaceAll('""', '"'));
  const settings = [...sql.matchAll(/current_setting\s*\(\s*'(\w+)'\s*[,)]/gi)].map(([, name = ""]) => name);
  if (settings.length < (sql.match(/current_setting/gi) ?? []).length || !settings.every(isShowableSetting)) {
    throw refused("current_setting of this form", "Write current_setting('name') with the plain name of a setting.");
  }
  const names = [...words];
  const { rows } = await tx.query(
    `SELECT 'functions', p.oid::int8::text FROM pg_catalog.pg_proc p WHERE p.proname = ANY($1::name[])
     UNION ALL SELECT 'operators', o.oid::int8::text FROM pg_catalog.pg_operator o
       WHERE o.oid >= ${firstUserOid} AND pg_catalog.strpos($2, o.oprname) > 0
     UNION ALL SELECT 'types', t.oid::int8::text FROM pg_catalog.pg_type t
       WHERE t.oid >= ${firstUserOid} AND t.typname = ANY($1::name[])
     UNION ALL SELECT 'functions', k.castfunc::int8::text FROM pg_catalog.pg_cast k
       JOIN pg_catalog.pg_type t ON t.oid = k.casttarget
       WHERE k.castfunc >= ${firstUserOid} AND (k.castcontext = 'i' OR t.typname = ANY($1::name[]))
     UNION ALL SELECT 'relations', c.oid::int8::text FROM pg_catalog.pg_class c
       WHERE c.relname = ANY($1::name[]) AND c.relkind IN ('r', 'p', 'v', 'm', 'f')
         AND pg_catalog.has_schema_privilege(c.relnamespace, 'USAGE')
         -- A relation is meant only if its schema is named as well, or looked into for names without one.
         AND c.relnamespace IN (SELECT n.oid FROM pg_catalog.pg_namespace n
           WHERE n.nspname = ANY($1::name[] || pg_catalog.current_schemas(true)))`,
    [names, sql],
  );
  const oidsOf = (kind: string) => rows.filter((row) => row[0] === kind).map((row) => Number(row[1]));
  const fresh = {
    functions: oidsOf("functions"),
    operators: oidsOf("operators"),
    types: oidsOf("types"),
    values: oidsOf("types"),
    relations: oidsOf("relations"),
  };
  await judgeFunctions(tx, fresh, policy);
  await judgeTree(tx, await follow(tx, fresh, policy.tables ?? everything), policy);
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
  /** Answers the tree, and the OID of the view that holds it. */
  tree: string;
}

function functionResolver(parameterTypes: readonly string[]): Resolver {
  return {
    // STABLE, because only then is the call replaced by the query itself, and rows come as they are found.
    before: `CREATE OR REPLACE FUNCTION pg_temp.judged(${parameterTypes.join(", ")}) RETURNS SETOF record LANGUAGE sql STABLE BEGIN ATOMIC `,
    after: "\n; END",
    tree: "SELECT prosqlbody::text FROM pg_catalog.pg_proc WHERE proname = 'judged' AND pronamespace = pg_catalog.pg_my_temp_schema()",
  };
}

function viewResolver(columns: number): Resolver {
  // Names of its own: the query's may come twice.
  const names = Array.from({ length: columns }, (_, index) => `c${index}`);
  return {
    before: `CREATE TEMPORARY VIEW judged ${columns === 0 ? "" : `(${names.join(", ")}) `}AS `,
    after: "",
    tree: `SELECT r.ev_action::text, c.oid::int8::text FROM pg_catalog.pg_rewrite r JOIN pg_catalog.pg_class c ON c.oid = r.ev_class
      WHERE c.relname = 'judged' AND c.relnamespace = pg_catalog.pg_my_temp_schema()`,
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
  const { before, after, tree } = judgesAsFunction(tx.major) ? functionResolver(parameterTypes) : viewResolver(columns);
  let printed = "";
  let view: number | undefined;
  const undo = new Error("undo");
  try {
    await tx.savepoint(async () => {
      await withPosition(tx.query(`${before}${sql}${after}`), before.length + ownCharacters);
      const { rows } = await tx.query(tree);
      printed = String(rows[0]?.[0]);
      view = rows[0]?.[1] === undefined ? undefined : Number(rows[0][1]);
      if (!keep) throw undo;
    });
  } catch (error) {
    if (error !== undo) throw error;
  }
  const queries: TreeNode[] = [];
  const waiting: TreeValue[] = parseTree(printed);
  for (let value = waiting.shift(); value !== undefined; value = waiting.shift()) {
    if (typeof value === "string") continue;
    if (Array.isArray(value)) waiting.push(...value);
    else queries.push(view === undefined ? value : withoutOwn(value, view));
  }
  return queries;
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

function flag(node: TreeNode, name: string): boolean {
  return valuesOf(node, name).includes("true");
}

/** A list field that is printed as `<>` is empty. */
function isEmpty(node: TreeNode, name: string): boolean {
  return valuesOf(node, name).every((value) => value === "<>");
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

/** Everything a tree calls or reads, by OID. */
interface References {
  functions: Set<number>;
  operators: Set<number>;
  /** Types whose input function is called. */
  types: Set<number>;
  /** User types that values are made of: a domain anywhere inside brings its check along. */
  values: Set<number>;
  relations: Set<number>;
}

function noReferences(): References {
  return { functions: new Set(), operators: new Set(), types: new Set(), values: new Set(), relations: new Set() };
}

const functionFields = [
  "funcid",
  "opfuncid",
  "aggfnoid",
  "winfnoid",
  "startInRangeFunc",
  "endInRangeFunc",
  "tsmhandler",
  "hashfuncid",
];
/** Types of values that come into being; a column's own type is none of them, what is stored was checked then. */
const valueFields = [
  "resulttype",
  "funcresulttype",
  "consttype",
  "funccoltypes",
  "coltypes",
  "row_typeid",
  "paramtype",
  "array_typeid",
];
const operatorFields = ["opno", "opnos", "eqop", "sortop", "reverse_sort_op"];

function collect(queries: readonly TreeNode[], found: References): void {
  for (const node of nodesOf(queries)) {
    if (node.kind === "QUERY") {
      if (numbersOf(node, "commandType")[0] !== 1) throw refusedWriting();
      if (flag(node, "hasModifyingCTE"))
        throw refused("a WITH query that writes", "Send a SELECT without INSERT, UPDATE or DELETE.");
      if (flag(node, "hasForUpdate") || !isEmpty(node, "rowMarks"))
        throw refused("FOR UPDATE or FOR SHARE", "Leave the locking clause out.");
    }
    for (const field of functionFields) for (const oid of numbersOf(node, field)) found.functions.add(oid);
    for (const field of operatorFields) for (const oid of numbersOf(node, field)) found.operators.add(oid);
    for (const oid of numbersOf(node, "relid")) found.relations.add(oid);
    for (const field of valueFields) {
      for (const oid of numbersOf(node, field)) if (oid >= firstUserOid) found.values.add(oid);
    }
    if (node.kind === "COERCEVIAIO") {
      for (const oid of numbersOf(node, "resulttype")) found.types.add(oid);
    }
    if (node.kind === "FUNCEXPR" && numbersOf(node, "funcid").some((oid) => oid === 2077 || oid === 3294)) {
      const setting = textConstant(valuesOf(node, "args").flat()[0]);
      if (setting === undefined)
        throw refused("current_setting of a computed name", "Write the name of the setting as a literal.");
      if (!isShowableSetting(setting))
        throw refused(`the setting ${setting}`, "Settings of this kind may hold secrets and are not shown.");
    }
  }
  for (const set of Object.values(found)) set.delete(0);
}

/** Depth of views over views, and of domains over domains, that is followed. */
const followedMax = 32;

async function judgeTree(tx: Transaction, queries: readonly TreeNode[], policy: JudgePolicy): Promise<void> {
  const done = noReferences();
  let trees: readonly TreeNode[] = queries;
  for (let level = 0; trees.length > 0; level++) {
    if (level === followedMax) throw refused("views nested too deeply", "Query the tables beneath them.");
    const found = noReferences();
    collect(trees, found);
    const fresh = {
      functions: [...found.functions].filter((oid) => !done.functions.has(oid)),
      operators: [...found.operators].filter((oid) => !done.operators.has(oid)),
      types: [...found.types].filter((oid) => !done.types.has(oid)),
      values: [...found.values].filter((oid) => !done.values.has(oid)),
      relations: [...found.relations].filter((oid) => !done.relations.has(oid)),
    };
    for (const oid of fresh.functions) done.functions.add(oid);
    for (const oid of fresh.operators) done.operators.add(oid);
    for (const oid of fresh.types) done.types.add(oid);
    for (const oid of fresh.values) done.values.add(oid);
    for (const oid of fresh.relations) done.relations.add(oid);
    await judgeFunctions(tx, fresh, policy);
    trees = await follow(tx, fresh, policy.tables ?? everything);
  }
}

/** One look into the catalog for all functions that the references come down to. */
const functionsQuery = `
WITH called(oid) AS (
  SELECT unnest($1::oid[])
  UNION SELECT oprcode FROM pg_catalog.pg_operator WHERE oid = ANY($2::oid[])
  UNION SELECT typinput FROM pg_catalog.pg_type WHERE oid = ANY($3::oid[]) AND typtype = 'b'
  UNION SELECT f FROM pg_catalog.pg_aggregate, unnest(ARRAY[aggtransfn, aggfinalfn, aggcombinefn, aggserialfn, aggdeserialfn,
      aggmtransfn, aggminvtransfn, aggmfinalfn]::oid[]) AS f
    WHERE aggfnoid = ANY($1::oid[]) AND aggfnoid >= ${firstUserOid}
)
SELECT p.oid::int8::text, n.nspname, p.proname, p.provolatile, p.prokind, e.extname
FROM called
JOIN pg_catalog.pg_proc p ON p.oid = called.oid
JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace
LEFT JOIN pg_catalog.pg_depend d ON d.classid = 'pg_catalog.pg_proc'::regclass AND d.objid = p.oid AND d.deptype = 'e'
LEFT JOIN pg_catalog.pg_extension e ON e.oid = d.refobjid AND d.refclassid = 'pg_catalog.pg_extension'::regclass
ORDER BY p.oid`;

interface Fresh {
  functions: number[];
  operators: number[];
  types: number[];
  values: number[];
  relations: number[];
}

function oids(numbers: readonly number[]): string {
  return `{${numbers.join(",")}}`;
}

async function judgeFunctions(tx: Transaction, fresh: Fresh, policy: JudgePolicy): Promise<void> {
  if (fresh.functions.length + fresh.operators.length + fresh.types.length === 0) return;
  const { rows } = await tx.query(functionsQuery, [oids(fresh.functions), oids(fresh.operators), oids(fresh.types)]);
  for (const [oid, schema, name, volatility, , extension] of rows) {
    judgeFunction(
      {
        builtIn: Number(oid) < firstUserOid,
        schema: String(schema),
        name: String(name),
        volatile: volatility === "v",
        extension: typeof extension === "string" ? extension : undefined,
      },
      policy,
    );
  }
}

/** The checks of all domains that a value of these types can hold: base types, elements, attributes, bounds of ranges. */
const domainChecks = `
WITH RECURSIVE made(oid) AS (
  SELECT unnest($1::oid[])
  UNION
  SELECT part.oid FROM made
  JOIN pg_catalog.pg_type t ON t.oid = made.oid
  CROSS JOIN LATERAL (
    SELECT t.typbasetype WHERE t.typtype = 'd'
    UNION ALL SELECT t.typelem WHERE t.typelem <> 0
    UNION ALL SELECT a.atttypid FROM pg_catalog.pg_attribute a
      WHERE t.typtype = 'c' AND a.attrelid = t.typrelid AND a.attnum > 0 AND NOT a.attisdropped
    UNION ALL SELECT r.rngsubtype FROM pg_catalog.pg_range r WHERE t.typtype = 'r' AND r.rngtypid = t.oid
  ) AS part(oid)
  WHERE part.oid >= ${firstUserOid})
SELECT k.conbin::text FROM made JOIN pg_catalog.pg_constraint k ON k.contypid = made.oid WHERE k.conbin IS NOT NULL`;

/** The trees of views and the conditions of domains that a level refers to. Secrets are refused by resolved relation. */
async function follow(tx: Transaction, fresh: Fresh, policy: TablePolicy): Promise<TreeNode[]> {
  const texts: unknown[] = [];
  if (fresh.relations.length > 0) {
    const { rows } = await tx.query(
      `SELECT c.oid::int8::text, n.nspname, c.relname, r.ev_action::text
       FROM pg_catalog.pg_class c
       JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
       LEFT JOIN pg_catalog.pg_rewrite r ON r.ev_class = c.oid AND r.ev_type = '1' AND c.relkind = 'v' AND c.oid >= ${firstUserOid}
       WHERE c.oid = ANY($1::oid[])`,
      [oids(fresh.relations)],
    );
    for (const [oid, schema, relation, action] of rows) {
      if (Number(oid) < firstUserOid && secretRelations.has(String(relation))) {
        throw new ToolError("table_refused", "That relation may hold secrets and is not read.", {
          next: "Roles are in pg_roles, connections in pg_stat_activity.",
          details: { schema: String(schema), table: String(relation) },
        });
      }
      if (Number(oid) < firstUserOid && isRestricted(policy) && valueRelations.has(String(relation))) {
        throw tableNotAllowed({ schema: String(schema), table: String(relation) });
      }
      // What a view reads is judged too: a view is no way around the settings.
      const table = { schema: String(schema), table: String(relation) };
      if (Number(oid) >= firstUserOid && table.schema !== "pg_toast" && !allowsTable(policy, table)) {
        throw tableNotAllowed(table);
      }
      if (action !== null) texts.push(action);
    }
  }
  if (fresh.values.length > 0) {
    const { rows } = await tx.query(domainChecks, [oids(fresh.values)]);
    for (const [condition] of rows) texts.push(condition);
  }
  return texts.flatMap((text) => [...topNodes(parseTree(String(text)))]);
}

function* topNodes(values: readonly TreeValue[]): Generator<TreeNode> {
  for (const value of values) {
    if (typeof value === "string") continue;
    if (Array.isArray(value)) yield* topNodes(value);
    else yield value;
  }
}

function refusedWriting(): ToolError {
  return refused(
    "statements that write or define",
    "Send a SELECT; writing goes through insert_data, create_table and bulk_insert.",
  );
}

function refused(construct: string, next: string): ToolError {
  return new ToolError("sql_refused", `This server does not run ${construct}.`, { next });
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
