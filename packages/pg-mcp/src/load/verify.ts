import { clip, ToolError } from "@es-to-pg/mcp-kit";
import { newId } from "@es-to-pg/staging";
import { z } from "zod";
import { parseMapping } from "../mapping/mapping.ts";
import type { LoadPlan } from "../mapping/plan.ts";
import { resolveMapping } from "../mapping/resolve.ts";
import { quoteLiteral, requireTable, type Transaction } from "../postgres/index.ts";
import { childComparison, compareChildren, createChildStages } from "./children.ts";
import type { LoadContext } from "./context.ts";
import { type Load, openLedger } from "./ledger.ts";
import { lookAtStage, prepare } from "./merge.ts";
import {
  analyzeStage,
  createStage,
  type LoadTables,
  loadTables,
  type MergePlan,
  mergePlan,
  metaNames,
  sameKey,
  unstagedCondition,
} from "./plan-sql.ts";
import { openRejects, type Rejects } from "./rejects.ts";
import { stagePart } from "./stage.ts";
import { readState } from "./state.ts";
import { proveKeys, type SourceIndices } from "./strategy.ts";

/** Keys shown of each kind of difference. */
const SAMPLES_MAX = 5;
const KEY_CHARACTERS_MAX = 80;
/** Columns named as differing. */
const COLUMNS_MAX = 20;

const samples = z.array(z.string());

export const verification = z.object({
  load_id: z.string(),
  verdict: z.enum(["equal", "different", "not_comparable"]),
  table: z.string(),
  compared_by: z.string().optional(),
  staged: z.number(),
  matched: z.number(),
  missing: z.number(),
  different: z.number(),
  stale: z.number().optional(),
  deduplicated: z.number(),
  rejected: z.number(),
  extra: z.number().optional(),
  columns: z.array(z.object({ column: z.string(), rows: z.number() })).optional(),
  children: z.array(childComparison).optional(),
  sample_keys: z.object({ missing: samples, different: samples, extra: samples }).partial().optional(),
  note: z.string().optional(),
  next: z.string(),
});
export type Verification = z.infer<typeof verification>;

/** What can be compared: a completed load of a staged export. Anything else is answered, or refused, at once. */
export interface Comparable {
  load: Load;
  exportId: string;
}

/** Carries the findings out of the transaction that is rolled back. */
class Compared extends Error {
  override readonly name = "Compared";
  readonly findings: Findings;
  readonly plan: LoadPlan;

  constructor(found: Findings, plan: LoadPlan) {
    super("compared");
    this.findings = found;
    this.plan = plan;
  }
}

type Findings = Pick<
  Verification,
  | "staged"
  | "matched"
  | "missing"
  | "different"
  | "stale"
  | "deduplicated"
  | "rejected"
  | "extra"
  | "columns"
  | "children"
  | "sample_keys"
>;

/** Reads the load, and answers at once where there is nothing to compare. Throws `load_not_completed`. */
export async function findComparable(
  context: LoadContext,
  loadId: string,
  signal: AbortSignal,
): Promise<Comparable | { answer: Verification }> {
  const ledger = openLedger(context.settings.PG_MCP_STATE_SCHEMA);
  const load = await readState(context, (tx) => ledger.read(tx, loadId), signal);
  if (load.status !== "completed" || load.dry_run) {
    throw new ToolError("load_not_completed", `Load ${loadId} is ${load.dry_run ? "a dry run" : load.status}.`, {
      next:
        load.status === "working"
          ? "Call get_load with wait_seconds until it is completed."
          : "Verify a completed load.",
      details: { status: load.status, dry_run: load.dry_run },
    });
  }
  if (load.export_id !== null) return { load, exportId: load.export_id };
  const answer: Verification = {
    load_id: loadId,
    verdict: "not_comparable",
    table: tableOf(load),
    staged: load.staged,
    matched: 0,
    missing: 0,
    different: 0,
    deduplicated: load.deduplicated,
    rejected: load.rejected,
    note: "The rows came in the call and are not staged, so there is nothing to compare with.",
    next: "Use count_rows or execute_query to look at the table.",
  };
  return { answer };
}

export function tableOf(load: Load): string {
  return `${load.table_schema}.${load.table_name}`;
}

/**
 * Stages the load's export once more by the load's own mapping and compares every row with the table, in one snapshot
 * that is rolled back. `onStaged` hears how many documents are staged by now.
 */
