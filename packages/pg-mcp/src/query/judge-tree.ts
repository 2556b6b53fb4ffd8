import { ToolError } from "@es-to-pg/mcp-kit";
import {
  allowsTable,
  type BatchStatement,
  everything,
  isRestricted,
  type TablePolicy,
  type Transaction,
  tableNotAllowed,
} from "../postgres/index.ts";
import {
  type CalledFunction,
  firstUserOid,
  functionsOfHeld,
  heldSecrets,
  isShowableSetting,
  type JudgePolicy,
  jsonMakers,
  jsonMakersOfExtensions,
  judgeFunction,
  refusedFunction,
  secretRelations,
  toJson,
  typeReaders,
  valueRelations,
} from "./function-policy.ts";
import { namesIn } from "./names.ts";
import {
  constantParts,
  nodesOf,
  numbersIn,
  numbersOf,
  parseTree,
  type TreeNode,
  type TreeValue,
  textConstant,
  valuesOf,
} from "./node-tree.ts";
import { checkPath, pathFunctions } from "./xpath.ts";

/** Everything a tree calls or reads, by OID. */
export interface References {
  functions: Set<number>;
  operators: Set<number>;
  /** Types whose input function is called. */
  types: Set<number>;
  /** User types that values are made of: a domain anywhere inside brings its check along. */
  values: Set<number>;
  relations: Set<number>;
  /** Relations of which their tree says that they are plain tables, or views. */
  tables: Set<number>;
  views: Set<number>;
  /** Columns of relations that are read, by `columnKey`. */
  columns: Set<number>;
  /** User types of any value, stored ones too. */
  met: Set<number>;
}

const kindsOfReference = [
  "functions",
  "operators",
  "types",
  "values",
  "relations",
  "tables",
  "views",
  "columns",
  "met",
] as const;

export function noReferences(): References {
  return {
    functions: new Set(),
    operators: new Set(),
    types: new Set(),
    values: new Set(),
    relations: new Set(),
    tables: new Set(),
    views: new Set(),
    columns: new Set(),
    met: new Set(),
  };
}

/** A tree counts columns from the first of the system's own, which is -7. */
const columnOffset = 7;
const columnsMax = 4_096;

function columnKey(relation: number, bit: number): number {
  return relation * columnsMax + bit;
}

const functionFields = new Set([
  "funcid",
  "opfuncid",
  "aggfnoid",
  "winfnoid",
  "startInRangeFunc",
  "endInRangeFunc",
  "tsmhandler",
  "hashfuncid",
]);
/** Types of values that come into being; a column's own type is none of them, what is stored was checked then. */
const valueFields = new Set([
  "aggtype",
  "opresulttype",
  "resulttype",
  "wintype",
  "funcresulttype",
  "consttype",
  "funccoltypes",
  "coltypes",
  "row_typeid",
  "paramtype",
  "array_typeid",
  "typid",
]);
/** Fields that hold types of values, whatever the node. */
const fieldOfType = /types?$|typid$|typeid$/;
const operatorFields = new Set(["opno", "opnos"]);
/** Operators that put rows in order: no planner estimates by them, so only a user's are looked at. */
const orderFields = new Set(["eqop", "sortop", "reverse_sort_op"]);
/** `current_setting`, with one argument and with two. */
const currentSetting = [2077, 3294];

export function flag(node: TreeNode, name: string): boolean {
  return valuesOf(node, name).includes("true");
}

/** A list field that is printed as `<>` is empty. */
export function isEmpty(node: TreeNode, name: string): boolean {
  return valuesOf(node, name).every((value) => value === "<>");
}

/** Adds what the trees call and read, and refuses what they may not be made of. */
function collect(queries: readonly TreeNode[], found: References): void {
  for (const node of nodesOf(queries)) {
    if (node.kind === "QUERY") {
      if (numbersOf(node, "commandType")[0] !== 1) throw refusedWriting();
      if (flag(node, "hasModifyingCTE"))
        throw refused("a WITH query that writes", "Send a SELECT without INSERT, UPDATE or DELETE.");
      if (flag(node, "hasForUpdate") || !isEmpty(node, "rowMarks"))
        throw refused("FOR UPDATE or FOR SHARE", "Leave the locking clause out.");
    }
    for (const { name, values } of node.fields) {
      if (functionFields.has(name)) for (const oid of numbersIn(values)) found.functions.add(oid);
      else if (operatorFields.has(name)) for (const oid of numbersIn(values)) found.operators.add(oid);
      else if (orderFields.has(name)) addOfUsers(found.operators, values);
      else if (name === "relid") {
        for (const oid of numbersIn(values)) {
          found.relations.add(oid);
          const [kind] = valuesOf(node, "relkind");
          if (kind === "r") found.tables.add(oid);
          else if (kind === "v") found.views.add(oid);
          for (const bit of numbersOf(node, "selectedCols")) found.columns.add(columnKey(oid, bit));
        }
      }
      if (valueFields.has(name)) addOfUsers(found.values, values);
      if (fieldOfType.test(name)) addOfUsers(found.met, values);
    }
    if (node.kind === "COERCEVIAIO") {
      for (const oid of numbersOf(node, "resulttype")) found.types.add(oid);
    }
    if (node.kind === "JSONCONSTRUCTOREXPR") found.functions.add(toJson);
    if (node.kind === "FUNCEXPR" && numbersOf(node, "funcid").some((oid) => pathFunctions.has(oid))) {
      checkPath(textConstant(valuesOf(node, "args").flat()[0]));
    }
    if (node.kind === "TABLEFUNC") {
      // JSON_TABLE has none.
      for (const path of valuesOf(node, "rowexpr")) if (path !== "<>") checkPath(textConstant(path));
      for (const path of valuesOf(node, "colexprs").flat()) {
        if (path !== "<>") checkPath(textConstant(path), { perRow: true });
      }
    }
    if (node.kind === "FUNCEXPR" && numbersOf(node, "funcid").some((oid) => currentSetting.includes(oid))) {
      const setting = textConstant(valuesOf(node, "args").flat()[0]);
      if (setting === undefined)
        throw refused("current_setting of a computed name", "Write the name of the setting as a literal.");
      if (!isShowableSetting(setting))
        throw refused(`the setting ${setting}`, "Settings of this kind may hold secrets and are not shown.");
    }
  }
  for (const set of Object.values(found)) set.delete(0);
}

