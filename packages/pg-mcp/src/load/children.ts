import { ToolError } from "@es-to-pg/mcp-kit";
import { z } from "zod";
import type { LoadPlan } from "../mapping/plan.ts";
import { mustNotBeState, quoteIdentifier, quoteLiteral, type Transaction } from "../postgres/index.ts";
import {
  type ChildTables,
  childStage,
  childTables,
  countChildren,
  countExtra,
  createChildReady,
  deleteOrphans,
  forgetChildren,
  type Span,
  STEPS,
  type Step,
  stepRowByRow,
  stepStatements,
} from "./children-sql.ts";
import { isRowError } from "./database-error.ts";
import { createStage, type LoadTables, type MergePlan } from "./plan-sql.ts";
import type { Rejects } from "./rejects.ts";

const count = z.number();

/**
 * What became of the rows of a child table. Each staged row is inserted, updated, unchanged, skipped with its document
 * (which lost its key to another, was stale or there already), or rejected with its document. `deleted` are rows that
 * the table had and the documents have no more.
 */
const childFiguresSchema = z.object({
  table: z.string(),
  staged: count,
  inserted: count,
  updated: count,
  unchanged: count,
  deleted: count,
  skipped: count,
  rejected: count,
});
export type ChildFigures = z.infer<typeof childFiguresSchema>;

/** How often documents with refused children are left out and the rest is tried again. */
const ATTEMPTS_MAX = 20;
/** Documents that are tried one by one; more are halved first. */
const LEAF_LINES = 200;

/** Creates the stages of the children beside the parent's. */
export async function createChildStages(tx: Transaction, plan: LoadPlan, tables: LoadTables): Promise<void> {
  for (const [index, { plan: child }] of plan.children.entries()) {
    await tx.query(createStage(child, childStage(tables, index)));
  }
}

/** Drops the stages of a load's children. */
export async function dropChildStages(tx: Transaction, plan: LoadPlan, tables: LoadTables): Promise<void> {
  for (const index of plan.children.keys()) await tx.query(`DROP TABLE IF EXISTS ${childStage(tables, index)}`);
}

/** Documents whose children a table refuses; carries them out of the savepoint that is rolled back. */
class ChildrenRefused extends Error {
  override readonly name = "ChildrenRefused";
  readonly documents: string;

  constructor(documents: string) {
    super("child rows were refused");
    this.documents = documents;
  }
}

interface Bring {
  merge: MergePlan;
  tables: LoadTables;
  rejects: Rejects;
}

/** What documents with refused children have taken with them out of `ready`. */
interface Refused {
  rows: number;
  same: number;
  stale: number;
  skipped: number;
}

/**
 * Runs the write of parents and children until no child is refused: each time the documents that a child keeps out are
 * rejected, and everything is written anew without them, so that no half document stays.
 */
export async function writeWithChildren<T>(
  tx: Transaction,
  options: Bring,
  write: () => Promise<T>,
): Promise<{ written: T; children: ChildFigures[]; refused: Refused }> {
  const refused: Refused = { rows: 0, same: 0, stale: 0, skipped: 0 };
  for (let attempt = 1; ; attempt += 1) {
    try {
      return await tx.savepoint(async () => {
        const written = await write();
        return { written, children: await bringChildren(tx, options), refused };
      });
    } catch (error) {
      if (!(error instanceof ChildrenRefused) || attempt === ATTEMPTS_MAX) throw error;
      await rejectDocuments(tx, options, error.documents, refused);
    }
  }
}

/** Records the documents and takes them out of what is written. */
async function rejectDocuments(tx: Transaction, options: Bring, documents: string, refused: Refused): Promise<void> {
  const { merge, tables } = options;
  await tx.query(
    `INSERT INTO ${tables.rejects} SELECT * FROM json_populate_recordset(NULL::${tables.rejects}, $1::json)
     ON CONFLICT DO NOTHING`,
    [documents],
  );
  const isNew = `(_part, _line) IN (SELECT part, line FROM json_populate_recordset(NULL::${tables.rejects}, $1::json))`;
  const { rows } = await tx.query(
    `SELECT count(*), count(*) FILTER (WHERE _same), count(*) FILTER (WHERE NOT _same AND _stale),
       count(*) FILTER (WHERE NOT _same AND NOT _stale AND _existing AND ${merge.mode === "ignore"})
     FROM ${tables.ready} WHERE ${isNew}`,
    [documents],
  );
  const [all = 0, same = 0, stale = 0, skipped = 0] = (rows[0] ?? []).map(Number);
  refused.rows += all;
  refused.same += same;
  refused.stale += stale;
  refused.skipped += skipped;
  // Their keys stay known to `replace`, which keeps the rows that the target has under them.
  await tx.query(`UPDATE ${tables.ready} SET _stale = true, _same = false WHERE ${isNew}`, [documents]);
}