export async function compareLoad(
  context: LoadContext,
  { load, exportId }: Comparable,
  options: { extra: boolean; signal: AbortSignal; onStaged: (documents: number) => void },
): Promise<Verification> {
  const { findings, plan } = await compare(context, load, exportId, options);
  const areEqual = (findings.children ?? []).every(
    ({ missing, different, extra }) => missing + different + extra === 0,
  );
  const isEqual = findings.missing === 0 && findings.different === 0 && (findings.extra ?? 0) === 0 && areEqual;
  return {
    load_id: load.load_id,
    verdict: isEqual ? "equal" : "different",
    table: tableOf(load),
    compared_by: isKeyed(plan) ? `key (${plan.key.join(", ")})` : "whole rows, counted",
    ...findings,
    ...(load.suppressed > 0 && findings.missing > 0
      ? { note: `${load.suppressed} rows were swallowed by the table's own triggers when they were loaded.` }
      : {}),
    ...(load.mode === "ignore" && findings.different > 0
      ? { note: "Mode ignore leaves rows that were there as they are; they count as different." }
      : {}),
    next: isEqual
      ? findings.rejected > 0
        ? "Every loaded document is in the table; list_rejects says which were rejected."
        : "Nothing: every staged document is in the table."
      : nextWhereDifferent(load.mode, [findings, ...(findings.children ?? [])]),
  };
}

/** What brings the table to the export; the same load again would not, or would do harm, in some modes. */
function nextWhereDifferent(mode: Load["mode"], found: readonly Pick<Verification, "missing" | "different">[]): string {
  if (found.every(({ missing, different }) => missing + different === 0)) {
    return "The extra rows are those of other loads or writers: leave them, or remove them by mode replace.";
  }
  const cause = "Rows may have been changed since the load, or by a trigger";
  if (mode === "append") return `${cause}; look at them before an append with repeat:true, which adds every row again.`;
  if (mode === "ignore") return `${cause}, or were there before; load by mode upsert to bring the table to the export.`;
  return `${cause}; load again to bring the table to the export.`;
}

/** The key that the load ran with; undefined where it had none. */
function keyOf(load: Load): string[] | undefined {
  const key = z.array(z.string()).parse(load.arguments["key"]);
  return key.length === 0 ? undefined : key;
}

/** Whether rows can be found by key: a key is known and loaded. */
function isKeyed(plan: LoadPlan): boolean {
  const loaded = new Set(plan.columns.filter((column) => column.load).map((column) => column.column));
  return plan.key.length > 0 && plan.key.every((name) => loaded.has(name));
}

async function compare(
  context: LoadContext,
  load: Load,
  exportId: string,
  options: Parameters<typeof compareLoad>[2],
): Promise<{ findings: Findings; plan: LoadPlan }> {
  const { postgres, policy, settings } = context;
  const { signal } = options;
  const verifyId = newId("load");
  const store = await context.store();
  const reader = await store.openReader(exportId, verifyId);
  try {
    const { manifest } = reader;
    if (manifest.status !== "completed" && load.arguments["allow_partial"] !== true) {
      throw new ToolError("source_failed", `Export ${exportId} is ${manifest.status} and cannot be compared.`, {
        next: "Export and load again.",
      });
    }
    await postgres.write(
      async (tx) => {
        const table = await requireTable(tx, { schema: load.table_schema, table: load.table_name }, policy);
        const plan = await resolveMapping({
          tx,
          mapping: parseMapping(load.mapping),
          table,
          fields: manifest.mapping,
          profile: manifest.profile,
          expressions: { functionsAllow: settings.PG_MCP_ALLOW_FUNCTIONS, repeatable: true },
          key: keyOf(load),
          identity: "override",
          policy,
        });
        const tables = {
          ...loadTables(settings.PG_MCP_STATE_SCHEMA, verifyId, table),
          rejects: `"${settings.PG_MCP_STATE_SCHEMA}"."rejects_${verifyId}"`,
        };
        const rejects = openRejects(settings.PG_MCP_STATE_SCHEMA, `rejects_${verifyId}`);
        const loadRejects = openRejects(settings.PG_MCP_STATE_SCHEMA).table;
        await tx.query(`CREATE UNLOGGED TABLE ${tables.rejects} (LIKE ${loadRejects})`);
        await tx.query(createStage(plan, tables.stage));
        await createChildStages(tx, plan, tables);
        let staged = 0;
        for (const part of manifest.parts) {
          const chunks = (partSignal: AbortSignal) => reader.chunks(part, { signal: partSignal });
          const figures = await stagePart(tx, { part: part.index, chunks }, { plan, tables, rejects, signal });
          staged += figures.documents;
          options.onStaged(staged);
        }
        throw new Compared(
          await findDifferences(tx, {
            load,
            plan,
            indices: manifest.source.indices,
            tables,
            rejects,
            loadRejects,
            staged,
            extra: options.extra,
          }),
          plan,
        );
      },
      { signal, timeoutMs: 0, oneSnapshot: true, isJob: true },
    );
    throw new Error("the comparison ends by its rollback");
  } catch (error) {
    if (error instanceof Compared) return error;
    throw error;
  } finally {
    await reader.close();
  }
}