function addOfUsers(set: Set<number>, values: readonly TreeValue[]): void {
  for (const oid of numbersIn(values)) if (oid >= firstUserOid) set.add(oid);
}

/** Depth of views over views, and of domains over domains, that is followed. */
const followedMax = 32;

/** Refuses trees that call, or read through whatever they name, what the policy does not let them. */
export async function judgeTree(
  tx: Transaction,
  queries: readonly TreeNode[],
  policy: JudgePolicy,
  /** What is referred to besides, where the references come from a text and not from a tree. */
  besides: References = noReferences(),
): Promise<Grounds> {
  const done = noReferences();
  const grounds = noGrounds();
  let found = besides;
  let makesJson = false;
  collect(queries, found);
  for (let level = 0; Object.values(found).some((set: Set<number>) => set.size > 0); level++) {
    if (level === followedMax) throw refused("views nested too deeply", "Query the tables beneath them.");
    const fresh = noFresh();
    for (const kind of kindsOfReference) {
      fresh[kind].push(...[...found[kind]].filter((reference) => !done[kind].has(reference)));
      for (const reference of fresh[kind]) done[kind].add(reference);
    }
    found = noReferences();
    const called: FoundFunction[] = [];
    const facts = noFacts();
    await ask(tx, [
      ...questionsOfFunctions(fresh, called),
      ...questionsOfRelations(fresh, { major: tx.major, isBeneathView: level > 0, facts, grounds }),
      ...questionsOfTypes(fresh.values, { facts, grounds }),
    ]);
    await ask(tx, questionsLeft(fresh, { major: tx.major, facts, grounds }));
    makesJson = (await judgeFunctions(tx, called, policy)) || makesJson;
    await follow(tx, fresh, { policy: policy.tables ?? everything, facts, grounds, found });
  }
  await judgeUnseen(tx, done, { policy, makesJson, grounds });
  return grounds;
}

/** A statement of our own with what becomes of its rows. */
interface Question {
  sql: string;
  params: readonly string[];
  take: (rows: readonly unknown[][]) => void;
}

/** Asks all at once: every round trip costs as much as what is asked. */
async function ask(tx: Transaction, questions: readonly Question[]): Promise<void> {
  if (questions.length === 0) return;
  const answers = await tx.batch(questions);
  for (const [index, question] of questions.entries()) question.take(answers[index]?.rows ?? []);
}

/** The server's own functions, by which nearly all statements are made. */
const builtInQuery = "SELECT oid, proname, provolatile FROM pg_catalog.pg_proc WHERE oid = ANY($1::oid[])";

/** `internal` and C, in which only a superuser makes functions. */
const superuserLanguages = [12, 13];

/** The functions that references to what users made come down to, as `judgeFunction` wants them. */
const functionsQuery = `
WITH called(oid) AS (
  SELECT unnest($1::oid[])
  UNION SELECT oprcode FROM pg_catalog.pg_operator WHERE oid = ANY($2::oid[])
  UNION SELECT typinput FROM pg_catalog.pg_type WHERE oid = ANY($3::oid[]) AND typtype = 'b'
  UNION SELECT f FROM pg_catalog.pg_aggregate, unnest(ARRAY[aggtransfn, aggfinalfn, aggcombinefn, aggserialfn, aggdeserialfn,
      aggmtransfn, aggminvtransfn, aggmfinalfn]::oid[]) AS f
    WHERE aggfnoid = ANY($1::oid[]) AND aggfnoid >= ${firstUserOid}
)
SELECT p.oid, n.nspname, p.proname, p.provolatile,
  CASE WHEN p.prolang IN (${superuserLanguages.join()}) OR (SELECT rolsuper FROM pg_catalog.pg_roles WHERE oid = p.proowner) THEN e.extname END
FROM called
JOIN pg_catalog.pg_proc p ON p.oid = called.oid
JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace
LEFT JOIN pg_catalog.pg_depend d ON d.classid = 'pg_catalog.pg_proc'::regclass AND d.objid = p.oid AND d.deptype = 'e'
LEFT JOIN pg_catalog.pg_extension e ON e.oid = d.refobjid AND d.refclassid = 'pg_catalog.pg_extension'::regclass
ORDER BY p.oid`;

