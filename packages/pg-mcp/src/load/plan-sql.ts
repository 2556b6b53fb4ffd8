import { type LoadPlan, type PlannedColumn, type StageMeta, stageColumns } from "../mapping/plan.ts";
import type { Table } from "../postgres/catalog.ts";
import { quoteIdentifier, quoteLiteral, quoteTable } from "../postgres/identifiers.ts";
import { ROW_ERROR_CLASSES } from "./database-error.ts";

export type LoadMode = "upsert" | "append" | "ignore" | "replace";

/**
 * A load's tables. `stage` holds the documents as they were copied, `cooked` what expressions and casts made of them,
 * `ready` the winners of each key with what the target already has. All are unlogged: a crash empties the stage, and
 * the ledger shows it.
 */
export interface LoadTables {
  stage: string;
  cooked: string;
  ready: string;
  rejects: string;
  /** Where the rejects of a replayed load are. */
  replayed: string;
  target: string;
  loadId: string;
}

/** The quoted names of a load's tables in the state schema. */
export function loadTables(stateSchema: string, loadId: string, table: Table): LoadTables {
  const name = (kind: string) => `${quoteIdentifier(stateSchema)}.${quoteIdentifier(`${kind}_${loadId}`)}`;
  return {
    stage: name("stage"),
    cooked: name("cooked"),
    ready: name("ready"),
    rejects: `${quoteIdentifier(stateSchema)}.rejects`,
    replayed: `${quoteIdentifier(stateSchema)}.rejects`,
    target: quoteTable(table),
    loadId,
  };
}

