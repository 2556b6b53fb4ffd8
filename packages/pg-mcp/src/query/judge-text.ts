import { ToolError } from "@es-to-pg/mcp-kit";
import { quoteIdentifier, type Transaction } from "../postgres/index.ts";
import { firstUserOid, isShowableSetting, type JudgePolicy } from "./function-policy.ts";
import type { Grounds } from "./grounds.ts";
import { judgeTree } from "./judge-tree.ts";
import { parseText } from "./parse-text.ts";
import { noReferences } from "./references.ts";
import { refused, refusedWriting } from "./refusals.ts";
import { checkPath, pathFunctions } from "./xpath.ts";

/** A name of up to three parts as the text writes it. */
type Name = readonly string[];

/** What the text of a statement calls and reads, by name. */
interface Named {
  functions: Name[];
  operators: Name[];
  types: Name[];
  relations: { name: Name; byte: number }[];
  /** Names of WITH queries, which hide relations of the same name. */
  queries: Set<string>;
}

/**
 * The judgement where the server cannot resolve for us (a standby, a role without TEMPORARY, before 14 a statement with
 * parameters): PostgreSQL's own grammar tells every name in the text, and the catalog what the names mean. So that they
 * mean the same when the statement runs, functions, operators and types without a schema are looked for in the server's
 * own alone, and relations are given theirs. It refuses more than the other: functions of extensions and of users only
 * run where they are named with their schema and the operator vouches for them. Answers the text to run, and what the
 * judgement rests on.
 */
export async function judgeText(
  tx: Transaction,
  options: { sql: string; policy: JudgePolicy },
): Promise<{ text: string; grounds: Grounds }> {
  const { sql, policy } = options;
  const parsed = await parseText(sql);
  const named = namesOf(parsed.statement);
  const text = await withSchemas(tx, Buffer.from(sql).subarray(0, parsed.bytes), named);
  await tx.query("SELECT pg_catalog.set_config('search_path', 'pg_catalog, pg_temp', true)");
  await setPathFor(tx, named.relations);
  // Describing locks the relations, so that what the names mean now they mean until the end of the transaction.
  await tx.describe(text);
  const found = noReferences();
  const [functionSchemas, functionNames] = pairs(named.functions);
  const [operatorSchemas, operatorNames] = pairs([...named.operators, ...implicitOperators.map((name) => [name])]);
  // A function can also be written as the type it converts to.
  const [typeSchemas, typeNames] = pairs([...named.types, ...named.functions]);
  const [relationSchemas, relationNames] = pairs(named.relations.map(({ name }) => name));
  const { rows } = await tx.query(referencesQuery, [
    functionSchemas,
    functionNames,
    operatorSchemas,
    operatorNames,
    typeSchemas,
    typeNames,
    relationSchemas,
    relationNames,
  ]);
  for (const [kind, oid] of rows) {
    const set =
      kind === "function"
        ? found.functions
        : kind === "operator"
          ? found.operators
          : kind === "value"
            ? found.values
            : found.relations;
    set.add(Number(oid));
  }
  return { text, grounds: await judgeTree(tx, [], { policy, besides: found }) };
}

/** Schemas, empty where there is none, and names. */
function pairs(names: readonly Name[]): [string[], string[]] {
  return [names.map((name) => name.at(-2) ?? ""), names.map((name) => name.at(-1) ?? "")];
}

/** Operators that clauses stand for: IN, USING, CASE, NULLIF, BETWEEN. */
const implicitOperators = ["=", "<>", "<", "<=", ">", ">="];

const onPath = (schemas: string, names: string): string =>
  `SELECT n.oid AS namespace, given.name FROM unnest(${schemas}::text[], ${names}::text[]) AS given(schema, name)
   JOIN pg_catalog.pg_namespace n ON CASE given.schema WHEN '' THEN n.nspname = ANY(pg_catalog.current_schemas(true)) ELSE n.nspname = given.schema END`;