type Fresh = Record<(typeof kindsOfReference)[number], number[]>;

function noFresh(): Fresh {
  return {
    functions: [],
    operators: [],
    types: [],
    values: [],
    relations: [],
    tables: [],
    views: [],
    columns: [],
    met: [],
  };
}

function oids(numbers: Iterable<number>): string {
  return `{${[...numbers].join(",")}}`;
}

/** Functions whose first argument is judged where it is seen; behind an operator of a user nobody sees it. */
const judgedByArgument = new Set([...currentSetting, ...pathFunctions.keys()]);

/** Judges what is called, and answers whether it makes JSON of values. */
async function judgeFunctions(
  tx: Transaction,
  called: readonly FoundFunction[],
  policy: JudgePolicy,
): Promise<boolean> {
  const functions = called.map((found) => found.called);
  for (const one of functions) judgeFunction(one, policy);
  const hidden = called.find(({ oid, isBehind }) => isBehind && judgedByArgument.has(oid));
  if (hidden !== undefined) {
    throw refusedFunction(
      hidden.called.schema,
      hidden.called.name,
      "an operator of a user stands for it: call it by its name",
    );
  }
  const reader = functions.find(({ builtIn, name }) => builtIn && typeReaders.has(name));
  if (reader !== undefined && (await typesThatRun(tx, policy)).length > 0) {
    throw refusedFunction(reader.schema, reader.name, "this database has types whose reading calls functions of users");
  }
  return functions.some(({ builtIn, extension, name }) =>
    builtIn ? jsonMakers.test(name) : extension !== undefined && jsonMakersOfExtensions.test(name),
  );
}

/**
 * Judges what the server looks up by the type of a value, so that no tree names it: what makes JSON calls a cast to JSON,
 * what estimates how many ranges overlap calls what measures them.
 */
async function judgeUnseen(
  tx: Transaction,
  { met, values, operators }: References,
  { policy, makesJson, grounds }: { policy: JudgePolicy; makesJson: boolean; grounds: Grounds },
): Promise<void> {
  const types = new Set([...met, ...values]);
  if (types.size === 0 || (!makesJson && operators.size === 0)) return;
  const params = [oids(types), String(makesJson), oids(operators)] as const;
  const { rows } = await tx.query(unseenQuery, params);
  const functions = rows.map(([oid]) => Number(oid));
  grounds.unseen = { params, functions };
  for (const { called } of await functionsOf(tx, { functions, operators: [], types: [] }))
    judgeFunction(called, policy);
}

interface FoundFunction {
  oid: number;
  /** What the tree names is something of a user that stands for it. */
  isBehind: boolean;
  called: CalledFunction;
}

async function functionsOf(
  tx: Transaction,
  references: Pick<Fresh, "functions" | "operators" | "types">,
): Promise<FoundFunction[]> {
  const called: FoundFunction[] = [];
  await ask(tx, questionsOfFunctions(references, called));
  return called;
}

/** Asks what the references call. */
function questionsOfFunctions(
  { functions, operators, types }: Pick<Fresh, "functions" | "operators" | "types">,
  called: FoundFunction[],
): Question[] {
  // Behind operators and types of the server's own there are only functions that compute, in every version: a test looks.
  const own = [functions, operators, types].map((list) => list.filter((oid) => oid >= firstUserOid));
  const builtIn = functions.filter((oid) => oid < firstUserOid);
  const questions: Question[] = [];
  if (builtIn.length > 0) {
    questions.push({
      sql: builtInQuery,
      params: [oids(builtIn)],
      take(rows) {
        for (const [oid, name, volatility] of rows) {
          const volatile = volatility === "v";
          called.push({
            oid: Number(oid),
            isBehind: false,
            called: { builtIn: true, schema: "pg_catalog", name: String(name), volatile, extension: undefined },
          });
        }
      },
    });
  }
  if (own.every((list) => list.length === 0)) return questions;
  questions.push({
    sql: functionsQuery,
    params: own.map(oids),
    take(rows) {
      for (const [oid, schema, name, volatility, extension] of rows) {
        called.push({
          oid: Number(oid),
          isBehind: true,
          called: {
            builtIn: Number(oid) < firstUserOid,
            schema: String(schema),
            name: String(name),
            volatile: volatility === "v",
            extension: typeof extension === "string" ? extension : undefined,
          },
        });
      }
    },
  });
  return questions;
}

/** What ranges `r` are brought into form, compared and, where the planner estimates, measured with. */
function functionsOfRanges({ measured = false } = {}): string {
  return `LEFT JOIN pg_catalog.pg_opclass o ON o.oid = r.rngsubopc AND o.oid >= ${firstUserOid}
  LEFT JOIN pg_catalog.pg_amproc m ON m.amprocfamily = o.opcfamily
  CROSS JOIN LATERAL (VALUES (r.rngcanonical::oid), (m.amproc::oid)${measured ? ", (r.rngsubdiff::oid)" : ""}) f(oid)
  WHERE f.oid >= ${firstUserOid}`;
}