/** Brings the children of the parents that are in the target now. Throws what the first attempt's rows have caused. */
async function bringChildren(tx: Transaction, options: Bring): Promise<ChildFigures[]> {
  const { merge, tables } = options;
  const all = childTables(merge, tables);
  for (const names of all) await tx.query(createChildReady(names));
  let changes: Changes[];
  try {
    changes = await tx.savepoint(() => bringTogether(tx, options, all));
  } catch (error) {
    if (!isRowError(error)) throw error;
    throw new ChildrenRefused(await findRefused(tx, options, all));
  }
  const figures: ChildFigures[] = [];
  for (const [index, names] of all.entries()) {
    const { rows } = await tx.query(countChildren(names, tables));
    const [staged = 0, rejected = 0, ready = 0, same = 0, changed = 0] = (rows[0] ?? []).map(Number);
    const { inserted, deleted } = changes[index] ?? { inserted: 0, deleted: 0 };
    const { table } = names.child.plan;
    // Only a trigger or a rule of the child table may swallow rows.
    if (inserted !== ready - same && !names.merge.triggered) {
      throw new ToolError(
        "conservation_breach",
        `Of ${ready - same} child rows ${inserted} were written; rolled back.`,
        {
          next: "Load again; if it happens twice, report the figures.",
          details: { child: table.table },
        },
      );
    }
    figures.push({
      table: `${table.schema}.${table.table}`,
      staged,
      inserted: inserted - Math.min(changed, inserted),
      updated: Math.min(changed, inserted),
      unchanged: same,
      deleted: Math.max(0, deleted - changed),
      skipped: staged - rejected - ready + (ready - same - inserted),
      rejected,
    });
    await tx.query(`DROP TABLE ${names.ready}`);
  }
  return figures;
}

interface Changes {
  inserted: number;
  deleted: number;
}

async function bringTogether(
  tx: Transaction,
  { merge, tables }: Bring,
  all: readonly ChildTables[],
): Promise<Changes[]> {
  const changes: Changes[] = all.map(() => ({ inserted: 0, deleted: 0 }));
  for (const step of STEPS) {
    for (const [index, statement] of stepStatements(step, all, merge, tables, () => "TRUE").entries()) {
      const { rowCount } = await tx.query(statement);
      const change = changes[index];
      if (change !== undefined && step === "delete") change.deleted = rowCount ?? 0;
      if (change !== undefined && step === "insert") change.inserted = rowCount ?? 0;
    }
    if (step === "fill") for (const { ready } of all) await tx.query(`ANALYZE ${ready}`);
  }
  return changes;
}

/**
 * The documents whose children are refused, as JSON: halves of the lines, and then one after the other. What it writes
 * is for finding them only, and rolled back.
 */
async function findRefused(tx: Transaction, options: Bring, all: readonly ChildTables[]): Promise<string> {
  const { merge, tables } = options;
  const lines = all.map(
    ({ merge: { meta }, stage }) => `SELECT ${meta.part} AS part, ${meta.line} AS line FROM ${stage}`,
  );
  const { rows } = await tx.query(
    `SELECT part, min(line), max(line) FROM (${lines.join(" UNION ALL ")}) AS s GROUP BY part ORDER BY part`,
  );
  // Each document is looked up alone, so its rows must be found without reading all.
  await tx.query(`CREATE INDEX ON ${tables.ready} (_part, _line)`);
  for (const {
    merge: { meta },
    stage,
    ready,
  } of all) {
    await tx.query(`CREATE INDEX ON ${stage} (${meta.part}, ${meta.line})`);
    await tx.query(`CREATE INDEX ON ${ready} (_part, _line)`);
  }
  async function search(step: Step, span: Span): Promise<void> {
    if (span.to - span.from < LEAF_LINES) {
      await tx.query(stepRowByRow(step, all, merge, tables, span));
      return;
    }
    const within = (alias: string) =>
      `${alias}_part = ${span.part} AND ${alias}_line BETWEEN ${span.from} AND ${span.to}`;
    try {
      await tx.savepoint(async () => {
        for (const statement of stepStatements(step, all, merge, tables, within)) await tx.query(statement);
      });
      return;
    } catch (error) {
      if (!isRowError(error)) throw error;
    }
    const middle = Math.floor((span.from + span.to) / 2);
    await search(step, { ...span, to: middle });
    await search(step, { ...span, from: middle + 1 });
  }
  const known = `SELECT part, line FROM ${tables.rejects} WHERE load_id = ${quoteLiteral(tables.loadId)}`;
  const before = await tx.query(`SELECT coalesce(json_agg(j), '[]')::text FROM (${known}) AS j`);
  for (const step of STEPS) {
    for (const [part, from, to] of rows) await search(step, { part: Number(part), from: Number(from), to: Number(to) });
  }
  const found = await tx.query(
    `SELECT coalesce(json_agg(j), '[]')::text FROM ${tables.rejects} AS j
     WHERE j.load_id = ${quoteLiteral(tables.loadId)} AND NOT EXISTS (
       SELECT 1 FROM json_to_recordset($1::json) AS b (part integer, line bigint) WHERE b.part = j.part AND b.line = j.line)`,
    [before.rows[0]?.[0]],
  );
  const documents = String(found.rows[0]?.[0]);
  if (documents !== "[]") return documents;
  throw new ToolError(
    "children_collide",
    "Child rows of several documents collide, and none of them alone is at fault.",
    {
      next: "Look for a unique index of the child table whose values two documents share, or map the field into jsonb.",
      details: { children: all.map(({ child }) => child.plan.table.table) },
    },
  );
}