interface Comparison {
  load: Load;
  plan: LoadPlan;
  indices: SourceIndices;
  tables: LoadTables;
  rejects: Rejects;
  loadRejects: string;
  staged: number;
  extra: boolean;
}

async function findDifferences(tx: Transaction, comparison: Comparison): Promise<Findings> {
  const { load, plan, tables, rejects, loadRejects, staged } = comparison;
  const keyed = isKeyed(plan);
  // An append has inserted in the documents' order and rejected what came too late; every other mode has chosen one
  // winner per key first, and a winner that a constraint refused has no successor.
  const merge = mergePlan(plan, keyed ? (load.mode === "append" ? "upsert" : load.mode) : "append");
  const refused = (part: string, line: string) =>
    `(${part}, ${line}) IN (SELECT part, line FROM ${loadRejects} WHERE load_id = ${quoteLiteral(load.load_id)})`;
  const { part, line } = metaNames(plan);
  if (load.mode === "append") await tx.query(`DELETE FROM ${tables.stage} WHERE ${refused(part, line)}`);
  const { indices } = comparison;
  const keyProof = proveKeys(merge, indices);
  const { rows: inStage, keysAreUnique } = await lookAtStage(tx, { merge, tables, keyProof });
  await tx.query(analyzeStage(merge, tables));
  const before = await rejects.count(tx, tables.loadId);
  const replayOf = z
    .string()
    .nullable()
    .parse(load.arguments["rejects_of"] ?? null);
  await prepare(tx, { merge, tables, replayOf, stageRows: inStage, keysAreUnique, keepsSame: true });
  const nulls = (await rejects.count(tx, tables.loadId)) - before;
  const ready = await count(tx, tables.ready);
  await tx.query(`ANALYZE ${tables.ready}`);
  const wantsExtra = comparison.extra || load.mode === "replace";
  const common =
    replayOf === null
      ? { staged, deduplicated: inStage - nulls - ready, rejected: load.rejected }
      : { staged: load.staged, deduplicated: load.deduplicated, rejected: load.rejected };
  if (!keyed) return { ...common, ...(await compareCounted(tx, merge, tables, wantsExtra)) };

  const extra = wantsExtra ? await findExtra(tx, merge, tables) : undefined;
  await tx.query(`DELETE FROM ${tables.ready} WHERE ${refused("_part", "_line")}`);
  const { rows } = await tx.query(
    `SELECT count(*) FILTER (WHERE _same), count(*) FILTER (WHERE NOT _existing),
       count(*) FILTER (WHERE _existing AND NOT _same AND NOT _stale),
       count(*) FILTER (WHERE _existing AND NOT _same AND _stale) FROM ${tables.ready}`,
  );
  const [matched = 0, missing = 0, different = 0, stale = 0] = (rows[0] ?? []).map(Number);
  const missingKeys = missing === 0 ? [] : await sampleKeys(tx, merge, tables, "NOT _existing");
  const differentKeys =
    different === 0 ? [] : await sampleKeys(tx, merge, tables, "_existing AND NOT _same AND NOT _stale");
  const columns = different === 0 ? [] : await differingColumns(tx, merge, tables);
  const children = await compareChildren(tx, { ...merge, mode: "upsert" }, tables);
  const shown = {
    ...(missingKeys.length === 0 ? {} : { missing: missingKeys }),
    ...(differentKeys.length === 0 ? {} : { different: differentKeys }),
    ...(extra === undefined || extra.keys.length === 0 ? {} : { extra: extra.keys }),
  };
  return {
    ...common,
    matched,
    missing,
    different,
    ...(merge.guard === null ? {} : { stale }),
    ...(extra === undefined ? {} : { extra: extra.count }),
    ...(columns.length === 0 ? {} : { columns }),
    ...(children.length === 0 ? {} : { children }),
    ...(Object.keys(shown).length === 0 ? {} : { sample_keys: shown }),
  };
}