/** Types of a list, and all that a value of them can hold: base types, elements, attributes, bounds of ranges. */
const madeOf = (types: string): string => `
WITH RECURSIVE made(oid) AS (
  SELECT unnest(${types})
  UNION
  SELECT part.oid FROM made
  JOIN pg_catalog.pg_type t ON t.oid = made.oid
  CROSS JOIN LATERAL (
    SELECT t.typbasetype WHERE t.typtype = 'd'
    UNION ALL SELECT t.typelem WHERE t.typelem <> 0
    UNION ALL SELECT a.atttypid FROM pg_catalog.pg_attribute a
      WHERE t.typtype = 'c' AND a.attrelid = t.typrelid AND a.attnum > 0 AND NOT a.attisdropped
    UNION ALL SELECT r.rngsubtype FROM pg_catalog.pg_range r WHERE t.typtype = 'r' AND r.rngtypid = t.oid
    UNION ALL SELECT d.refobjid FROM pg_catalog.pg_depend d WHERE t.typtype = 'm' AND d.classid = 'pg_catalog.pg_type'::regclass
      AND d.objid = t.oid AND d.refclassid = 'pg_catalog.pg_type'::regclass
  ) AS part(oid)
  WHERE part.oid >= ${firstUserOid})`;

/** The checks of all domains that a value of these types can hold, and what compares its ranges. */
const domainChecks = `${madeOf("$1::oid[]")}
SELECT k.oid, k.conbin::text, NULL FROM made JOIN pg_catalog.pg_constraint k ON k.contypid = made.oid WHERE k.conbin IS NOT NULL
UNION ALL SELECT NULL, NULL, f.oid::int8::text FROM made JOIN pg_catalog.pg_range r ON r.rngtypid = made.oid
  ${functionsOfRanges()}`;

/** What is called for values of types that a value of `$1` can hold, where `$2` JSON is made, and by the operators `$3`. */
const unseenQuery = `${madeOf("$1::oid[]")}
SELECT k.castfunc::int8::text FROM made JOIN pg_catalog.pg_cast k ON k.castsource = made.oid
  WHERE $2::boolean AND k.castfunc >= ${firstUserOid} AND k.casttarget IN ('pg_catalog.json'::regtype, 'pg_catalog.jsonb'::regtype)
UNION SELECT f.oid::int8::text FROM made JOIN pg_catalog.pg_range r ON r.rngtypid = made.oid
  ${functionsOfRanges({ measured: true })} AND EXISTS (SELECT FROM pg_catalog.pg_operator
    WHERE oid = ANY($3::oid[]) AND oprrest::text ~ '^(?:pg_catalog[.])?(?:multi)?rangesel$')`;

/** Bodies of SQL functions can be stored as they were parsed since 14. */
const parsedBodiesSince = 14;

/** Extended statistics can be over expressions since 14, columns computed when they are read since 18. */
const statisticsSince = 14;
const virtualColumnsSince = 18;

/** What comes with a relation because it is read, though no statement names it. */
type Brought = "policy" | "children" | "check" | "partition" | "class" | "virtual";

/** What a level of relations is, and holds. */
interface Facts {
  relations: { oid: number; schema: string; table: string; kind: string }[];
  brought: Set<string>;
  /** Trees that are run for rows. */
  whole: TreeNode[];
  /** Trees of which the planner computes what is constant. */
  constant: TreeNode[];
  functions: number[];
}

function noFacts(): Facts {
  return { relations: [], brought: new Set(), whole: [], constant: [], functions: [] };
}

/**
 * What a judgement rests on and an owner could add to without a lock that we hold against it. Between the judgement and
 * the plan nothing may be added: `groundsHold` looks.
 */
export interface Grounds {
  /** Tables of users that are read, those that inherit from them included. */
  relations: Set<number>;
  parents: Set<number>;
  indexes: Set<number>;
  statistics: Set<number>;
  /** User types that values are made of. */
  values: Set<number>;
  /** Checks of domains and of inheriting tables. */
  checks: Set<number>;
  /** SQL functions whose bodies were read, and the transactions that wrote them. */
  bodies: Map<number, string>;
  unseen: { params: readonly [string, string, string]; functions: number[] } | undefined;
}

function noGrounds(): Grounds {
  return {
    relations: new Set(),
    parents: new Set(),
    indexes: new Set(),
    statistics: new Set(),
    values: new Set(),
    checks: new Set(),
    bodies: new Map(),
    unseen: undefined,
  };
}

/** Whether another session could add anything to what was judged. */
export function canGroundsChange({ relations, values, bodies, unseen }: Grounds): boolean {
  return relations.size > 0 || values.size > 0 || bodies.size > 0 || unseen !== undefined;
}

/**
 * A statement that fails where by now there is something that was not judged. It is sent in one batch with the statement
 * that makes the plan, right before it.
 */
