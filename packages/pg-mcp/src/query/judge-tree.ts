import { ToolError } from "@es-to-pg/mcp-kit";
import {
  allowsTable,
  everything,
  isRestricted,
  type TablePolicy,
  type Transaction,
  tableNotAllowed,
} from "../postgres/index.ts";
import {
  type CalledFunction,
  firstUserOid,
  heldSecrets,
  isShowableSetting,
  type JudgePolicy,
  jsonMakers,
  judgeFunction,
  refusedFunction,
  secretRelations,
  settingsFunction,
  toJson,
  typeReaders,
  valueRelations,
} from "./function-policy.ts";
import { namesIn } from "./names.ts";
import {
  constantParts,
  nodesOf,
  numbersOf,
  parseTree,
  type TreeNode,
  type TreeValue,
  textConstant,
  valuesOf,
} from "./node-tree.ts";

/** Everything a tree calls or reads, by OID. */
export interface References {
  functions: Set<number>;
  operators: Set<number>;
  /** Types whose input function is called. */
  types: Set<number>;
  /** User types that values are made of: a domain anywhere inside brings its check along. */
  values: Set<number>;
  relations: Set<number>;
  /** Columns of relations that are read, by `columnKey`. */
  columns: Set<number>;
  /** User types of any value, stored ones too. */
  met: Set<number>;
}

const kindsOfReference = ["functions", "operators", "types", "values", "relations", "columns", "met"] as const;

