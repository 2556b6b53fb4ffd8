import { type ChildPlan, childPath } from "../mapping/children.ts";
import { quoteIdentifier, quoteLiteral, quoteTable } from "../postgres/identifiers.ts";
import { ROW_ERROR_CLASSES } from "./database-error.ts";
import {
  compares,
  cookedQuery,
  doBlock,
  isRejectOf,
  type LoadTables,
  type MergePlan,
  mergePlan,
  REASON_SQL,
} from "./plan-sql.ts";

/** Documents of one part, by their lines. */
export interface Span {
  part: number;
  from: number;
  to: number;
}

/** The names and pieces of which a child's statements are made. */
export interface ChildTables {
  child: ChildPlan;
  /** The child's rows as a stage of documents: an append without key. */
  merge: MergePlan;
  stage: string;
  ready: string;
  target: string;
}

/** The tables of a load's children, in the order of the plan. */
export function childTables(parent: MergePlan, tables: LoadTables): ChildTables[] {
  return parent.plan.children.map((child, index) => ({
    child,
    merge: mergePlan(child.plan, "append"),
    stage: childStage(tables, index),
    ready: tables.ready.replace(/"$/, `_c${index}"`),
    target: quoteTable(child.plan.table),
  }));
}

/** Where the rows of a child are staged. */
export function childStage(tables: LoadTables, index: number): string {
  return tables.stage.replace(/"$/, `_c${index}"`);
}

/** A column of the child by which a row is found: one of the parent's key, or the ordinal. */
interface KeyColumn {
  name: string;
  /** Its name in `ready`. */
  slot: string;
  type: string;
  comparedIn: string;
  /** Makes a value of another column comparable with the child's, whatever collation that has. */
  collate: string;
}

function keyColumns({ child }: ChildTables): KeyColumn[] {
  const catalog = new Map(child.plan.table.columns.map((column) => [column.name, column]));
  return [...child.parentKey, child.ordinal].map(({ column, type }, index) => {
    const own = catalog.get(column);
    const isText = /^(?:text|character|citext|bpchar)/.test(own?.baseType ?? "");
    return {
      name: quoteIdentifier(column),
      slot: `k${index}`,
      type,
      comparedIn: own?.comparedIn ?? "pg_catalog",
      collate: isText ? ` COLLATE ${own?.collation ?? 'pg_catalog."default"'}` : "",
    };
  });
}

/** The values of a parent's key, as the child's own columns take them. */
function keyValues(keys: readonly KeyColumn[], parent: MergePlan): string[] {
  return parentSlots(parent).map(({ slot }, index) => {
    const key = keys[index];
    return `(r.${slot}::${key?.type ?? "text"}${key?.collate ?? ""})`;
  });
}

/** Whether a child's row belongs to a parent in `ready`. */
function ofParent(keys: readonly KeyColumn[], parent: MergePlan): string {
  const equal = keyValues(keys, parent).flatMap((value, index) => {
    const key = keys[index];
    return key === undefined ? [] : [compares(key, `t.${key.name}`, "=", value)];
  });
  return equal.join(" AND ");
}

/** Whether a child's row is the one that a row of its own `ready` stands for. */
function sameChild(keys: readonly KeyColumn[]): string {
  return keys.map((key) => compares(key, `c.${key.slot}`, "=", `t.${key.name}`)).join(" AND ");
}

export function createChildReady(names: ChildTables): string {
  const columns = [
    ...keyColumns(names).map(({ slot, type, collate }) => `${slot} ${type}${collate}`),
    ...names.merge.loaded.map(({ slot, targetType, collate }) => `${slot} ${targetType}${collate}`),
    "_part integer, _line bigint, _existing boolean, _same boolean",
  ];
  return `CREATE UNLOGGED TABLE ${names.ready} (${columns.join(", ")})`;
}

/** Slots of the parent's key in the parent's `ready`. */
function parentSlots(parent: MergePlan): { name: string; slot: string; comparedIn: string }[] {
  return parent.plan.key.map((name) => {
    const column = parent.loaded.find((candidate) => candidate.column === name);
    if (column === undefined) throw new Error(`key column ${name} is not loaded`);
    return column;
  });
}

/** Parents in `ready` whose children are brought in: those that are in the target now, and by this load. */
function liveCondition(parent: MergePlan, tables: LoadTables): string {
  const keys = parentSlots(parent).map((key) => compares(key, `p.${key.name}`, "=", `r.${key.slot}`));
  return [
    "NOT r._stale",
    ...(parent.mode === "ignore" ? ["NOT r._existing"] : []),
    `EXISTS (SELECT 1 FROM ${parent.from}${tables.target} AS p WHERE ${keys.join(" AND ")})`,
    `NOT EXISTS (SELECT 1 FROM ${tables.rejects} AS j
       WHERE j.load_id = ${quoteLiteral(tables.loadId)} AND j.part = r._part AND j.line = r._line)`,
  ].join(" AND ");
}

/** A row as one value, for the comparison of images. */
function image(alias: string, columns: readonly string[]): string {
  return `ROW(${columns.map((column) => `${alias}.${column}`).join(", ")})::record`;
}

/** The rows of the document that a loop has in hand. */
function ofDocument(alias: string): string {
  return `${alias}_part = _etl_row._part AND ${alias}_line = _etl_row._line`;
}

/** Brings a child's staged rows beside what the target has under the same parent and ordinal. */
function fillChildReady(names: ChildTables, parent: MergePlan, tables: LoadTables, where: string): string {
  const { child, merge } = names;
  const keys = keyColumns(names);
  const slots = merge.loaded.map(({ slot }) => slot);
  const sources = [...keyValues(keys, parent), `s._seq_no::${child.ordinal.type}`];
  const into = [...keys.map(({ slot }) => slot), ...slots, "_part", "_line", "_existing", "_same"].join(", ");
  const select = (existing: string, same: string) =>
    [...sources, ...slots.map((slot) => `s.${slot}`), "s._part", "s._line", existing, same].join(", ");
  const from = `FROM (${cookedQuery(merge, names.stage)}) AS s
JOIN ${tables.ready} AS r ON r._part = s._part AND r._line = s._line`;
  const condition = `${where} AND ${liveCondition(parent, tables)}`;
  // An append takes nothing for its own that is there already: what collides is refused by the table.
  if (parent.mode === "append") {
    return `INSERT INTO ${names.ready} (${into}) SELECT ${select("false", "false")} ${from} WHERE ${condition}`;
  }
  const same = `t.ctid IS NOT NULL AND ${image(
    "t",
    merge.loaded.map(({ name }) => name),
  )} *= ${image("s", slots)}`;
  const on = keys.map((key, index) => compares(key, `t.${key.name}`, "=", sources[index] ?? "")).join(" AND ");
  return `INSERT INTO ${names.ready} (${into}) SELECT ${select("t.ctid IS NOT NULL", same)} ${from}
LEFT JOIN ${merge.from}${names.target} AS t ON ${on} WHERE ${condition}`;
}

/** Removes rows of live parents that are staged no more, and those that come back in another shape. */
function deleteChildren(names: ChildTables, parent: MergePlan, tables: LoadTables, where: string): string {
  const keys = keyColumns(names);
  return `DELETE FROM ${names.merge.from}${names.target} AS t USING ${tables.ready} AS r
WHERE ${ofParent(keys, parent)} AND ${where} AND ${liveCondition(parent, tables)}
  AND NOT EXISTS (SELECT 1 FROM ${names.ready} AS c WHERE ${sameChild(keys)} AND c._same)`;
}

/** Removes every row whose parent is not staged: what `replace` removes, its children go with. */
export function deleteOrphans(names: ChildTables, parent: MergePlan, tables: LoadTables): string {
  return `DELETE FROM ${names.merge.from}${names.target} AS t
WHERE NOT EXISTS (SELECT 1 FROM ${tables.ready} AS r WHERE ${ofParent(keyColumns(names), parent)})`;
}

function insertChildren(names: ChildTables, where: string): string {
  const keys = keyColumns(names);
  const { loaded, overridesIdentity } = names.merge;
  const overriding = overridesIdentity ? " OVERRIDING SYSTEM VALUE" : "";
  const columns = [...keys.map(({ name }) => name), ...loaded.map(({ name }) => name)];
  const values = [...keys, ...loaded].map(({ slot }) => `c.${slot}`);
  return `INSERT INTO ${names.target} (${columns.join(", ")})${overriding}
SELECT ${values.join(", ")} FROM ${names.ready} AS c WHERE NOT c._same AND ${where}
ORDER BY ${keys.map(({ slot }) => `c.${slot}`).join(", ")}`;
}

/** The steps by which children come in; each is done for all of them before the next begins. */
export const STEPS = ["fill", "delete", "insert"] as const;
export type Step = (typeof STEPS)[number];

/** The statements of one step, for the rows that `where` picks by the alias it is given. */
export function stepStatements(
  step: Step,
  all: readonly ChildTables[],
  parent: MergePlan,
  tables: LoadTables,
  where: (alias: string) => string,
): string[] {
  if (step === "fill") return all.map((names) => fillChildReady(names, parent, tables, where("s.")));
  if (step === "insert") return all.map((names) => insertChildren(names, where("c.")));
  // An append takes nothing away.
  return parent.mode === "append" ? [] : all.map((names) => deleteChildren(names, parent, tables, where("r.")));
}

/** One step for one document after the other, which records the documents whose children the tables refuse. */
export function stepRowByRow(
  step: Step,
  all: readonly ChildTables[],
  parent: MergePlan,
  tables: LoadTables,
  span: Span,
): string {
  const documents = all.map(({ merge: { meta }, stage }) => {
    return `SELECT ${meta.part} AS _part, ${meta.line} AS _line, ${meta.index} AS _index, ${meta.id} AS _id FROM ${stage}
      WHERE ${meta.part} = ${span.part} AND ${meta.line} BETWEEN ${span.from} AND ${span.to}`;
  });
  // Of what an earlier step or the parent's table has refused nothing is tried again.
  const candidates = `SELECT DISTINCT * FROM (${documents.join(" UNION ")}) AS d WHERE NOT EXISTS (
      SELECT 1 FROM ${tables.rejects} AS j
      WHERE j.load_id = ${quoteLiteral(tables.loadId)} AND j.part = d._part AND j.line = d._line)`;
  const statements = stepStatements(step, all, parent, tables, ofDocument);
  const steps = statements.flatMap((statement, index) => [
    `_etl_path := ${quoteLiteral(childPath(all[index]?.child.from ?? "", null))};`,
    `${statement};`,
  ]);
  return doBlock(`#variable_conflict use_column
DECLARE _etl_row record; _etl_state text; _etl_message text; _etl_detail text; _etl_column text; _etl_path text;
BEGIN
  FOR _etl_row IN ${candidates} LOOP
    BEGIN
      ${steps.join("\n      ")}
    EXCEPTION WHEN OTHERS THEN
      GET STACKED DIAGNOSTICS _etl_state = RETURNED_SQLSTATE, _etl_message = MESSAGE_TEXT,
        _etl_detail = PG_EXCEPTION_DETAIL, _etl_column = COLUMN_NAME;
      IF left(_etl_state, 2) NOT IN (${ROW_ERROR_CLASSES.map((start) => `'${start}'`).join(", ")}) THEN RAISE; END IF;
      INSERT INTO ${tables.rejects} (load_id, part, line, document_index, document_id, column_name, reason, message, sqlstate, value)
      VALUES (${quoteLiteral(tables.loadId)}, _etl_row._part, _etl_row._line, _etl_row._index, _etl_row._id,
        _etl_path || coalesce('.' || nullif(_etl_column, ''), ''), ${REASON_SQL}, left(_etl_message, 500), _etl_state,
        nullif(left(_etl_detail, 200), ''));
    END;
  END LOOP;
END`);
}

/** Deletes staged rows of documents that a replay leaves alone. */
export function forgetChildren({ merge, stage }: ChildTables, tables: LoadTables, replayOf: string): string {
  return `DELETE FROM ${stage} WHERE NOT ${isRejectOf(tables, replayOf, merge.meta.part ?? "", merge.meta.line ?? "")}`;
}

/** How many staged rows there are, how many of them go with rejected documents, and how many reached `ready`. */
export function countChildren({ merge, stage, ready }: ChildTables, tables: LoadTables): string {
  return `SELECT count(*), count(*) FILTER (WHERE EXISTS (SELECT 1 FROM ${tables.rejects} AS j
    WHERE j.load_id = ${quoteLiteral(tables.loadId)} AND j.part = s.${merge.meta.part} AND j.line = s.${merge.meta.line})),
  (SELECT count(*) FROM ${ready}), (SELECT count(*) FROM ${ready} WHERE _same),
  (SELECT count(*) FROM ${ready} WHERE _existing AND NOT _same) FROM ${stage} AS s`;
}

/** Rows of live parents that no staged row stands for. */
export function countExtra(names: ChildTables, parent: MergePlan, tables: LoadTables): string {
  const keys = keyColumns(names);
  return `SELECT count(*) FROM ${names.merge.from}${names.target} AS t JOIN ${tables.ready} AS r ON ${ofParent(keys, parent)}
WHERE ${liveCondition(parent, tables)} AND NOT EXISTS (SELECT 1 FROM ${names.ready} AS c WHERE ${sameChild(keys)})`;
}