export function groundsHold(grounds: Grounds, major: number): BatchStatement {
  const params: string[] = [];
  const given = (list: Iterable<number>): string => `$${params.push(oids(list))}::oid[]`;
  const added: string[] = [];
  if (grounds.relations.size > 0) {
    const relations = given(grounds.relations);
    added.push(
      `SELECT FROM pg_catalog.pg_index WHERE indrelid = ANY(${relations}) AND indexrelid <> ALL(${given(grounds.indexes)})`,
      `SELECT FROM pg_catalog.pg_inherits WHERE inhparent = ANY(${relations}) AND inhrelid <> ALL(${relations})`,
    );
    if (major >= statisticsSince) {
      added.push(
        `SELECT FROM pg_catalog.pg_statistic_ext WHERE stxrelid = ANY(${relations}) AND oid <> ALL(${given(grounds.statistics)})`,
      );
    }
    if (grounds.parents.size > 0) {
      added.push(
        `SELECT FROM pg_catalog.pg_constraint WHERE conrelid = ANY(${relations}) AND contype = 'c' AND oid <> ALL(${given(grounds.checks)})`,
      );
    }
  }
  if (grounds.values.size > 0) {
    added.push(
      `${madeOf(given(grounds.values))} SELECT FROM made JOIN pg_catalog.pg_constraint k ON k.contypid = made.oid
       WHERE k.conbin IS NOT NULL AND k.oid <> ALL(${given(grounds.checks)})`,
    );
  }
  if (grounds.bodies.size > 0) {
    const written = `$${params.push(`{${[...grounds.bodies.values()].join(",")}}`)}::text[]`;
    added.push(
      `SELECT FROM pg_catalog.pg_proc WHERE oid = ANY(${given(grounds.bodies.keys())}) AND xmin::text <> ALL(${written})`,
    );
  }
  if (grounds.unseen !== undefined) {
    const first = params.length;
    params.push(...grounds.unseen.params);
    const query = unseenQuery.replaceAll(/\$(\d)/g, (_, number: string) => `$${first + Number(number)}`);
    added.push(`SELECT FROM (${query}) AS u(oid) WHERE u.oid::oid <> ALL(${given(grounds.unseen.functions)})`);
  }
  return {
    sql: `SELECT 1 / CASE WHEN ${added.map((query) => `EXISTS (${query})`).join(" OR ")} THEN 0 ELSE 1 END`,
    params,
  };
}

/** What relations are, and what they bring along by their entry in the catalog. */
const relationsQuery = `SELECT oid, relnamespace::pg_catalog.regnamespace::text, relname, relkind, relhassubclass, relchecks,
  relrowsecurity, relrowsecurity AND pg_catalog.row_security_active(oid)
  FROM pg_catalog.pg_class WHERE oid = ANY($1::oid[])`;

/** A name as it is in the catalog, from the form in which it is printed for SQL. */
function unquoted(name: string): string {
  return name.startsWith('"') ? name.slice(1, -1).replaceAll('""', '"') : name;
}

/** Queries of one catalog each: they are planned on every call, and planning is what they cost. */
const viewsQuery =
  "SELECT ev_action::text FROM pg_catalog.pg_rewrite WHERE ev_class = ANY($1::oid[]) AND ev_type = '1'";
const indexesQuery =
  "SELECT indexrelid, indclass::text, indexprs::text, indpred::text FROM pg_catalog.pg_index WHERE indrelid = ANY($1::oid[])";
const statisticsQuery = "SELECT oid, stxexprs::text FROM pg_catalog.pg_statistic_ext WHERE stxrelid = ANY($1::oid[])";
const virtualQuery =
  "SELECT FROM pg_catalog.pg_attribute WHERE attrelid = ANY($1::oid[]) AND attgenerated = 'v' LIMIT 1";

/** Asks what relations are, and what most of them bring along. */
function questionsOfRelations(
  { relations, tables, views }: Pick<Fresh, "relations" | "tables" | "views">,
  { major, isBeneathView, facts, grounds }: { major: number; isBeneathView: boolean; facts: Facts; grounds: Grounds },
): Question[] {
  if (relations.length === 0) return [];
  const questions: Question[] = [
    {
      sql: relationsQuery,
      params: [oids(relations)],
      take(rows) {
        for (const [id, schema, table, kind, hasChildren, checks, hasPolicies, policiesHold] of rows) {
          const oid = Number(id);
          facts.relations.push({ oid, schema: unquoted(String(schema)), table: String(table), kind: String(kind) });
          if (oid < firstUserOid) continue;
          // Beneath a view it is the view's owner whom the policies may hold for.
          if (policiesHold === true || (isBeneathView && hasPolicies === true)) facts.brought.add("policy");
          if (hasChildren === true) {
            facts.brought.add("children");
            grounds.parents.add(oid);
          }
          if (checks !== 0) facts.brought.add("check");
          if (kind === "p") facts.brought.add("partition");
        }
      },
    },
  ];
  const ofUsers = relations.filter((oid) => oid >= firstUserOid);
  const ruled = ofUsers.filter((oid) => !tables.includes(oid));
  const stored = ofUsers.filter((oid) => !views.includes(oid));
  return [...questions, ...questionsOfViews(ruled, facts), ...questionsOfTables(stored, { major, facts, grounds })];
}

/**
 * Asks what was not asked of relations because of what their tree says that they are. The tree of a view can be older
 * than what the relation has become.
 */
