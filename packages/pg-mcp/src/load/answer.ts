import { clip } from "@es-to-pg/mcp-kit";
import { z } from "zod";
import type { Transaction } from "../postgres/index.ts";
import type { ChildFigures } from "./children.ts";
import { FIGURE_NAMES } from "./figures.ts";
import { figuresOf, type Load } from "./ledger.ts";
import type { Rejects } from "./rejects.ts";
import { confirmToken } from "./start.ts";

/** Kinds of rejects that an answer about a load names; list_rejects has all. */
const REASONS_MAX = 5;

/** What bulk_insert, get_load and cancel_load answer about a load. */
export const loadAnswer = z.object({
  load_id: z.string(),
  status: z.enum(["working", "completed", "failed", "cancelled"]),
  stalled: z.literal(true).optional(),
  phase: z.string().optional(),
  table: z.string(),
  mode: z.string(),
  strategy: z.enum(["direct", "gather"]).optional(),
  strategy_reason: z.string().optional(),
  dry_run: z.literal(true).optional(),
  reused: z.literal(true).optional(),
  already_loaded: z.literal(true).optional(),
  export_id: z.string().optional(),
  figures: z.record(z.enum(FIGURE_NAMES), z.number()),
  deleted: z.number().optional(),
  children: z.array(z.record(z.string(), z.unknown())).optional(),
  rounded: z.record(z.string(), z.number()).optional(),
  replaced: z.record(z.string(), z.number()).optional(),
  seconds: z.number(),
  rejects: z
    .array(
      z.object({
        reason: z.string(),
        column: z.string().nullable(),
        count: z.number(),
        document_id: z.string().nullable(),
        message: z.string(),
        value: z.string().nullable(),
      }),
    )
    .optional(),
  error: z
    .object({
      code: z.string(),
      message: z.string(),
      retryable: z.boolean(),
      details: z.record(z.string(), z.unknown()).optional(),
    })
    .optional(),
  warnings: z.array(z.string()).optional(),
  confirm: z.string().optional(),
  next: z.string(),
});
export type LoadAnswer = z.infer<typeof loadAnswer>;

/** What of it cancel_load answers: what has become of the load. get_load tells the rest. */
export const cancelAnswer = loadAnswer
  .pick({ load_id: true, status: true, table: true, error: true, next: true })
  .extend({ figures: z.record(z.string(), z.number()) });

/** A load as its tools answer it: state, figures, the first kinds of rejects, and what to call next. */
export async function describeLoad(
  tx: Transaction,
  load: Load,
  rejects: Rejects,
  found: { reused?: boolean; alreadyLoaded?: boolean; children?: ChildFigures[] } = {},
): Promise<LoadAnswer> {
  const reasons = load.rejected === 0 ? [] : await rejects.summary(tx, load.load_id, REASONS_MAX);
  const { error } = load;
  return {
    load_id: load.load_id,
    status: load.status,
    ...(load.stalled ? { stalled: true } : {}),
    ...(load.status === "working" ? { phase: load.phase } : {}),
    table: `${load.table_schema}.${load.table_name}`,
    mode: load.mode,
    ...(load.strategy === null ? {} : { strategy: load.strategy, strategy_reason: load.reason ?? "" }),
    ...(load.dry_run ? { dry_run: true } : {}),
    ...(found.reused === true ? { reused: true } : {}),
    ...(found.alreadyLoaded === true ? { already_loaded: true } : {}),
    ...(load.export_id === null ? {} : { export_id: load.export_id }),
    figures: figuresOf(load),
    ...(load.mode === "replace" ? { deleted: load.deleted } : {}),
    ...((found.children ?? []).length === 0 ? {} : { children: found.children }),
    ...(Object.keys(load.rounded).length === 0 ? {} : { rounded: load.rounded }),
    ...(Object.keys(load.replaced).length === 0 ? {} : { replaced: load.replaced }),
    seconds: load.seconds,
    ...(reasons.length === 0
      ? {}
      : {
          rejects: reasons.map(({ reason, column, count, example }) => ({
            reason,
            column,
            count,
            document_id: example.document_id === null ? null : clip(example.document_id, 60),
            message: clip(example.message, 120),
            value: example.value === null ? null : clip(example.value, 40),
          })),
        }),
    ...(error === null
      ? {}
      : {
          error: {
            code: error.code,
            message: clip(error.message, 300),
            retryable: error.retryable,
            ...(error.details === undefined ? {} : { details: error.details }),
          },
        }),
    ...(load.warnings.length === 0 ? {} : { warnings: load.warnings }),
    ...(load.dry_run && load.mode === "replace" && load.status === "completed"
      ? { confirm: confirmToken(load.load_id, load.digest) }
      : {}),
    next: nextStep(load, found),
  };
}

function nextStep(load: Load, { reused, alreadyLoaded }: { reused?: boolean; alreadyLoaded?: boolean }): string {
  if (alreadyLoaded === true) return "The export is in this table already; repeat:true appends it once more.";
  if (reused === true && load.status === "completed" && !load.dry_run) {
    return "An equal load had just ended, so nothing was done now. verify_load compares; fresh:true loads again.";
  }
  if (load.stalled) return "Its process is gone: make the same bulk_insert call again to go on from the ledger.";
  switch (load.status) {
    case "working":
      return "Call get_load with wait_seconds until it is completed.";
    case "completed":
      if (load.dry_run) {
        return load.mode === "replace"
          ? "Show deleted to the user, then repeat the call without dry_run and with confirm."
          : "Nothing was written. Repeat the call without dry_run to load.";
      }
      if (load.export_id === null)
        return load.rejected > 0 ? "Call list_rejects, correct the rows, send them again." : "Done.";
      return load.rejected > 0
        ? "Call list_rejects for what stayed out and why, then verify_load."
        : "Call verify_load to prove the table equals the export.";
    case "failed":
      return load.error?.next ?? "Correct what the error names and call bulk_insert again.";
    case "cancelled":
      return load.strategy === "direct" && load.staged > 0
        ? "The parts that figures count are in the table. Call bulk_insert again: they will count as unchanged."
        : "The target is untouched. Call bulk_insert again to load.";
    default:
      return load.status satisfies never;
  }
}
