import { firstUserOid, isShowableSetting, toJson } from "./function-policy.ts";
import {
  nodesOf,
  numbersIn,
  numbersOf,
  parseTree,
  type TreeNode,
  type TreeValue,
  textConstant,
  valuesOf,
} from "./node-tree.ts";
import { refused, refusedWriting } from "./refusals.ts";
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

export const kindsOfReference = [
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

export type Fresh = Record<(typeof kindsOfReference)[number], number[]>;

export function noFresh(): Fresh {
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

/** A tree counts columns from the first of the system's own, which is -7. */
export const columnOffset = 7;

export const columnsMax = 4_096;

function columnKey(relation: number, bit: number): number {
  return relation * columnsMax + bit;
}

export const functionFields = new Set([
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
export const currentSetting = [2077, 3294];

export function flag(node: TreeNode, name: string): boolean {
  return valuesOf(node, name).includes("true");
}

/** A list field that is printed as `<>` is empty. */
export function isEmpty(node: TreeNode, name: string): boolean {
  return valuesOf(node, name).every((value) => value === "<>");
}

/** Adds what the trees call and read, and refuses what they may not be made of. */
export function collect(queries: readonly TreeNode[], found: References): void {
  for (const node of nodesOf(queries)) {
    if (node.kind === "QUERY") {
      if (numbersOf(node, "commandType")[0] !== 1) throw refusedWriting();
      if (flag(node, "hasModifyingCTE"))
        throw refused("a WITH query that writes", "Send a SELECT without INSERT, UPDATE or DELETE.");
      if (flag(node, "hasForUpdate") || !isEmpty(node, "rowMarks"))
        throw refused("FOR UPDATE or FOR SHARE", "Leave the locking clause out.");
    }
    for (const { name, values } of node.fields) {
      if (name === "opfuncid" && isOwnOperator(node)) addOfUsers(found.functions, values);
      else if (functionFields.has(name)) for (const oid of numbersIn(values)) found.functions.add(oid);
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

/** Behind operators of the server's own there are only functions that compute, in every version: a test looks. */
function isOwnOperator(node: TreeNode): boolean {
  const operators = numbersOf(node, "opno");
  return operators.length > 0 && operators.every((oid) => oid < firstUserOid);
}

export function addOfUsers(set: Set<number>, values: readonly TreeValue[]): void {
  for (const oid of numbersIn(values)) if (oid >= firstUserOid) set.add(oid);
}

export function topNodes(tree: unknown): TreeNode[] {
  return [...nodesAtTop(parseTree(String(tree)))];
}

function* nodesAtTop(values: readonly TreeValue[]): Generator<TreeNode> {
  for (const value of values) {
    if (typeof value === "string") continue;
    if (Array.isArray(value)) yield* nodesAtTop(value);
    else yield value;
  }
}