function questionsLeft(
  { tables, views }: Pick<Fresh, "tables" | "views">,
  { major, facts, grounds }: { major: number; facts: Facts; grounds: Grounds },
): Question[] {
  const others = (given: readonly number[], kinds: string): number[] =>
    facts.relations.flatMap(({ oid, kind }) =>
      oid >= firstUserOid && given.includes(oid) && !kinds.includes(kind) ? [oid] : [],
    );
  return [
    ...questionsOfViews(others(tables, "rp"), facts),
    ...questionsOfTables(others(views, "v"), { major, facts, grounds }),
  ];
}

function questionsOfViews(views: readonly number[], facts: Facts): Question[] {
  if (views.length === 0) return [];
  return [
    {
      sql: viewsQuery,
      params: [oids(views)],
      take(rows) {
        for (const [rule] of rows) facts.whole.push(...topNodes(rule));
      },
    },
  ];
}

/** Asks what the planner computes of tables of users: what their indexes and statistics are over. */
function questionsOfTables(
  tables: readonly number[],
  { major, facts, grounds }: { major: number; facts: Facts; grounds: Grounds },
): Question[] {
  if (tables.length === 0) return [];
  for (const oid of tables) grounds.relations.add(oid);
  const params = [oids(tables)];
  const questions: Question[] = [
    {
      sql: indexesQuery,
      params,
      take(rows) {
        for (const [oid, classes, ...trees] of rows) {
          grounds.indexes.add(Number(oid));
          if (
            String(classes)
              .split(" ")
              .some((one) => Number(one) >= firstUserOid)
          )
            facts.brought.add("class");
          for (const tree of trees) if (typeof tree === "string") facts.constant.push(...topNodes(tree));
        }
      },
    },
  ];
  if (major >= statisticsSince) {
    questions.push({
      sql: statisticsQuery,
      params,
      take(rows) {
        for (const [oid, tree] of rows) {
          grounds.statistics.add(Number(oid));
          if (typeof tree === "string") facts.constant.push(...topNodes(tree));
        }
      },
    });
  }
  if (major >= virtualColumnsSince) {
    questions.push({
      sql: virtualQuery,
      params,
      take(rows) {
        if (rows.length > 0) facts.brought.add("virtual");
      },
    });
  }
  return questions;
}

/** Asks what checks and compares values of types of users. */
function questionsOfTypes(
  values: readonly number[],
  { facts, grounds }: { facts: Facts; grounds: Grounds },
): Question[] {
  if (values.length === 0) return [];
  for (const oid of values) grounds.values.add(oid);
  return [
    {
      sql: domainChecks,
      params: [oids(values)],
      take(rows) {
        for (const [check, condition, called] of rows) {
          if (typeof called === "string") facts.functions.push(Number(called));
          else {
            grounds.checks.add(Number(check));
            facts.whole.push(...topNodes(condition));
          }
        }
      },
    },
  ];
}

/** What few relations bring along. `whole` is run for rows; of what is `constant` the planner computes the value. */
const rareQueries: Record<Exclude<Brought, "children">, string> = {
  policy:
    "SELECT 'whole', polqual::text FROM pg_catalog.pg_policy WHERE polrelid = ANY($1::oid[]) AND polcmd IN ('r', '*') AND polqual IS NOT NULL",
  virtual: `SELECT 'whole', d.adbin::text FROM pg_catalog.pg_attribute a
    JOIN pg_catalog.pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum WHERE a.attrelid = ANY($1::oid[]) AND a.attgenerated = 'v'`,
  check:
    "SELECT 'constant', conbin::text, oid FROM pg_catalog.pg_constraint WHERE conrelid = ANY($1::oid[]) AND contype = 'c'",
  partition:
    "SELECT 'constant', partexprs::text FROM pg_catalog.pg_partitioned_table WHERE partrelid = ANY($1::oid[]) AND partexprs IS NOT NULL",
  // What an index of a user's own operator class compares by.
  class: `SELECT 'function', f.oid::int8::text FROM pg_catalog.pg_index i
    CROSS JOIN LATERAL unnest(i.indclass) k(oid)
    JOIN pg_catalog.pg_opclass o ON o.oid = k.oid AND o.oid >= ${firstUserOid}
    CROSS JOIN LATERAL (
      SELECT m.amproc::oid FROM pg_catalog.pg_amproc m WHERE m.amprocfamily = o.opcfamily
      UNION SELECT p.oprcode::oid FROM pg_catalog.pg_amop m JOIN pg_catalog.pg_operator p ON p.oid = m.amopopr
        WHERE m.amopfamily = o.opcfamily
    ) f(oid)
    WHERE i.indrelid = ANY($1::oid[]) AND f.oid >= ${firstUserOid}`,
};

const rareKinds = ["policy", "virtual", "check", "partition", "class"] as const;

/** Those that inherit from `$1`, and those from them. */
const inheritingQuery = `WITH RECURSIVE below(oid) AS (
  SELECT inhrelid FROM pg_catalog.pg_inherits WHERE inhparent = ANY($1::oid[])
  UNION SELECT i.inhrelid FROM below JOIN pg_catalog.pg_inherits i ON i.inhparent = below.oid)
SELECT oid FROM below`;