/** `replace`: children of parents that go, before their parents do. Answers how many of each child. */
export async function removeOrphans(tx: Transaction, merge: MergePlan, tables: LoadTables): Promise<number[]> {
  const deleted: number[] = [];
  for (const names of childTables(merge, tables)) {
    deleted.push((await tx.query(deleteOrphans(names, merge, tables))).rowCount ?? 0);
  }
  return deleted;
}

/** Loads of one child table queue like those of a target, in one order, so that two meet no deadlock. */
export async function lockChildren(tx: Transaction, plan: LoadPlan): Promise<void> {
  const oids = plan.children.map(({ plan: { table } }) => Number(table.oid)).sort((a, b) => a - b);
  for (const oid of oids) {
    await tx.query("SELECT pg_advisory_xact_lock(hashtextextended($1, 0))", [`data_transformer.target.${oid}`]);
  }
}

/** In a replay, rows of documents that are not replayed are none of its business. */
export async function forgetOtherChildren(
  tx: Transaction,
  merge: MergePlan,
  tables: LoadTables,
  replayOf: string | null,
): Promise<void> {
  if (replayOf === null) return;
  for (const names of childTables(merge, tables)) await tx.query(forgetChildren(names, tables, replayOf));
}

/** Refuses children in the state schema, and rights whose lack would end the load after its parts are staged. */
export async function mayWriteChildren(
  tx: Transaction,
  plan: LoadPlan,
  { mode, stateSchema }: { mode: string; stateSchema: string },
): Promise<void> {
  const needed = mode === "append" ? ["SELECT", "INSERT"] : ["SELECT", "INSERT", "DELETE"];
  for (const {
    plan: { table },
  } of plan.children) {
    mustNotBeState(table, stateSchema);
    const { rows } = await tx.query("SELECT p FROM unnest($2::text[]) AS p WHERE NOT has_table_privilege($1::oid, p)", [
      table.oid,
      needed,
    ]);
    if (rows.length === 0) continue;
    const missing = rows.map(([privilege]) => String(privilege));
    throw new ToolError("permission_denied", `The server's role may not ${missing.join(", ")} on the child table.`, {
      next: "Have the table's owner grant it, or load as a role that may.",
      details: { missing, child: `${table.schema}.${table.table}` },
    });
  }
}

/** Keeps what became of the children with the load. */
export async function saveChildFigures(
  tx: Transaction,
  stateSchema: string,
  loadId: string,
  figures: readonly ChildFigures[],
): Promise<void> {
  for (const [position, child] of figures.entries()) {
    await tx.query(
      `INSERT INTO ${quoteIdentifier(stateSchema)}.children (load_id, position, figures) VALUES ($1, $2, $3)
       ON CONFLICT (load_id, position) DO UPDATE SET figures = EXCLUDED.figures`,
      [loadId, position, JSON.stringify(child)],
    );
  }
}

/** What became of a load's children; none for most loads. */
export async function readChildFigures(tx: Transaction, stateSchema: string, loadId: string): Promise<ChildFigures[]> {
  const table = `${quoteIdentifier(stateSchema)}.children`;
  // State of an older server has no such table until the next load is started.
  const { rows: exists } = await tx.query("SELECT to_regclass($1) IS NOT NULL", [table]);
  if (exists[0]?.[0] !== true) return [];
  const { rows } = await tx.query(`SELECT figures::text FROM ${table} WHERE load_id = $1 ORDER BY position`, [loadId]);
  return rows.map(([json]) => childFiguresSchema.parse(JSON.parse(String(json))));
}

/** How the rows of a child table compare with the staged ones. */
export const childComparison = z.object({
  table: z.string(),
  matched: count,
  missing: count,
  different: count,
  extra: count,
});

/** Compares the children of the parents in `ready`, which are those that the target has. */
export async function compareChildren(tx: Transaction, merge: MergePlan, tables: LoadTables) {
  const compared: z.infer<typeof childComparison>[] = [];
  for (const names of childTables(merge, tables)) {
    await tx.query(createChildReady(names));
    for (const statement of stepStatements("fill", [names], merge, tables, () => "TRUE")) await tx.query(statement);
    const { rows } = await tx.query(
      `SELECT count(*) FILTER (WHERE _same), count(*) FILTER (WHERE NOT _existing),
         count(*) FILTER (WHERE _existing AND NOT _same) FROM ${names.ready}`,
    );
    const [matched = 0, missing = 0, different = 0] = (rows[0] ?? []).map(Number);
    const extra = Number((await tx.query(countExtra(names, merge, tables))).rows[0]?.[0]);
    const { schema, table } = names.child.plan.table;
    compared.push({ table: `${schema}.${table}`, matched, missing, different, extra });
  }
  return compared;
}