export function noReferences(): References {
  return {
    functions: new Set(),
    operators: new Set(),
    types: new Set(),
    values: new Set(),
    relations: new Set(),
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
  "typid",
];
/** Fields that hold types of values, whatever the node. */
const fieldOfType = /types?$|typid$|typeid$/;
const operatorFields = ["opno", "opnos"];
/** Operators that put rows in order: no planner estimates by them, so only a user's are looked at. */
const orderFields = ["eqop", "sortop", "reverse_sort_op"];
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
    for (const field of functionFields) for (const oid of numbersOf(node, field)) found.functions.add(oid);
    for (const field of operatorFields) for (const oid of numbersOf(node, field)) found.operators.add(oid);
    for (const field of orderFields) {
      for (const oid of numbersOf(node, field)) if (oid >= firstUserOid) found.operators.add(oid);
    }
    for (const oid of numbersOf(node, "relid")) {
      found.relations.add(oid);
      for (const bit of numbersOf(node, "selectedCols")) found.columns.add(columnKey(oid, bit));
    }
    for (const field of valueFields) {
      for (const oid of numbersOf(node, field)) if (oid >= firstUserOid) found.values.add(oid);
    }
    for (const { name } of node.fields) {
      if (!fieldOfType.test(name)) continue;
      for (const oid of numbersOf(node, name)) if (oid >= firstUserOid) found.met.add(oid);
    }
    if (node.kind === "COERCEVIAIO") {
      for (const oid of numbersOf(node, "resulttype")) found.types.add(oid);
    }
    if (node.kind === "JSONCONSTRUCTOREXPR") found.functions.add(toJson);
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

/** Depth of views over views, and of domains over domains, that is followed. */
const followedMax = 32;

/** Refuses trees that call, or read through whatever they name, what the policy does not let them. */
export async function judgeTree(
  tx: Transaction,
  queries: readonly TreeNode[],
  policy: JudgePolicy,
  /** What is referred to besides, where the references come from a text and not from a tree. */
  besides: References = noReferences(),
): Promise<void> {
  const done = noReferences();
  let found = besides;
  let makesJson = false;
  collect(queries, found);
  for (let level = 0; Object.values(found).some((set: Set<number>) => set.size > 0); level++) {
    if (level === followedMax) throw refused("views nested too deeply", "Query the tables beneath them.");
    const fresh: Fresh = { functions: [], operators: [], types: [], values: [], relations: [], columns: [], met: [] };
    for (const kind of kindsOfReference) {
      fresh[kind].push(...[...found[kind]].filter((reference) => !done[kind].has(reference)));
      for (const reference of fresh[kind]) done[kind].add(reference);
    }
    makesJson = (await judgeFunctions(tx, fresh, policy)) || makesJson;
    found = noReferences();
    await follow(tx, fresh, { policy: policy.tables ?? everything, isBeneathView: level > 0, found });
  }
  await judgeUnseen(tx, done, { policy, makesJson });
}

/** The server's own functions, by which nearly all statements are made. */
const builtInQuery = "SELECT oid::int8::text, proname, provolatile FROM pg_catalog.pg_proc WHERE oid = ANY($1::oid[])";

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
SELECT p.oid::int8::text, n.nspname, p.proname, p.provolatile,
  CASE WHEN p.prolang IN (${superuserLanguages.join()}) OR (SELECT rolsuper FROM pg_catalog.pg_roles WHERE oid = p.proowner) THEN e.extname END
FROM called
JOIN pg_catalog.pg_proc p ON p.oid = called.oid
JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace
LEFT JOIN pg_catalog.pg_depend d ON d.classid = 'pg_catalog.pg_proc'::regclass AND d.objid = p.oid AND d.deptype = 'e'
LEFT JOIN pg_catalog.pg_extension e ON e.oid = d.refobjid AND d.refclassid = 'pg_catalog.pg_extension'::regclass
ORDER BY p.oid`;

type Fresh = Record<(typeof kindsOfReference)[number], number[]>;

function oids(numbers: Iterable<number>): string {
  return `{${[...numbers].join(",")}}`;
}

/** Judges what is called, and answers whether it makes JSON of values. */
async function judgeFunctions(
  tx: Transaction,
  called: Pick<Fresh, "functions" | "operators" | "types">,
  policy: JudgePolicy,
): Promise<boolean> {
  const functions = (await functionsOf(tx, called)).map(({ called: one }) => one);
  for (const one of functions) judgeFunction(one, policy);
  const reader = functions.find(({ builtIn, name }) => builtIn && typeReaders.has(name));
  if (reader !== undefined && (await typesThatRun(tx, policy)).length > 0) {
    throw refusedFunction(reader.schema, reader.name, "this database has types whose reading calls functions of users");
  }
  return functions.some(({ builtIn, name }) => builtIn && jsonMakers.test(name));
}

/**
 * Judges what the server looks up by the type of a value, so that no tree names it: what makes JSON calls a cast to JSON,
 * what estimates how many ranges overlap calls what measures them.
 */
async function judgeUnseen(
  tx: Transaction,
  { met, values, operators }: References,
  { policy, makesJson }: { policy: JudgePolicy; makesJson: boolean },
): Promise<void> {
  const types = new Set([...met, ...values]);
  if (types.size === 0 || (!makesJson && operators.size === 0)) return;
  const { rows } = await tx.query(unseenQuery, [oids(types), makesJson, oids(operators)]);
  const functions = rows.map(([oid]) => Number(oid));
  for (const { called } of await functionsOf(tx, { functions, operators: [], types: [] }))
    judgeFunction(called, policy);
}

async function functionsOf(
  tx: Transaction,
  { functions, operators, types }: Pick<Fresh, "functions" | "operators" | "types">,
): Promise<{ oid: number; called: CalledFunction }[]> {
  // Behind operators and types of the server's own there are only functions that compute, in every version: a test looks.
  const own = [functions, operators, types].map((list) => list.filter((oid) => oid >= firstUserOid));
  const builtIn = functions.filter((oid) => oid < firstUserOid);
  const called: { oid: number; called: CalledFunction }[] = [];
  if (builtIn.length > 0) {
    const { rows } = await tx.query(builtInQuery, [oids(builtIn)]);
    for (const [oid, name, volatility] of rows) {
      const volatile = volatility === "v";
      called.push({
        oid: Number(oid),
        called: { builtIn: true, schema: "pg_catalog", name: String(name), volatile, extension: undefined },
      });
    }
  }
  if (own.every((list) => list.length === 0)) return called;
  const { rows } = await tx.query(functionsQuery, own.map(oids));
  for (const [oid, schema, name, volatility, extension] of rows) {
    called.push({
      oid: Number(oid),
      called: {
        builtIn: Number(oid) < firstUserOid,
        schema: String(schema),
        name: String(name),
        volatile: volatility === "v",
        extension: typeof extension === "string" ? extension : undefined,
      },
    });
  }
  return called;
}

/** What ranges `r` are brought into form, compared and, where the planner estimates, measured with. */
function functionsOfRanges({ measured = false } = {}): string {
  return `LEFT JOIN pg_catalog.pg_opclass o ON o.oid = r.rngsubopc AND o.oid >= ${firstUserOid}
  LEFT JOIN pg_catalog.pg_amproc m ON m.amprocfamily = o.opcfamily
  CROSS JOIN LATERAL (VALUES (r.rngcanonical::oid), (m.amproc::oid)${measured ? ", (r.rngsubdiff::oid)" : ""}) f(oid)
  WHERE f.oid >= ${firstUserOid}`;
}

/** Types `$1`, and all that a value of them can hold: base types, elements, attributes, bounds of ranges. */
const made = `
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
    UNION ALL SELECT d.refobjid FROM pg_catalog.pg_depend d WHERE t.typtype = 'm' AND d.classid = 'pg_catalog.pg_type'::regclass
      AND d.objid = t.oid AND d.refclassid = 'pg_catalog.pg_type'::regclass
  ) AS part(oid)
  WHERE part.oid >= ${firstUserOid})`;

/** The checks of all domains that a value of these types can hold, and what compares its ranges. */
const domainChecks = `${made}
SELECT k.conbin::text, NULL FROM made JOIN pg_catalog.pg_constraint k ON k.contypid = made.oid WHERE k.conbin IS NOT NULL
UNION ALL SELECT NULL, f.oid::int8::text FROM made JOIN pg_catalog.pg_range r ON r.rngtypid = made.oid
  ${functionsOfRanges()}`;

/** What is called for values of types that a value of `$1` can hold, where `$2` JSON is made, and by the operators `$3`. */
const unseenQuery = `${made}
SELECT k.castfunc::int8::text FROM made JOIN pg_catalog.pg_cast k ON k.castsource = made.oid
  WHERE $2 AND k.castfunc >= ${firstUserOid} AND k.casttarget IN ('pg_catalog.json'::regtype, 'pg_catalog.jsonb'::regtype)