/** Looks into what the references hold: relations by name, the trees that come with them, the checks of domains. */
async function follow(
  tx: Transaction,
  fresh: Fresh,
  { policy, facts, grounds, found }: { policy: TablePolicy; facts: Facts; grounds: Grounds; found: References },
): Promise<void> {
  for (const oid of fresh.functions) {
    const relation = functionsOfHeld.get(oid);
    if (relation !== undefined) await refuseHeld(tx, relation);
  }
  for (const relation of facts.relations) await judgeRelation(tx, relation, { policy, columns: fresh.columns });
  const tables = fresh.relations.filter((oid) => oid >= firstUserOid);
  if (facts.brought.size > 0) {
    const hasChildren = facts.brought.has("children");
    if (hasChildren) {
      await judgeChildren(tx, tables, policy);
      const below = (await tx.query(inheritingQuery, [oids(tables)])).rows.map(([oid]) => Number(oid));
      await ask(tx, questionsOfTables(below, { major: tx.major, facts, grounds }));
      tables.push(...below);
    }
    // What children bring nobody has looked at: all of it, but for the policies, which hold for the table that is named.
    const wanted = rareKinds.filter((kind) => facts.brought.has(kind) || (hasChildren && kind !== "policy"));
    await ask(
      tx,
      wanted
        .filter((kind) => kind !== "virtual" || tx.major >= virtualColumnsSince)
        .map((kind) => ({
          sql: rareQueries[kind],
          params: [oids(tables)],
          take(rows) {
            for (const [how, content, check] of rows) {
              if (how === "function") facts.functions.push(Number(content));
              else if (how === "whole") facts.whole.push(...topNodes(content));
              else facts.constant.push(...topNodes(content));
              if (check !== undefined) grounds.checks.add(Number(check));
            }
          },
        })),
    );
  }
  for (const oid of facts.functions) found.functions.add(oid);
  collect(facts.whole, found);
  collect(constantParts(facts.constant), found);
  await collectInlined(tx, facts.constant, { found, grounds });
}

/** `sql`, the language of functions that the planner replaces by their bodies. */
const inlinedLanguage = 14;

/**
 * Adds what the bodies of SQL functions call, of which the planner computes the constants. A body that is text is read
 * when it is planned, so whatever has a name that stands in it may be what it calls.
 */