/** The tables of one part that has a transaction of its own, beside those of other parts. */
export function partTables(tables: LoadTables, part: number): LoadTables {
  const name = (table: string) => table.replace(/"$/, `_p${part}"`);
  return { ...tables, stage: name(tables.stage), cooked: name(tables.cooked), ready: name(tables.ready) };
}

/** A column that reaches the target, with its place in `cooked` and `ready`. */
export interface LoadedColumn extends PlannedColumn {
  /** Quoted name in the target. */
  name: string;
  /** Name in `cooked` and `ready`: by position, so that no target column can collide with the load's own. */
  slot: string;
  /** The target's default as SQL. */
  defaultSql: string;
  /** ` COLLATE …` where the target's column has one of its own, so that the load tells keys apart as its index does. */
  collate: string;
  /** Schema of the operators that compare values of the column. */
  comparedIn: string;
}

/** Everything that the statements of one load are made of. */
export interface MergePlan {
  plan: LoadPlan;
  mode: LoadMode;
  loaded: LoadedColumn[];
  /** Slots of the key's columns, in the key's order; empty where the mode needs none. */
  key: LoadedColumn[];
  /** The column that guards an update: stored in the target, so that an older document cannot overwrite it. */
  guard: LoadedColumn | null;
  partitioned: boolean;
  /** Whether something of the target's own may swallow or change a row. */
  triggered: boolean;
  overridesIdentity: boolean;
  meta: Partial<Record<StageMeta, string>>;
  /** `ONLY` for a plain table, so that rows of inheriting tables count for nothing. */
  from: string;
}

/**
 * Whether a COPY into the target itself gives the rows that the stage and its casts would give: every column holds what
 * the encoder has held to its type, and nothing of the target's own looks at rows.
 */
export function takesRowsAsTheyAre(merge: MergePlan): boolean {
  const { plan, meta } = merge;
  return (
    !merge.triggered &&
    !merge.overridesIdentity &&
    !plan.table.rowSecurity &&
    meta.keep === undefined &&
    meta.default === undefined &&
    plan.columns.every(
      ({ load, staged, expression, valueType }) =>
        load && staged && expression === undefined && valueType.kind !== "other",
    )
  );
}

/** Decides what the statements of a load are made of. */
export function mergePlan(plan: LoadPlan, mode: LoadMode): MergePlan {
  const catalog = new Map(plan.table.columns.map((column) => [column.name, column]));
  const loaded = plan.columns
    .filter((column) => column.load)
    .map((column, index) => ({
      ...column,
      name: quoteIdentifier(column.column),
      slot: `c${index}`,
      defaultSql: castTo(catalog.get(column.column)?.default ?? "NULL", column.targetType),
      collate: collateOf(catalog.get(column.column)?.collation),
      comparedIn: catalog.get(column.column)?.comparedIn ?? "pg_catalog",
    }));
  const key =
    mode === "append"
      ? []
      : plan.key.map((name) => {
          const column = loaded.find((candidate) => candidate.column === name);
          if (column === undefined) throw new Error(`key column ${name} is not loaded`);
          return column;
        });
  const stored = loaded.find((column) => column.column === plan.versionFrom);
  const meta: Partial<Record<StageMeta, string>> = {};
  for (const column of stageColumns(plan)) {
    if (column.meta !== null) meta[column.meta] = quoteIdentifier(column.name);
  }
  const partitioned = plan.table.kind === "partitioned";
  return {
    plan,
    mode,
    loaded,
    key,
    guard: mode === "upsert" && stored !== undefined && !key.includes(stored) ? stored : null,
    partitioned,
    triggered: plan.table.triggers.length > 0 || plan.table.rules.length > 0,
    overridesIdentity: loaded.some((column) => catalog.get(column.column)?.identity === "always"),
    meta,
    from: partitioned ? "" : "ONLY ",
  };
}

function collateOf(collation: string | null | undefined): string {
  return collation === null || collation === undefined ? "" : ` COLLATE ${collation}`;
}

/** A comparison by the column type's own operator, whatever the search path holds. */
export function compares(column: { comparedIn: string }, left: string, operator: "=" | "<" | ">=", right: string) {
  return `${left} OPERATOR(${column.comparedIn}.${operator}) ${right}`;
}

/** Whether two rows have the same key, by the names that each side gives to the key's columns. */
export function sameKey(merge: MergePlan, left: "t" | "m", right: "w" | "r" | "s"): string {
  return merge.key
    .map((column, index) =>
      compares(column, left === "t" ? `t.${column.name}` : `m.k${index}`, "=", `${right}.${column.slot}`),
    )
    .join(" AND ");
}

/** Types whose modifier cuts silently in an explicit cast; an assignment judges it instead. */
const CUTTING = /^(character varying|bit varying)\(\d+\)/;
const PADDED = /^character\((\d+)\)$/;
const BIT = /^bit\((\d+)\)$/;

/**
 * The value as the target's type. What an explicit cast would cut without a word keeps its length, so that the
 * assignment to the real column raises 22001.
 */
export function castTo(value: string, type: string): string {
  const padded = PADDED.exec(type);
  if (padded !== null) {
    const text = `(${value})::pg_catalog.text`;
    return `CASE WHEN length(rtrim(${text}, ' ')) <= ${padded[1]} THEN ${text}::${type} ELSE ${text}::pg_catalog.bpchar END`;
  }
  const bits = BIT.exec(type);
  if (bits !== null) {
    const varying = `(${value})::bit varying`;
    return `CASE WHEN length(${varying}) = ${bits[1]} THEN ${varying}::${type} ELSE ${varying}::pg_catalog."bit" END`;
  }
  if (/^character\(\d+\)\[\]$/.test(type)) return `(${value})::pg_catalog.bpchar[]`;
  return `(${value})::${CUTTING.test(type) ? type.replace(/\(\d+\)/, "") : type}`;
}

/** Names of the stage's own columns for part and line, quoted. */
export function metaNames(plan: LoadPlan): { part: string; line: string } {
  const name = (meta: StageMeta) =>
    quoteIdentifier(stageColumns(plan).find((column) => column.meta === meta)?.name ?? "");
  return { part: name("part"), line: name("line") };
}

/** The stage's table, column by column. A copied row's values are judged later, so nothing here is NOT NULL. */
export function createStage(plan: LoadPlan, stage: string): string {
  const columns = stageColumns(plan).map(({ name, type }) => `${quoteIdentifier(name)} ${type}`);
  return `CREATE UNLOGGED TABLE IF NOT EXISTS ${stage} (${columns.join(", ")})`;
}

/** The same columns as text, for the part that the typed stage refused. */
export function createTextStage(plan: LoadPlan, name: string): string {
  const columns = stageColumns(plan).map((column) => `${quoteIdentifier(column.name)} pg_catalog.text`);
  return `CREATE UNLOGGED TABLE ${name} (${columns.join(", ")})`;
}

export function copyStatement(table: string, columns: readonly string[]): string {
  return `COPY ${table} (${columns.map(quoteIdentifier).join(", ")}) FROM STDIN`;
}

/** Moves rows of the text stage to the typed one. */
export function moveTextRows(plan: LoadPlan, text: string, stage: string, where: string): string {
  const columns = stageColumns(plan);
  const names = columns.map(({ name }) => quoteIdentifier(name));
  const values = columns.map(({ name, type }) => `${quoteIdentifier(name)}::${type}`);
  return `INSERT INTO ${stage} (${names.join(", ")}) SELECT ${values.join(", ")} FROM ${text} WHERE ${where}`;
}

/** Tells the planner how large the stage is and what its key looks like; the other columns are joined by nothing. */
export function analyzeStage(merge: MergePlan, tables: LoadTables): string {
  const staged = merge.key.filter((column) => column.staged && column.expression === undefined);
  const columns = staged.length === 0 ? [merge.meta.part ?? ""] : staged.map(({ name }) => name);
  return `ANALYZE ${tables.stage} (${columns.join(", ")})`;
}

/**
 * Counts the stage's rows, and for each of the given key columns those in which it is not the document's `_id`. Of an
 * `_id` beyond ASCII that is not asked: in the stage U+FFFD stands for what PostgreSQL cannot hold, and makes one of two.
 */
export function countStage(merge: MergePlan, tables: LoadTables, ids: readonly LoadedColumn[]): string {
  const id = `${merge.meta.id} COLLATE "C"`;
  const others = ids.map(
    ({ name }) =>
      `count(*) FILTER (WHERE ${name}::text COLLATE "C" IS DISTINCT FROM ${id} OR octet_length(${merge.meta.id}) <> length(${merge.meta.id}))`,
  );
  return `SELECT ${["count(*)", ...others].join(", ")} FROM ${tables.stage}`;
}

/** Targets to which a cast rounds a number without a word. */
const ROUNDING = /^(?:smallint|integer|bigint|numeric\(\d+,-?\d+\))$/;

/** Columns whose expression may give digits that the target's type rounds away; the encoder has seen to all others. */
export function roundingColumns(merge: MergePlan): LoadedColumn[] {
  return merge.loaded.filter(({ expression, targetType }) => expression !== undefined && ROUNDING.test(targetType));
}

/** SQL of whether the column's type rounds what its expression gives. */
function isRounded({ expression = "", targetType }: LoadedColumn): string {
  const given = `(${expression}\n)::pg_catalog."numeric"`;
  const kept = `(${castTo(`${expression}\n`, targetType)})::pg_catalog."numeric"`;
  return `${given} <> ${kept}`;
}

/** Counts the rows in which the type of each of the columns rounds what the expression gives. */
export function countRounded(tables: LoadTables, columns: readonly LoadedColumn[], where: string): string {
  const counts = columns.map((column) => `count(*) FILTER (WHERE ${isRounded(column)})`);
  return `SELECT ${counts.join(", ")} FROM ${tables.stage} WHERE ${where}`;
}

/** The same row by row, leaving out values that cannot be had; the counts are left in a setting. */
export function countRoundedRowByRow(tables: LoadTables, columns: readonly LoadedColumn[], where: string): string {
  const steps = columns.map(
    (column, index) => `BEGIN
      SELECT ${isRounded(column)} INTO _etl_is FROM ${tables.stage} WHERE ctid = _etl_row._etl_ctid;
      IF _etl_is THEN _etl_n${index} := _etl_n${index} + 1; END IF;
    EXCEPTION WHEN OTHERS THEN
      IF left(SQLSTATE, 2) NOT IN (${ROW_ERROR_LIST}) THEN RAISE; END IF;
    END;`,
  );
  return doBlock(`#variable_conflict use_column
DECLARE _etl_row record; _etl_is boolean; ${columns.map((_, index) => `_etl_n${index} bigint := 0;`).join(" ")}
BEGIN
  FOR _etl_row IN SELECT ctid AS _etl_ctid FROM ${tables.stage} WHERE ${where} LOOP
    ${steps.join("\n    ")}
  END LOOP;
  PERFORM set_config('${OUTCOME_SETTING}', concat_ws(' ', ${columns.map((_, index) => `_etl_n${index}`).join(", ")}), true);
END`);
}

/** The winner of a key: greatest version, then `_seq_no`, then (`_index`, `_id`), then the later document. */
function winnerOrder(hasVersion: boolean): string[] {
  return [
    ...(hasVersion ? ["_version DESC NULLS LAST"] : []),
    "_seq_no DESC NULLS LAST",
    '_index COLLATE "C" DESC NULLS LAST',
    '_id COLLATE "C" DESC NULLS LAST',
    "_part DESC",
    "_line DESC",
  ];
}

function metaOf(merge: MergePlan, meta: StageMeta): string {
  return merge.meta[meta] ?? "NULL";
}

/** SQL of the value that a stage row gives to a column, before keep and merge. */
function cookedValue(merge: MergePlan, column: LoadedColumn): string {
  const value = column.expression === undefined ? column.name : `${column.expression}\n`;
  const cast = castTo(value, column.targetType);
  const defaults = merge.meta.default;
  const chosen =
    defaults === undefined
      ? cast
      : `CASE WHEN ${quoteLiteral(column.column)} = ANY (${defaults}) THEN ${column.defaultSql} ELSE ${cast} END`;
  return column.collate === "" ? chosen : `(${chosen})${column.collate}`;
}

/** The version's SQL over the stage and its type; undefined where nothing but the order tells documents apart. */
function version(merge: MergePlan): { value: string; type: string } | undefined {
  const { versionFrom } = merge.plan;
  if (versionFrom === null || versionFrom === "_seq_no") return undefined;
  const loaded = merge.loaded.find((column) => column.column === versionFrom);
  if (loaded !== undefined) return { value: cookedValue(merge, loaded), type: loaded.targetType };
  const staged = merge.plan.columns.find((column) => column.column === versionFrom && column.staged);
  return staged === undefined ? undefined : { value: quoteIdentifier(staged.column), type: staged.stageType };
}

const META_NAMES = ["_part", "_line", "_index", "_id", "_seq_no"] as const;
const META_TYPES = "_part integer, _line bigint, _index text, _id text, _seq_no bigint";

/** Columns of `cooked`, with the type of each. */
function cookedColumns(merge: MergePlan): string[] {
  const versioned = version(merge);
  return [
    ...merge.loaded.map((column) => `${column.slot} ${column.targetType}${column.collate}`),
    META_TYPES,
    ...(versioned === undefined ? [] : [`_version ${versioned.type}`]),
    ...(merge.meta.keep === undefined ? [] : ["_keep text[]"]),
  ];
}

function cookedNames(merge: MergePlan): string[] {
  return [
    ...merge.loaded.map((column) => column.slot),
    ...META_NAMES,
    ...(version(merge) === undefined ? [] : ["_version"]),
    ...(merge.meta.keep === undefined ? [] : ["_keep"]),
  ];
}

export function createCooked(merge: MergePlan, cooked: string): string {
  return `CREATE UNLOGGED TABLE ${cooked} (${cookedColumns(merge).join(", ")})`;
}

/** Expressions and casts over the stage, as a query that gives the columns of `cooked`. */
export function cookedQuery(merge: MergePlan, stage: string, where = "TRUE"): string {
  const versioned = version(merge);
  const columns = [
    ...merge.loaded.map((column) => `${cookedValue(merge, column)} AS ${column.slot}`),
    `${metaOf(merge, "part")} AS _part`,
    `${metaOf(merge, "line")} AS _line`,
    `${metaOf(merge, "index")} AS _index`,
    `${metaOf(merge, "id")} AS _id`,
    `${metaOf(merge, "seqNo")} AS _seq_no`,
    ...(versioned === undefined ? [] : [`${versioned.value} AS _version`]),
    ...(merge.meta.keep === undefined ? [] : [`${merge.meta.keep} AS _keep`]),
  ];
  return `SELECT ${columns.join(",\n  ")}\nFROM ${stage} WHERE ${where}`;
}

export function cookRows(merge: MergePlan, tables: LoadTables, where: string): string {
  return `INSERT INTO ${tables.cooked} (${cookedNames(merge).join(", ")})\n${cookedQuery(merge, tables.stage, where)}`;
}

/** Columns in which null can only end in a failure, with the word for it. Triggers may still fill a column. */
function requiredColumns(merge: MergePlan): { column: LoadedColumn; reason: string }[] {
  const catalog = new Map(merge.plan.table.columns.map((column) => [column.name, column]));
  return merge.loaded.flatMap((column) => {
    // The encoder has refused null already where nothing behind it can make one.
    if (column.notNull && column.onMissing === "null" && column.onError !== "default") return [];
    if (merge.key.includes(column)) return [{ column, reason: "null_key" }];
    const required = catalog.get(column.column)?.notNull === true && column.onMissing !== "keep" && !merge.triggered;
    return required ? [{ column, reason: "null_not_allowed" }] : [];
  });
}

/** Records the documents whose required columns are null. */
export function rejectNulls(merge: MergePlan, tables: LoadTables, source: string): string | undefined {
  const required = requiredColumns(merge);
  if (required.length === 0) return undefined;
  const pick = (text: (entry: { column: LoadedColumn; reason: string }) => string) =>
    `CASE ${required.map((entry) => `WHEN ${entry.column.slot} IS NULL THEN ${quoteLiteral(text(entry))}`).join(" ")} END`;
  return `INSERT INTO ${tables.rejects}
  (load_id, part, line, document_index, document_id, column_name, reason, message, sqlstate)
SELECT ${quoteLiteral(tables.loadId)}, _part, _line, _index, _id,
  ${pick(({ column }) => column.column)},
  ${pick(({ reason }) => reason)},
  ${pick(({ reason }) => (reason === "null_key" ? "A column of the key is null." : "The column does not take null."))},
  '23502'
FROM (${source}) AS s
WHERE ${required.map(({ column }) => `${column.slot} IS NULL`).join(" OR ")}`;
}

/**
 * Whether the values of the stage, cast, are those of the columns of `ready`: nothing is left for an assignment to
 * refuse, because the encoder has held all lengths that a cast would cut.
 */
export function castsSayAll(merge: MergePlan): boolean {
  return merge.loaded.every(
    ({ expression, valueType, targetType }) =>
      (expression === undefined && valueType.kind === "text") ||
      !(CUTTING.test(targetType) || PADDED.test(targetType) || BIT.test(targetType)),
  );
}

export function createReady(merge: MergePlan, ready: string): string {
  const columns = merge.loaded.map((column) => `${column.slot} ${column.targetType}${column.collate}`);
  return `CREATE UNLOGGED TABLE ${ready} (${columns.join(", ")}, ${META_TYPES}, _existing boolean, _same boolean, _stale boolean)`;
}

/**
 * The rows of `ready`: of each key the winning document, beside what the target has under that key. Rows whose image
 * equals the stored one need no write; `*=` compares images, because `=` calls 1.0 and 1.00, or two boxes of one area,
 * equal.
 */
function readyQuery(
  merge: MergePlan,
  tables: LoadTables,
  source: string,
  { hasDuplicates, keepsSame }: { hasDuplicates: boolean; keepsSame: boolean },
): string {
  const required = requiredColumns(merge).map(({ column }) => `s.${column.slot} IS NOT NULL`);
  const notNull = required.length === 0 ? "TRUE" : required.join(" AND ");
  const select = (values: string[], existing: string, same: string, stale: string) =>
    [
      ...merge.loaded.map((column, index) => `${values[index]} AS ${column.slot}`),
      ...META_NAMES.map((name) => `w.${name}`),
      `${existing} AS _existing`,
      `${same} AS _same`,
      `${stale} AS _stale`,
    ].join(", ");
  if (merge.key.length === 0) {
    const values = merge.loaded.map((column) => keptValue(merge, column, "false", column.defaultSql));
    return `SELECT ${select(values, "false", "false", "false")}
FROM (SELECT * FROM (${source}) AS s WHERE ${notNull}) AS w`;
  }
  const keys = merge.key.map((column) => column.slot);
  const [first] = merge.key;
  if (first === undefined) throw new Error("a key has at least one column");
  const existing = `t.${first.name} IS NOT NULL`;
  const values = merge.loaded.map((column) => keptValue(merge, column, existing, `t.${column.name}`));
  // The key's columns are equal by their own comparison, and no update writes them: "AA" may stay stored as "aa".
  const rest = merge.loaded
    .map((column, index) => ({ column, value: values[index] }))
    .filter(({ column }) => !merge.key.includes(column));
  const same =
    rest.length === 0
      ? existing
      : `${existing} AND ROW(${rest.map(({ column }) => `t.${column.name}`).join(", ")})::record *= ROW(${rest.map(({ value }) => value).join(", ")})::record`;
  const { guard } = merge;
  const stale =
    guard === null
      ? "false"
      : `${existing} AND t.${guard.name} IS NOT NULL AND (w.${guard.slot} IS NULL OR ${compares(guard, `w.${guard.slot}`, "<", `t.${guard.name}`)})`;
  return `SELECT ${select(values, existing, same, stale)}
FROM (
  SELECT ${hasDuplicates ? `DISTINCT ON (${keys.join(", ")})` : ""} *
  FROM (${source}) AS s
  WHERE ${notNull}
  ${hasDuplicates ? `ORDER BY ${[...keys, ...winnerOrder(version(merge) !== undefined)].join(", ")}` : ""}
) AS w
LEFT JOIN ${merge.from}${tables.target} AS t ON ${sameKey(merge, "t", "w")}${keepsSame ? "" : `\nWHERE (${same}) IS NOT TRUE`}`;
}

type FillOptions = Parameters<typeof readyQuery>[3];

/** Fills `ready`, which judges values as it takes them. */
export function fillReady(merge: MergePlan, tables: LoadTables, source: string, options: FillOptions): string {
  const into = [...merge.loaded.map((column) => column.slot), ...META_NAMES, "_existing", "_same", "_stale"].join(", ");
  return `INSERT INTO ${tables.ready} (${into})\n${readyQuery(merge, tables, source, options)}`;
}

/** Creates and fills `ready` in one statement, whose query several processes of the server may share; an INSERT's not. */
export function fillNewReady(merge: MergePlan, tables: LoadTables, source: string, options: FillOptions): string {
  return `CREATE UNLOGGED TABLE ${tables.ready} AS\n${readyQuery(merge, tables, source, options)}`;
}

/** `on_missing: "keep"`: what the target has stays; a new row takes the default. */
function keptValue(merge: MergePlan, column: LoadedColumn, existing: string, stored: string): string {
  const value = `w.${column.slot}`;
  if (merge.meta.keep === undefined || column.onMissing !== "keep") return value;
  return `CASE WHEN ${quoteLiteral(column.column)} = ANY (w._keep) THEN CASE WHEN ${existing} THEN ${stored} ELSE ${column.defaultSql} END ELSE ${value} END`;
}

/** Which rows of `ready` the merge writes. */
export function fedCondition(merge: MergePlan): string {
  return `NOT _same AND NOT _stale${merge.mode === "ignore" ? " AND NOT _existing" : ""}`;
}

/** The INSERT of the merge, without what it returns. Ordered by key, so that two writers meet no deadlock. */
function insertRows(merge: MergePlan, tables: LoadTables, where: string): string {
  const order = merge.key.length === 0 ? "_part, _line" : merge.key.map((column) => column.slot).join(", ");
  const overriding = merge.overridesIdentity ? " OVERRIDING SYSTEM VALUE" : "";
  return `INSERT INTO ${tables.target} AS t (${merge.loaded.map((column) => column.name).join(", ")})${overriding}
SELECT ${merge.loaded.map((column) => column.slot).join(", ")} FROM ${tables.ready} WHERE ${where} ORDER BY ${order}${onConflict(merge)}`;
}

/** What an update of a stored row writes; nothing where the key is all that is loaded. */
export function updatedColumns(merge: MergePlan): LoadedColumn[] {
  const always = new Set(
    merge.plan.table.columns.filter((column) => column.identity === "always").map((column) => column.name),
  );
  return merge.loaded.filter((column) => !merge.key.includes(column) && !always.has(column.column));
}

function onConflict(merge: MergePlan): string {
  if (merge.key.length === 0) return "";
  const arbiter = `\nON CONFLICT (${merge.key.map((column) => column.name).join(", ")})`;
  const updated = updatedColumns(merge);
  if (merge.mode === "ignore" || updated.length === 0) return `${arbiter} DO NOTHING`;
  const { guard } = merge;
  const condition =
    guard === null
      ? ""
      : ` WHERE t.${guard.name} IS NULL OR ${compares(guard, `EXCLUDED.${guard.name}`, ">=", `t.${guard.name}`)}`;
  return `${arbiter} DO UPDATE SET ${updated.map((column) => `${column.name} = EXCLUDED.${column.name}`).join(", ")}${condition}`;
}

/**
 * Merges rows of `ready` and answers how many were inserted and updated, and if asked for a table without key, the
 * rows as they were stored, because nothing finds them again.
 */
export function mergeRows(merge: MergePlan, tables: LoadTables, where: string, wantsStored = false): string {
  if (merge.key.length === 0) {
    return `WITH merged AS (
${insertRows(merge, tables, where)}
RETURNING ${wantsStored ? storedRow(merge) : "1"} AS stored)
SELECT count(*), 0, ${wantsStored ? "json_agg(stored)::text" : "NULL"} FROM merged`;
  }
  if (!merge.partitioned) {
    return `WITH merged AS (
${insertRows(merge, tables, where)}
RETURNING t.xmax = 0 AS inserted)
SELECT count(*) FILTER (WHERE inserted), count(*) FILTER (WHERE NOT inserted) FROM merged`;
  }
  // A partitioned table shows no xmax to RETURNING: what was there before tells the two apart.
  return `WITH merged AS (
${insertRows(merge, tables, where)}
RETURNING ${merge.key.map((column, index) => `t.${column.name} AS k${index}`).join(", ")})
SELECT count(*) FILTER (WHERE NOT r._existing), count(*) FILTER (WHERE r._existing)
FROM merged AS m JOIN ${tables.ready} AS r ON ${sameKey(merge, "m", "r")}`;
}

/** Whether a key comes twice; a hash over the keys alone, which costs far less than sorting whole rows. */
export function findDuplicate(merge: MergePlan, source: string): string {
  const keys = merge.key.map((column) => column.slot).join(", ");
  return `SELECT EXISTS (SELECT 1 FROM (${source}) AS s GROUP BY ${keys} HAVING count(*) > 1)`;
}

/** Takes rows that are just what the stage says out of the target. */
export function deleteStaged(merge: MergePlan, tables: LoadTables): string {
  const image = (side: (column: LoadedColumn) => string) => `ROW(${merge.loaded.map(side).join(", ")})::record`;
  return `DELETE FROM ${merge.from}${tables.target} AS t USING (${cookedQuery(merge, tables.stage)}) AS s
WHERE ${sameKey(merge, "t", "s")} AND ${image((column) => `t.${column.name}`)} *= ${image((column) => `s.${column.slot}`)}`;
}

/** The whole stage into a target that has none of its keys. */
export function insertStage(merge: MergePlan, tables: LoadTables): string {
  const overriding = merge.overridesIdentity ? " OVERRIDING SYSTEM VALUE" : "";
  return `INSERT INTO ${tables.target} (${merge.loaded.map((column) => column.name).join(", ")})${overriding}
SELECT ${merge.loaded.map((column) => column.slot).join(", ")} FROM (${cookedQuery(merge, tables.stage)}) AS s`;
}

/** The setting in which a DO block leaves its counts, as it cannot return them. */
export const OUTCOME_SETTING = "data_transformer.outcome";

/** SQLSTATE -> the word by which rejects are counted. */
const REASONS: readonly (readonly [string, string])[] = [
  ["23505", "unique_violation"],
  ["23503", "foreign_key_violation"],
  ["23514", "check_violation"],
  ["23502", "null_not_allowed"],
  ["23P01", "exclusion_violation"],
  ["22001", "too_long"],
  ["22003", "out_of_range"],
  ["22012", "division_by_zero"],
  ["22007", "invalid_datetime"],
  ["22008", "invalid_datetime"],
  ["22P02", "invalid_text"],
  ["22021", "invalid_encoding"],
  ["P0001", "raised_by_trigger"],
  ["44000", "check_option_violation"],
];

/** The word for a SQLSTATE, or `database_error`. */
export function reasonOf(sqlstate: string): string {
  return REASONS.find(([state]) => state === sqlstate)?.[1] ?? "database_error";
}

/** The word for the SQLSTATE in the variable `_etl_state`. */
export const REASON_SQL = `CASE _etl_state ${REASONS.map(([state, word]) => `WHEN '${state}' THEN '${word}'`).join(" ")} ELSE 'database_error' END`;

/** The classes of SQLSTATE that one row's values can cause, for an `IN`. */
const ROW_ERROR_LIST = ROW_ERROR_CLASSES.map((start) => `'${start}'`).join(", ");

const DECLARATIONS = `_etl_row record; _etl_state text; _etl_message text; _etl_detail text; _etl_column text; _etl_step text;`;

/** Catches what one row's values caused and records it; everything else goes on being an error. */
function recordReject(loadId: string, rejects: string, row: { part: string; line: string; index: string; id: string }) {
  return `EXCEPTION WHEN OTHERS THEN
      GET STACKED DIAGNOSTICS _etl_state = RETURNED_SQLSTATE, _etl_message = MESSAGE_TEXT,
        _etl_detail = PG_EXCEPTION_DETAIL, _etl_column = COLUMN_NAME;
      IF left(_etl_state, 2) NOT IN (${ROW_ERROR_LIST}) THEN RAISE; END IF;
      INSERT INTO ${rejects} (load_id, part, line, document_index, document_id, column_name, reason, message, sqlstate, value)
      VALUES (${quoteLiteral(loadId)}, ${row.part}, ${row.line}, ${row.index}, ${row.id},
        coalesce(_etl_step, nullif(_etl_column, '')), ${REASON_SQL}, left(_etl_message, 500), _etl_state,
        nullif(left(_etl_detail, 200), ''));`;
}

const RECORD_FIELDS = { part: "_etl_row._part", line: "_etl_row._line", index: "_etl_row._index", id: "_etl_row._id" };

/** A DO block around a body; the tag is one that the body does not hold. */
export function doBlock(body: string): string {
  let tag = "$etl$";
  for (let n = 0; body.includes(tag); n++) tag = `$etl${n}$`;
  return `DO ${tag}\n${body}\n${tag}`;
}

/**
 * One row after the other: each column is evaluated alone, so that the reject names the column that failed; columns
 * with a policy for errors take it.
 */
export function cookRowByRow(merge: MergePlan, tables: LoadTables, where: string): string {
  const from = `FROM ${tables.stage} WHERE ctid = _etl_row._etl_ctid`;
  const variables = merge.loaded.map((column, index) => `_etl_v${index} ${column.targetType};`);
  const versioned = version(merge);
  const steps = merge.loaded.map((column, index) => {
    const assign = `SELECT ${cookedValue(merge, column)} INTO _etl_v${index} ${from};`;
    const step = `_etl_step := ${quoteLiteral(column.column)};`;
    if (column.onError === "reject") return `${step} ${assign}`;
    const other = column.onError === "null" ? "NULL" : column.defaultSql;
    return `${step} BEGIN ${assign} EXCEPTION WHEN data_exception OR integrity_constraint_violation THEN _etl_v${index} := ${other}; END;`;
  });
  const values = [
    ...merge.loaded.map((_, index) => `_etl_v${index}`),
    "_etl_row._part",
    "_etl_row._line",
    "_etl_row._index",
    "_etl_row._id",
    "_etl_row._seq_no",
    ...(versioned === undefined ? [] : [versionOfRow(merge, from)]),
    ...(merge.meta.keep === undefined ? [] : ["_etl_row._keep"]),
  ];
  const rows = `SELECT ctid AS _etl_ctid, ${metaOf(merge, "part")} AS _part, ${metaOf(merge, "line")} AS _line,
    ${metaOf(merge, "index")} AS _index, ${metaOf(merge, "id")} AS _id, ${metaOf(merge, "seqNo")} AS _seq_no${merge.meta.keep === undefined ? "" : `, ${merge.meta.keep} AS _keep`}
    FROM ${tables.stage} WHERE ${where}`;
  return doBlock(`#variable_conflict use_column
DECLARE ${DECLARATIONS} ${variables.join(" ")}
BEGIN
  FOR _etl_row IN ${rows} LOOP
    BEGIN
      ${steps.join("\n      ")}
      _etl_step := NULL;
      INSERT INTO ${tables.cooked} (${cookedNames(merge).join(", ")}) VALUES (${values.join(", ")});
    ${recordReject(tables.loadId, tables.rejects, RECORD_FIELDS)}
    END;
  END LOOP;
END`);
}

/** The version of the row in hand: a loaded column's variable, or the staged value. */
function versionOfRow(merge: MergePlan, from: string): string {
  const index = merge.loaded.findIndex((column) => column.column === merge.plan.versionFrom);
  if (index >= 0) return `_etl_v${index}`;
  return `(SELECT ${quoteIdentifier(merge.plan.versionFrom ?? "")} ${from})`;
}

/** A column of the row in hand. */
function fieldOfRow(name: string): string {
  return `_etl_row.${quoteIdentifier(name)}`;
}

/** Rows of the text stage one after the other; the reject names the column that does not read as its type. */
export function moveTextRowByRow(plan: LoadPlan, text: string, tables: LoadTables, where: string): string {
  const columns = stageColumns(plan);
  const planned = new Map(plan.columns.map((column) => [column.column, column]));
  const variables = columns.map((column, index) => `_etl_v${index} ${column.type};`);
  const steps = columns.map((column, index) => {
    const assign = `_etl_v${index} := ${fieldOfRow(column.name)}::${column.type};`;
    if (column.meta !== null) return assign;
    const step = `_etl_step := ${quoteLiteral(column.name)};`;
    if (planned.get(column.name)?.onError !== "null") return `${step} ${assign}`;
    return `${step} BEGIN ${assign} EXCEPTION WHEN data_exception THEN _etl_v${index} := NULL; END;`;
  });
  const meta = (kind: StageMeta) => fieldOfRow(columns.find((column) => column.meta === kind)?.name ?? "");
  const fields = {
    part: `${meta("part")}::integer`,
    line: `${meta("line")}::bigint`,
    index: meta("index"),
    id: meta("id"),
  };
  return doBlock(`#variable_conflict use_column
DECLARE ${DECLARATIONS} ${variables.join(" ")}
BEGIN
  FOR _etl_row IN SELECT * FROM ${text} WHERE ${where} LOOP
    BEGIN
      ${steps.join("\n      ")}
      _etl_step := NULL;
      INSERT INTO ${tables.stage} (${columns.map(({ name }) => quoteIdentifier(name)).join(", ")})
      VALUES (${columns.map((_, index) => `_etl_v${index}`).join(", ")});
    ${recordReject(tables.loadId, tables.rejects, fields)}
    END;
  END LOOP;
END`);
}

/** Merges row by row; what the target's constraints and triggers refuse is recorded, the counts are left in a setting. */
export function mergeRowByRow(merge: MergePlan, tables: LoadTables, where: string): string {
  return mergeLoop(
    merge,
    tables,
    `SELECT ctid AS _etl_ctid, _part, _line, _index, _id, _existing FROM ${tables.ready} WHERE ${where}
     ORDER BY ${merge.key.length === 0 ? "_part, _line" : merge.key.map((column) => column.slot).join(", ")}`,
    { before: "", refused: recordReject(tables.loadId, tables.rejects, RECORD_FIELDS) },
  );
}

/** Tries again the documents that a foreign key kept out: their parents may have come later. */
export function retryForeignKeys(merge: MergePlan, tables: LoadTables, order: "ASC" | "DESC"): string {
  const loadId = quoteLiteral(tables.loadId);
  return mergeLoop(
    merge,
    tables,
    `SELECT r.ctid AS _etl_ctid, r._part, r._line, r._index, r._id, r._existing
     FROM ${tables.ready} AS r JOIN ${tables.rejects} AS j ON j.part = r._part AND j.line = r._line
     WHERE j.load_id = ${loadId} AND j.sqlstate = '23503'
     ORDER BY r._part ${order}, r._line ${order}`,
    {
      before: `DELETE FROM ${tables.rejects} WHERE load_id = ${loadId} AND part = _etl_row._part AND line = _etl_row._line;`,
      refused: "EXCEPTION WHEN foreign_key_violation THEN NULL;",
    },
  );
}

function mergeLoop(
  merge: MergePlan,
  tables: LoadTables,
  rows: string,
  { before, refused }: { before: string; refused: string },
): string {
  const plain = merge.key.length === 0 ? "TRUE" : "t.xmax = 0";
  const returning = merge.partitioned ? "NOT _etl_row._existing" : plain;
  return doBlock(`#variable_conflict use_column
DECLARE ${DECLARATIONS} _etl_new boolean; _etl_inserted bigint := 0; _etl_updated bigint := 0;
BEGIN
  FOR _etl_row IN ${rows} LOOP
    BEGIN
      ${before}
      _etl_new := NULL;
      ${insertRows(merge, tables, "ctid = _etl_row._etl_ctid")}
      RETURNING ${returning} INTO _etl_new;
      IF _etl_new THEN _etl_inserted := _etl_inserted + 1; END IF;
      IF NOT _etl_new THEN _etl_updated := _etl_updated + 1; END IF;
    ${refused}
    END;
  END LOOP;
  PERFORM set_config('${OUTCOME_SETTING}', format('%s %s', _etl_inserted, _etl_updated), true);
END`);
}

/** Rows of the target whose key is not staged. */
export function unstagedCondition(merge: MergePlan, tables: LoadTables): string {
  return `NOT EXISTS (SELECT 1 FROM ${tables.ready} AS r WHERE ${sameKey(merge, "t", "r")})`;
}

/** Whether a document is one of those that another load has rejected. */
export function isRejectOf(tables: LoadTables, loadId: string, part: string, line: string): string {
  return `(${part}, ${line}) IN (SELECT part, line FROM ${tables.replayed} WHERE load_id = ${quoteLiteral(loadId)})`;
}

/** Rows of a table whose blocks lie in [from, to). */
export function blockRange(from: number, to: number): string {
  return `ctid >= '(${from},0)'::tid AND ctid < '(${to},0)'::tid`;
}

/** A row of the target as JSON text; bigint and numeric as strings, as every answer gives them. */
function storedRow(merge: MergePlan): string {
  const columns = merge.plan.table.columns.map(({ name, baseType }) => {
    const column = quoteIdentifier(name);
    return baseType === "bigint" || baseType === "numeric" ? `t.${column}::text AS ${column}` : `t.${column}`;
  });
  return `(SELECT row_to_json(x)::text FROM (SELECT ${columns.join(", ")}) AS x)`;
}

/** The target's rows behind the staged ones, as JSON text. */
export function storedRows(merge: MergePlan, tables: LoadTables): string {
  return `SELECT ${storedRow(merge)} FROM ${merge.from}${tables.target} AS t JOIN ${tables.ready} AS r ON ${sameKey(merge, "t", "r")} LIMIT $1`;
}