/** Every object that a name could mean, by OID: of a function all of its forms. */
const referencesQuery = `
WITH RECURSIVE functions AS (${onPath("$1", "$2")}), operators AS (${onPath("$3", "$4")}), types AS (${onPath("$5", "$6")}),
named AS (${onPath("$7", "$8")}), relations AS (SELECT c.oid FROM named
  JOIN pg_catalog.pg_class c ON c.relnamespace = named.namespace AND c.relname = named.name),
-- The types that values can have: those that are named, and those of the columns that can be read.
met AS (SELECT t.oid FROM types JOIN pg_catalog.pg_type t ON t.typnamespace = types.namespace AND t.typname = types.name
  UNION SELECT a.atttypid FROM relations JOIN pg_catalog.pg_attribute a ON a.attrelid = relations.oid AND a.attnum > 0 AND NOT a.attisdropped
  -- A value can be taken apart: into elements, attributes, bounds.
  UNION SELECT part.oid FROM met JOIN pg_catalog.pg_type t ON t.oid = met.oid CROSS JOIN LATERAL (
    SELECT t.typelem UNION ALL SELECT t.typbasetype
    UNION ALL SELECT r.rngsubtype FROM pg_catalog.pg_range r WHERE r.rngtypid = t.oid
    UNION ALL SELECT a.atttypid FROM pg_catalog.pg_attribute a WHERE a.attrelid = t.typrelid AND a.attnum > 0 AND NOT a.attisdropped
  ) part(oid) WHERE part.oid >= '${firstUserOid}')
SELECT 'function', p.oid::int8::text FROM functions f JOIN pg_catalog.pg_proc p ON p.pronamespace = f.namespace AND p.proname = f.name
UNION SELECT 'operator', o.oid::int8::text FROM operators f JOIN pg_catalog.pg_operator o ON o.oprnamespace = f.namespace AND o.oprname = f.name
UNION SELECT 'value', met.oid::int8::text FROM met WHERE met.oid >= '${firstUserOid}'
UNION SELECT 'relation', relations.oid::int8::text FROM relations
UNION SELECT 'function', k.castfunc::int8::text FROM pg_catalog.pg_cast k
  WHERE k.castfunc >= '${firstUserOid}' AND (greatest(k.castsource, k.casttarget) < '${firstUserOid}'
    OR EXISTS (SELECT FROM met WHERE met.oid IN (k.castsource, k.casttarget) AND met.oid >= '${firstUserOid}'))`;

/** Adds the schemas of extensions whose types the relations' columns have: without their operators they could not be compared. */
async function setPathFor(tx: Transaction, relations: Named["relations"]): Promise<void> {
  if (relations.length === 0) return;
  await tx.query(
    `SELECT pg_catalog.set_config('search_path', pg_catalog.concat_ws(', ', 'pg_catalog', pg_catalog.string_agg(DISTINCT pg_catalog.quote_ident(n.nspname), ', '), 'pg_temp'), true)
     FROM unnest($1::text[], $2::text[]) AS given(schema, name)
     JOIN pg_catalog.pg_namespace s ON s.nspname = given.schema
     JOIN pg_catalog.pg_class c ON c.relnamespace = s.oid AND c.relname = given.name
     JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
     JOIN pg_catalog.pg_type t ON t.oid = a.atttypid AND t.oid >= '${firstUserOid}'
     JOIN pg_catalog.pg_depend d ON d.classid = 'pg_catalog.pg_type'::regclass::oid AND d.objid = coalesce(nullif(t.typelem, '0'), t.oid) AND d.deptype = 'e'
     JOIN pg_catalog.pg_namespace n ON n.oid = t.typnamespace`,
    [relations.map(({ name }) => name.at(-2) ?? ""), relations.map(({ name }) => name.at(-1))],
  );
}

/**
 * The text with the schema before every relation that has none, and the relations by these names. The name of a WITH
 * query stays as it is; where it is out of reach of that query, it can then only mean a relation of the server's own.
 */
async function withSchemas(tx: Transaction, text: Buffer, named: Named): Promise<string> {
  const bare = named.relations.filter(
    ({ name: [only, ...rest] }) => rest.length === 0 && !named.queries.has(only ?? ""),
  );
  const { rows } = await tx.query(
    `SELECT given.name, (SELECT n.nspname FROM pg_catalog.unnest(pg_catalog.current_schemas(true)) WITH ORDINALITY AS path(schema, position)
       JOIN pg_catalog.pg_namespace n ON n.nspname = path.schema
       JOIN pg_catalog.pg_class c ON c.relnamespace = n.oid AND c.relname = given.name
       ORDER BY path.position LIMIT 1)
     FROM pg_catalog.unnest($1::text[]) AS given(name)`,
    [bare.map(({ name }) => name[0])],
  );
  const schemaOf = new Map(rows.map(([name, schema]) => [String(name), schema]));
  const pieces: Buffer[] = [];
  let from = 0;
  for (const relation of bare.sort((a, b) => a.byte - b.byte)) {
    const [name = ""] = relation.name;
    const schema = schemaOf.get(name);
    if (typeof schema !== "string") continue;
    pieces.push(text.subarray(from, relation.byte), Buffer.from(`${quoteIdentifier(schema)}.`));
    from = relation.byte;
    relation.name = [schema, name];
  }
  pieces.push(text.subarray(from));
  return Buffer.concat(pieces).toString("utf8");
}