async function collectInlined(
  tx: Transaction,
  trees: readonly TreeNode[],
  { found, grounds }: { found: References; grounds: Grounds },
): Promise<void> {
  const called = noReferences();
  for (const node of nodesOf(trees)) {
    for (const { name, values } of node.fields) if (functionFields.has(name)) addOfUsers(called.functions, values);
  }
  if (called.functions.size === 0) return;
  const { rows } = await tx.query(
    `SELECT oid, xmin::text, prolang, prosrc, ${tx.major >= parsedBodiesSince ? "prosqlbody::text" : "NULL"} FROM pg_catalog.pg_proc
     WHERE oid = ANY($1::oid[])`,
    [oids(called.functions)],
  );
  for (const [oid, writtenBy, language, text, body] of rows) {
    // Its owner can replace any of them by one that is replaced by its body.
    grounds.bodies.set(Number(oid), String(writtenBy));
    if (language !== inlinedLanguage) continue;
    if (typeof body === "string") {
      collect(topNodes(body), found);
      continue;
    }
    const source = String(text);
    const named = await tx.query(
      `SELECT 'functions', oid::int8::text FROM pg_catalog.pg_proc WHERE oid >= ${firstUserOid} AND (proname = ANY($1::text[]) OR $3)
       UNION ALL SELECT 'values', oid::int8::text FROM pg_catalog.pg_type WHERE oid >= ${firstUserOid} AND (typname = ANY($1::text[]) OR $3)
       UNION ALL SELECT 'operators', oid::int8::text FROM pg_catalog.pg_operator WHERE oid >= ${firstUserOid} AND pg_catalog.strpos($2, oprname) > 0`,
      // A name in Unicode escapes could be any.
      [namesIn(source), source, /u&"/i.test(source)],
    );
    for (const [kind, one] of named.rows) {
      const into = kind === "functions" ? found.functions : kind === "values" ? found.values : found.operators;
      into.add(Number(one));
    }
  }
}

/** A table is read with those that inherit from it. Partitions need not be allowed by name, but may not be denied. */
async function judgeChildren(tx: Transaction, parents: readonly number[], policy: TablePolicy): Promise<void> {
  const { schemasDeny, tablesDeny } = policy;
  if (schemasDeny.length + tablesDeny.length === 0) return;
  const { rows } = await tx.query(
    `WITH RECURSIVE below(oid) AS (SELECT unnest($1::oid[]) UNION
       SELECT i.inhrelid FROM below JOIN pg_catalog.pg_inherits i ON i.inhparent = below.oid)
     SELECT n.nspname, c.relname FROM below JOIN pg_catalog.pg_class c ON c.oid = below.oid
       JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace WHERE c.relkind IN ('r', 'p', 'f')`,
    [oids(parents)],
  );
  for (const [schema, name] of rows) {
    const table = { schema: String(schema), table: String(name) };
    if (!allowsTable({ ...everything, schemasDeny, tablesDeny }, table)) throw tableNotAllowed(table);
  }
}

/** Secrets are refused by resolved relation, and tables that the settings leave out. */
async function judgeRelation(
  tx: Transaction,
  { oid, ...table }: { oid: number; schema: string; table: string },
  { policy, columns }: { policy: TablePolicy; columns: readonly number[] },
): Promise<void> {
  if (table.schema === "pg_toast") {
    throw new ToolError("table_refused", "Where long values are stored is not read: no name tells whose they are.", {
      next: "Read the column of the table itself.",
      details: table,
    });
  }
  if (oid < firstUserOid) {
    if (secretRelations.has(table.table)) {
      throw new ToolError("table_refused", "That relation may hold secrets and is not read.", {
        next: "Roles are in pg_roles, connections in pg_stat_activity.",
        details: table,
      });
    }
    if (isRestricted(policy) && valueRelations.has(table.table)) throw tableNotAllowed(table);
    await refuseHeld(tx, table.table, { oid, columns });
    return;
  }
  // What a view reads is judged too: a view is no way around the settings.
  if (!allowsTable(policy, table)) throw tableNotAllowed(table);
}

/** Refuses a relation that is read every day, where just now it holds a secret in what is read of it. */
async function refuseHeld(
  tx: Transaction,
  relation: string,
  read?: { oid: number; columns: readonly number[] },
): Promise<void> {
  const held = heldSecrets.get(relation);
  if (held === undefined) return;
  const { rows } = await tx.query(
    `SELECT EXISTS (${held.query}),
       (SELECT attnum::int4 FROM pg_catalog.pg_attribute WHERE attrelid = $1::oid AND attname = $2)`,
    [read?.oid ?? 0, held.column ?? ""],
  );
  const [isHeld, column] = rows[0] ?? [];
  if (isHeld !== true) return;
  const ofRelation = read?.columns.filter((key) => Math.floor(key / columnsMax) === read.oid) ?? [];
  // A whole row is column 0. Where nothing tells the columns, as in a text, any may be read.
  const isRead = ofRelation.some((key) => [0, column].includes((key % columnsMax) - columnOffset));
  if (typeof column === "number" && ofRelation.length > 0 && !isRead) return;
  throw new ToolError("table_refused", "That relation holds a secret at the moment and is not read.", {
    next: held.next,
    details: { table: relation, ...(held.column === undefined ? {} : { column: held.column }) },
  });
}

function topNodes(tree: unknown): TreeNode[] {
  return [...nodesAtTop(parseTree(String(tree)))];
}

function* nodesAtTop(values: readonly TreeValue[]): Generator<TreeNode> {
  for (const value of values) {
    if (typeof value === "string") continue;
    if (Array.isArray(value)) yield* nodesAtTop(value);
    else yield value;
  }
}

/**
 * Types of users whose text form runs code that the policy does not let a statement call: the server reads literals
 * while it parses, before anything could be judged. A domain brings its check, a range its order.
 */
export async function typesThatRun(
  tx: Transaction,
  policy: JudgePolicy,
): Promise<{ type: number; runs: CalledFunction }[]> {
  const { rows } = await tx.query(
    `SELECT k.contypid::int8::text, k.conbin::text, NULL FROM pg_catalog.pg_constraint k WHERE k.contypid >= ${firstUserOid} AND k.conbin IS NOT NULL
     UNION ALL SELECT r.rngtypid::int8::text, NULL, f.oid::int8::text FROM pg_catalog.pg_range r
       ${functionsOfRanges()}`,
  );
  const typesOf = new Map<number, Set<number>>();
  const all = noReferences();
  for (const [type, condition, called] of rows) {
    const found = noReferences();
    if (typeof called === "string") found.functions.add(Number(called));
    else collect(topNodes(condition), found);
    // The function of an operator is known after the query below only.
    for (const oid of [...found.functions, ...found.operators, ...found.types]) {
      typesOf.set(oid, (typesOf.get(oid) ?? new Set()).add(Number(type)));
    }
    for (const name of ["functions", "operators", "types"] as const) for (const oid of found[name]) all[name].add(oid);
  }
  const running: { type: number; runs: CalledFunction }[] = [];
  for (const kind of ["functions", "operators", "types"] as const) {
    // One by one: only then is it known which reference came down to the function.
    for (const oid of all[kind]) {
      const called = await functionsOf(tx, { functions: [], operators: [], types: [], [kind]: [oid] });
      for (const { called: runs } of called) {
        if (isRefused(runs, policy)) for (const type of typesOf.get(oid) ?? []) running.push({ type, runs });
      }
    }
  }
  return running;
}

function isRefused(called: CalledFunction, policy: JudgePolicy): boolean {
  try {
    judgeFunction(called, policy);
    return false;
  } catch (error) {
    if (error instanceof ToolError) return true;
    throw error;
  }
}

export function refusedWriting(): ToolError {
  return refused(
    "statements that write or define",
    "Send a SELECT; writing goes through insert_data, create_table and bulk_insert.",
  );
}

export function refused(construct: string, next: string, details: Record<string, unknown> = {}): ToolError {
  return new ToolError("sql_refused", `This server does not run ${construct}.`, { next, details });
}
