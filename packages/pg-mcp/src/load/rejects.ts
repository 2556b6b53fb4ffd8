import { ToolError } from "@es-to-pg/mcp-kit";
import { z } from "zod";
import { quoteIdentifier, type Transaction } from "../postgres/index.ts";

/** A document that stayed out, and why. */
const rejectSchema = z.object({
  part: z.number(),
  line: z.number(),
  document_index: z.string().nullable(),
  document_id: z.string().nullable(),
  column_name: z.string().nullable(),
  reason: z.string(),
  message: z.string(),
  sqlstate: z.string().nullable(),
  value: z.string().nullable(),
});
export type Reject = z.infer<typeof rejectSchema>;

/** How much of a load may be rejected before it fails. */
export interface RejectLimits {
  onError: "reject" | "stop";
  rejectsMax: number | null;
  rejectRatioMax: number | null;
}

/** Rejects that survive a rolled back merge; beyond it only their number is kept. Protects memory: about 5 MB. */
const CARRIED_REJECTS_MAX = 10_000;

/** Throws when the rejects so far are more than the call allows. */
export function checkRejectLimits(limits: RejectLimits, rejected: number, expected: number): void {
  if (rejected === 0) return;
  const refuse = (code: string, message: string) => {
    throw new ToolError(code, message, {
      next: "Call list_rejects with this load_id, correct the mapping or the limits, and load again.",
      details: { rejected, expected, target_changed: false },
    });
  };
  if (limits.onError === "stop") refuse("document_rejected", "A document was rejected and on_error is stop.");
  if (limits.rejectsMax !== null && rejected > limits.rejectsMax) {
    refuse("too_many_rejects", `${rejected} documents were rejected, max_rejects is ${limits.rejectsMax}.`);
  }
  if (limits.rejectRatioMax !== null && rejected > limits.rejectRatioMax * expected) {
    refuse(
      "too_many_rejects",
      `${rejected} of ${expected} documents were rejected, max_reject_ratio is ${limits.rejectRatioMax}.`,
    );
  }
}

/** The statements over the rejects of loads, or over a table of the same columns. */
export function openRejects(stateSchema: string, name = "rejects") {
  const table = `${quoteIdentifier(stateSchema)}.${quoteIdentifier(name)}`;
  const columns = "part, line, document_index, document_id, column_name, reason, message, sqlstate, value";

  return {
    table,

    async insert(tx: Transaction, loadId: string, rejects: readonly Reject[]): Promise<void> {
      if (rejects.length === 0) return;
      await tx.query(
        `INSERT INTO ${table} (load_id, ${columns})
         SELECT $1, ${columns} FROM json_to_recordset($2::json) AS r (part integer, line bigint, document_index text,
           document_id text, column_name text, reason text, message text, sqlstate text, value text)`,
        [loadId, JSON.stringify(rejects)],
      );
    },

    /** How many a load has, or one part of it. */
    async count(tx: Transaction, loadId: string, part: number | null = null): Promise<number> {
      const { rows } = await tx.query(
        `SELECT count(*) FROM ${table} WHERE load_id = $1 AND ($2::integer IS NULL OR part = $2)`,
        [loadId, part],
      );
      return Number(rows[0]?.[0]);
    },

    /**
     * Rejects that this transaction has added, to outlive its rollback. Savepoints have transaction ids of their own,
     * all of them younger than the transaction's.
     */
    async carry(tx: Transaction, loadId: string): Promise<Reject[]> {
      const { rows } = await tx.query(
        `SELECT row_to_json(r)::text FROM (
           SELECT ${columns} FROM ${table}
           WHERE load_id = $1 AND age(xmin) <= age(pg_current_xact_id()::xid) ORDER BY part, line LIMIT $2) AS r`,
        [loadId, CARRIED_REJECTS_MAX],
      );
      return rows.map(([json]) => rejectSchema.parse(JSON.parse(String(json))));
    },

    /** Puts carried rejects back; those of parts are there already. */
    async restore(tx: Transaction, loadId: string, rejects: readonly Reject[]): Promise<void> {
      if (rejects.length === 0) return;
      await tx.query(
        `INSERT INTO ${table} (load_id, ${columns})
         SELECT $1, ${columns} FROM json_to_recordset($2::json) AS r (part integer, line bigint, document_index text,
           document_id text, column_name text, reason text, message text, sqlstate text, value text)
         ON CONFLICT DO NOTHING`,
        [loadId, JSON.stringify(rejects)],
      );
    },

    /** Rejects counted by reason and column, the most frequent first, each with one document. */
    async summary(
      tx: Transaction,
      loadId: string,
      limit: number,
    ): Promise<{ reason: string; column: string | null; count: number; example: Reject }[]> {
      const { rows } = await tx.query(
        `SELECT reason, column_name, count(*),
           (SELECT row_to_json(e)::text FROM (
              SELECT ${columns} FROM ${table} AS x WHERE x.load_id = $1 AND x.reason = g.reason
                AND x.column_name IS NOT DISTINCT FROM g.column_name ORDER BY part, line LIMIT 1) AS e)
         FROM ${table} AS g WHERE load_id = $1
         GROUP BY reason, column_name ORDER BY count(*) DESC, reason, column_name LIMIT $2`,
        [loadId, limit],
      );
      return rows.map(([reason, column, number, json]) => ({
        reason: String(reason),
        column: z.string().nullable().parse(column),
        count: Number(number),
        example: rejectSchema.parse(JSON.parse(String(json))),
      }));
    },

    /** A page in the order of the documents. */
    async page(
      tx: Transaction,
      loadId: string,
      options: { reason: string | null; after: { part: number; line: number } | null; limit: number },
    ): Promise<{ total: number; rejects: Reject[] }> {
      const total = await tx.query(
        `SELECT count(*) FROM ${table} WHERE load_id = $1 AND ($2::text IS NULL OR reason = $2)`,
        [loadId, options.reason],
      );
      const { rows } = await tx.query(
        `SELECT row_to_json(r)::text FROM (
           SELECT ${columns} FROM ${table}
           WHERE load_id = $1 AND ($2::text IS NULL OR reason = $2) AND (part, line) > ($3::integer, $4::bigint)
           ORDER BY part, line LIMIT $5) AS r`,
        [loadId, options.reason, options.after?.part ?? -1, options.after?.line ?? -1, options.limit],
      );
      return {
        total: Number(total.rows[0]?.[0]),
        rejects: rows.map(([json]) => rejectSchema.parse(JSON.parse(String(json)))),
      };
    },
  };
}

export type Rejects = ReturnType<typeof openRejects>;