type Node = Readonly<Record<string, unknown>>;

function isNode(value: unknown): value is Node {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function namesOf(statement: unknown): Named {
  const named: Named = { functions: [], operators: [], types: [], relations: [], queries: new Set() };
  const waiting: { key: string; value: unknown }[] = [{ key: "", value: statement }];
  for (let next = waiting.pop(); next !== undefined; next = waiting.pop()) {
    const { key, value } = next;
    if (Array.isArray(value)) for (const item of value) waiting.push({ key, value: item });
    if (!isNode(value)) continue;
    visit(key, value, named);
    for (const [name, member] of Object.entries(value)) waiting.push({ key: name, value: member });
  }
  return named;
}

/** Takes the names out of one node. Nodes come under their kind, or under the field that can hold only that kind. */
function visit(key: string, node: Node, named: Named): void {
  if (key.endsWith("Stmt") && key !== "SelectStmt") throw refusedWriting();
  switch (key) {
    case "intoClause":
      throw refusedWriting();
    case "LockingClause":
    case "lockingClause":
      throw refused("FOR UPDATE or FOR SHARE", "Leave the locking clause out.");
    case "FuncCall": {
      const name = parts(node["funcname"]);
      named.functions.push(name);
      if (name.at(-1) === "current_setting") checkSetting(node["args"]);
      if (pathFunctionNames.has(name.at(-1) ?? "")) checkPath(textArgument(node["args"]));
      return;
    }
    case "RangeTableFunc":
      checkPath(textOf(node["rowexpr"]));
      return;
    case "RangeTableFuncCol":
      if (node["colexpr"] !== undefined) checkPath(textOf(node["colexpr"]), { perRow: true });
      return;
    case "TypeName":
    case "typeName":
      named.types.push(parts(node["names"]));
      return;
    case "A_Expr":
      named.operators.push(parts(node["name"]));
      return;
    case "SubLink":
      named.operators.push(parts(node["operName"]));
      return;
    case "SortBy":
      named.operators.push(parts(node["useOp"]));
      return;
    case "RangeTableSample":
      named.functions.push(parts(node["method"]));
      return;
    case "CommonTableExpr":
      named.queries.add(String(node["ctename"]));
      return;
    case "RangeVar": {
      if (node["catalogname"] !== undefined) throw refused("names with a database in them", "Leave the database out.");
      const relation = String(node["relname"]);
      const schema = node["schemaname"];
      const byte = typeof node["location"] === "number" ? node["location"] : 0;
      named.relations.push({ name: typeof schema === "string" ? [schema, relation] : [relation], byte });
      return;
    }
    case "ColumnRef": {
      // What looks like a column may be a function of the row.
      const last = parts(node["fields"]).at(-1);
      if (last !== undefined) named.functions.push([last]);
      return;
    }
    case "A_Indirection":
      // So may every attribute on the way to the last.
      for (const name of parts(node["indirection"])) named.functions.push([name]);
      return;
    default:
      if (key.startsWith("Json")) named.functions.push(["to_json"]);
  }
}

/** The strings in a list of nodes. */
function parts(list: unknown): string[] {
  if (!Array.isArray(list)) return [];
  return list.flatMap((item: unknown) => {
    const text = isNode(item) && isNode(item["String"]) ? item["String"]["sval"] : undefined;
    return typeof text === "string" ? [text] : [];
  });
}

const pathFunctionNames = new Set(pathFunctions.values());

/** The text of a literal, undefined for anything else. */
function textOf(expression: unknown): string | undefined {
  const constant = isNode(expression) && isNode(expression["A_Const"]) ? expression["A_Const"]["sval"] : undefined;
  const text = isNode(constant) ? constant["sval"] : undefined;
  return typeof text === "string" ? text : undefined;
}

function textArgument(args: unknown): string | undefined {
  const [first]: unknown[] = Array.isArray(args) ? args : [];
  return textOf(first);
}

function checkSetting(args: unknown): void {
  const setting = textArgument(args);
  if (setting === undefined) {
    throw refused("current_setting of a computed name", "Write the name of the setting as a literal.");
  }
  if (!isShowableSetting(setting)) {
    throw new ToolError("sql_refused", "Settings of this kind may hold secrets and are not shown.", {
      details: { setting },
    });
  }
}