async function count(tx: Transaction, table: string): Promise<number> {
  const { rows } = await tx.query(`SELECT count(*) FROM ${table}`);
  return Number(rows[0]?.[0]);
}

/** A key as one text, clipped: foreign text. */
function keyText(row: readonly unknown[]): string {
  return clip(row.map(String).join(", "), KEY_CHARACTERS_MAX);
}

async function sampleKeys(tx: Transaction, merge: MergePlan, tables: LoadTables, where: string): Promise<string[]> {
  const slots = merge.key.map((column) => column.slot);
  const { rows } = await tx.query(
    `SELECT ${slots.map((slot) => `${slot}::text`).join(", ")} FROM ${tables.ready} WHERE ${where}
     ORDER BY ${slots.join(", ")} LIMIT ${SAMPLES_MAX}`,
  );
  return rows.map(keyText);
}

async function findExtra(
  tx: Transaction,
  merge: MergePlan,
  tables: LoadTables,
): Promise<{ count: number; keys: string[] }> {
  const from = `FROM ${merge.from}${tables.target} AS t WHERE ${unstagedCondition(merge, tables)}`;
  const total = await tx.query(`SELECT count(*) ${from}`);
  const names = merge.key.map((column) => `t.${column.name}`);
  const { rows } = await tx.query(
    `SELECT ${names.map((name) => `${name}::text`).join(", ")} ${from} ORDER BY ${names.join(", ")} LIMIT ${SAMPLES_MAX}`,
  );
  return { count: Number(total.rows[0]?.[0]), keys: rows.map(keyText) };
}

/** How many of the differing rows differ in each column. */
async function differingColumns(
  tx: Transaction,
  merge: MergePlan,
  tables: LoadTables,
): Promise<{ column: string; rows: number }[]> {
  const compared = merge.loaded.filter((column) => !merge.key.includes(column));
  if (compared.length === 0) return [];
  const counts = compared.map(
    (column) => `count(*) FILTER (WHERE NOT ROW(t.${column.name})::record *= ROW(r.${column.slot})::record)`,
  );
  const on = sameKey(merge, "t", "r");
  const { rows } = await tx.query(
    `SELECT ${counts.join(", ")} FROM ${tables.ready} AS r JOIN ${merge.from}${tables.target} AS t ON ${on}
     WHERE r._existing AND NOT r._same AND NOT r._stale`,
  );
  return compared
    .map((column, index) => ({ column: column.column, rows: Number(rows[0]?.[index]) }))
    .filter((column) => column.rows > 0)
    .sort((a, b) => b.rows - a.rows)
    .slice(0, COLUMNS_MAX);
}

/** Without a key: how often each row is staged and how often the table has it, by the rows' exact text. */
async function compareCounted(
  tx: Transaction,
  merge: MergePlan,
  tables: LoadTables,
  wantsExtra: boolean,
): Promise<Pick<Findings, "matched" | "missing" | "different" | "extra">> {
  const stagedRow = `ROW(${merge.loaded.map((column) => column.slot).join(", ")})::text`;
  const targetRow = `ROW(${merge.loaded.map((column) => `t.${column.name}`).join(", ")})::text`;
  const { rows } = await tx.query(
    `SELECT coalesce(sum(least(coalesce(s.n, 0), coalesce(t.n, 0))), 0), coalesce(sum(greatest(s.n - coalesce(t.n, 0), 0)), 0),
       coalesce(sum(greatest(t.n - coalesce(s.n, 0), 0)), 0)
     FROM (SELECT ${stagedRow} AS image, count(*) AS n FROM ${tables.ready} GROUP BY 1) AS s
     FULL JOIN (SELECT ${targetRow} AS image, count(*) AS n FROM ${merge.from}${tables.target} AS t GROUP BY 1) AS t
       ON s.image = t.image`,
  );
  const [matched = 0, missing = 0, extra = 0] = (rows[0] ?? []).map(Number);
  return { matched, missing, different: 0, ...(wantsExtra ? { extra } : {}) };
}