UNION SELECT f.oid::int8::text FROM made JOIN pg_catalog.pg_range r ON r.rngtypid = made.oid
  ${functionsOfRanges({ measured: true })} AND EXISTS (SELECT FROM pg_catalog.pg_operator
    WHERE oid = ANY($3::oid[]) AND oprrest::text ~ '^(?:pg_catalog[.])?(?:multi)?rangesel$')`;

/** Bodies of SQL functions can be stored as they were parsed since 14. */
const parsedBodiesSince = 14;

/** Extended statistics can be over expressions since 14, columns computed when they are read since 18. */
const statisticsSince = 14;
const virtualColumnsSince = 18;

/** What comes with a relation because it is read, though no statement names it. */
type Brought = "view" | "policy" | "children" | "index" | "class" | "check" | "partition" | "statistics" | "virtual";

/** What a relation brings along by its entry in the catalog; most bring no more than an index of columns. Cheap to plan. */
const broughtQuery = `SELECT c.oid::int8::text, (SELECT n.nspname FROM pg_catalog.pg_namespace n WHERE n.oid = c.relnamespace), c.relname,
  CASE WHEN c.oid >= ${firstUserOid} THEN pg_catalog.concat_ws(',',
    CASE WHEN c.relkind = 'v' THEN 'view' END,
    -- Beneath a view it is the view's owner whom the policies may hold for.
    CASE WHEN c.relrowsecurity AND ($2 OR pg_catalog.row_security_active(c.oid)) THEN 'policy' END,
    CASE WHEN c.relhassubclass THEN 'children' END,
    CASE WHEN c.relhasindex THEN 'indexes' END,
    CASE WHEN c.relchecks > 0 THEN 'check' END,
    CASE WHEN c.relkind = 'p' THEN 'partition' END,
    CASE WHEN c.relkind IN ('r', 'p', 'm') THEN 'table' END) END
  FROM pg_catalog.pg_class c WHERE c.oid = ANY($1::oid[])`;

/** What the indexes and the statistics of tables are over, where it is more than columns and the server's own order. */
function indexesQuery(major: number): string {
  const branches = [
    `SELECT 'index' FROM pg_catalog.pg_index WHERE indrelid = ANY($1::oid[]) AND (indexprs IS NOT NULL OR indpred IS NOT NULL)`,
    `SELECT 'class' FROM pg_catalog.pg_index, unnest(indclass) AS k WHERE indrelid = ANY($1::oid[]) AND k >= ${firstUserOid}`,
    ...(major >= statisticsSince
      ? [
          "SELECT 'statistics' FROM pg_catalog.pg_statistic_ext WHERE stxrelid = ANY($1::oid[]) AND stxexprs IS NOT NULL",
        ]
      : []),
    ...(major >= virtualColumnsSince
      ? ["SELECT 'virtual' FROM pg_catalog.pg_attribute WHERE attrelid = ANY($1::oid[]) AND attgenerated = 'v'"]
      : []),
  ];
  return branches.join(" UNION ALL ");
}

/** Trees by what they come from. `whole` is run for rows; of what is `constant` in the rest the planner computes the value. */
const treesOf: Record<Exclude<Brought, "children">, string> = {
  view: "SELECT 'whole', r.ev_action::text FROM read JOIN pg_catalog.pg_rewrite r ON r.ev_class = read.oid AND r.ev_type = '1'",
  policy:
    "SELECT 'whole', p.polqual::text FROM read JOIN pg_catalog.pg_policy p ON p.polrelid = read.oid AND p.polcmd IN ('r', '*') AND p.polqual IS NOT NULL",
  virtual: `SELECT 'whole', d.adbin::text FROM planned JOIN pg_catalog.pg_attribute a ON a.attrelid = planned.oid AND a.attgenerated = 'v'
    JOIN pg_catalog.pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum`,
  index: `SELECT 'constant', t.tree FROM planned JOIN pg_catalog.pg_index i ON i.indrelid = planned.oid
    CROSS JOIN LATERAL (VALUES (i.indexprs::text), (i.indpred::text)) t(tree) WHERE t.tree IS NOT NULL`,
  check:
    "SELECT 'constant', k.conbin::text FROM planned JOIN pg_catalog.pg_constraint k ON k.conrelid = planned.oid AND k.contype = 'c'",
  partition: `SELECT 'constant', p.partexprs::text FROM planned JOIN pg_catalog.pg_partitioned_table p ON p.partrelid = planned.oid
    WHERE p.partexprs IS NOT NULL`,
  statistics: `SELECT 'constant', s.stxexprs::text FROM planned JOIN pg_catalog.pg_statistic_ext s ON s.stxrelid = planned.oid
    WHERE s.stxexprs IS NOT NULL`,
  // What an index of a user's own operator class compares by.
  class: `SELECT 'function', f.oid::int8::text FROM planned JOIN pg_catalog.pg_index i ON i.indrelid = planned.oid
    CROSS JOIN LATERAL unnest(i.indclass) k(oid)
    JOIN pg_catalog.pg_opclass o ON o.oid = k.oid AND o.oid >= ${firstUserOid}
    CROSS JOIN LATERAL (
      SELECT m.amproc::oid FROM pg_catalog.pg_amproc m WHERE m.amprocfamily = o.opcfamily
      UNION SELECT p.oprcode::oid FROM pg_catalog.pg_amop m JOIN pg_catalog.pg_operator p ON p.oid = m.amopopr
        WHERE m.amopfamily = o.opcfamily
    ) f(oid)
    WHERE f.oid >= ${firstUserOid}`,
};

function isTreeSource(brought: string): brought is keyof typeof treesOf {
  return brought in treesOf;
}

/** One query for the trees of relations that bring these along. What children bring nobody has looked at: all of it. */
function treesQuery(brought: ReadonlySet<string>, major: number): string | undefined {
  const known = Object.keys(treesOf)
    .filter(isTreeSource)
    .filter((source) => source !== "statistics" || major >= statisticsSince)
    .filter((source) => source !== "virtual" || major >= virtualColumnsSince);
  const wanted = known.filter(
    (source) => brought.has(source) || (brought.has("children") && source !== "view" && source !== "policy"),
  );
  if (wanted.length === 0) return undefined;
  const children = brought.has("children")
    ? " UNION SELECT i.inhrelid FROM planned JOIN pg_catalog.pg_inherits i ON i.inhparent = planned.oid"
    : "";
  return `WITH RECURSIVE read(oid) AS (SELECT unnest($1::oid[])), planned(oid) AS (SELECT oid FROM read${children})
    ${wanted.map((source) => treesOf[source]).join("\n    UNION ALL ")}`;
}

/** Looks into what the references hold: relations by name, the trees that come with them, the checks of domains. */
async function follow(
  tx: Transaction,
  fresh: Fresh,
  { policy, isBeneathView, found }: { policy: TablePolicy; isBeneathView: boolean; found: References },
): Promise<void> {
  if (fresh.functions.includes(settingsFunction)) await refuseHeld(tx, "pg_settings");
  if (fresh.relations.length > 0) {
    const named = await tx.query(broughtQuery, [oids(fresh.relations), isBeneathView]);
    const bringing: number[] = [];
    const tables: number[] = [];
    const all = new Set<string>();
    for (const [oid, schema, relation, brought] of named.rows) {
      const known = { oid: Number(oid), schema: String(schema), table: String(relation) };
      await judgeRelation(tx, known, { policy, columns: fresh.columns });
      if (typeof brought !== "string" || brought === "") continue;
      for (const one of brought.split(",")) all.add(one);
      if (brought !== "table") bringing.push(known.oid);
      if (brought.includes("table")) tables.push(known.oid);
    }
    if (all.has("children")) await judgeChildren(tx, bringing, policy);
    if (tables.length > 0) {
      for (const [one] of (await tx.query(indexesQuery(tx.major), [oids(tables)])).rows) all.add(String(one));
    }
    const query = treesQuery(all, tx.major);
    const trees = query === undefined ? [] : (await tx.query(query, [oids([...bringing, ...tables])])).rows;
    for (const [kind, content] of trees) {
      if (kind === "function") found.functions.add(Number(content));
      else if (kind === "whole") collect(topNodes(content), found);
      else {
        collect(constantParts(topNodes(content)), found);
        await collectInlined(tx, topNodes(content), found);
      }
    }
  }
  if (fresh.values.length > 0) {
    const { rows } = await tx.query(domainChecks, [oids(fresh.values)]);
    for (const [condition, called] of rows) {
      if (typeof called === "string") found.functions.add(Number(called));
      else collect(topNodes(condition), found);
    }
  }
}

/** `sql`, the language of functions that the planner replaces by their bodies. */
const inlinedLanguage = 14;

/**
 * Adds what the bodies of SQL functions call, of which the planner computes the constants. A body that is text is read
 * when it is planned, so whatever has a name that stands in it may be what it calls.
 */
async function collectInlined(tx: Transaction, tree: readonly TreeNode[], found: References): Promise<void> {
  const called = [...nodesOf(tree)].flatMap((node) => functionFields.flatMap((field) => numbersOf(node, field)));
  const ofUsers = called.filter((oid) => oid >= firstUserOid);
  if (ofUsers.length === 0) return;
  const { rows } = await tx.query(
    `SELECT prosrc, ${tx.major >= parsedBodiesSince ? "prosqlbody::text" : "NULL"} FROM pg_catalog.pg_proc
     WHERE oid = ANY($1::oid[]) AND prolang = ${inlinedLanguage}`,
    [oids(ofUsers)],
  );
  for (const [text, body] of rows) {
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
    for (const [kind, oid] of named.rows) {
      const into = kind === "functions" ? found.functions : kind === "values" ? found.values : found.operators;
      into.add(Number(oid));
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
