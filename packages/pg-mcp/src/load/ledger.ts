import { ToolError } from "@es-to-pg/mcp-kit";
import { idProblem } from "@es-to-pg/staging";
import { z } from "zod";
import type { Transaction } from "../postgres/index.ts";
import { quoteIdentifier } from "../postgres/index.ts";
import { writeAudit } from "./audit.ts";
import { errorCode } from "./database-error.ts";
import { FIGURE_NAMES, type Figures, figuresSchema } from "./figures.ts";

/** A lease is renewed three times before it runs out, so that one slow answer loses no load. */
export const LEASE_SECONDS = 30;
/** How long after its lease a holder's open transaction is ended from outside, should it still be there. */
const PATIENCE_SECONDS = 30;
export const LEASE_RENEWAL_MS = 10_000;

export const loadIdSchema = z
  .string({
    error: ({ input }) =>
      input === undefined ? "is required (text); list_loads shows the loads there were" : undefined,
  })
  .regex(/^load_[0-9a-hjkmnp-tv-z]{26}$/, { error: ({ input }) => idProblem("load", input) });

const countsSchema = z.record(z.string(), z.number());

export const loadErrorSchema = z.object({
  code: z.string(),
  message: z.string(),
  retryable: z.boolean(),
  next: z.string().optional(),
  details: z.record(z.string(), z.unknown()).optional(),
});

const loadSchema = z.object({
  load_id: loadIdSchema,
  created_at: z.string(),
  finished_at: z.string().nullable(),
  status: z.enum(["working", "completed", "failed", "cancelled"]),
  phase: z.enum(["staging", "merging", "done"]),
  epoch: z.number(),
  owner: z.string(),
  stalled: z.boolean(),
  export_id: z.string().nullable(),
  table_oid: z.string(),
  table_schema: z.string(),
  table_name: z.string(),
  mode: z.enum(["upsert", "append", "ignore", "replace"]),
  strategy: z.enum(["direct", "gather"]).nullable(),
  reason: z.string().nullable(),
  dry_run: z.boolean(),
  digest: z.string(),
  arguments: z.record(z.string(), z.unknown()),
  mapping: z.unknown(),
  warnings: z.array(z.string()),
  error: loadErrorSchema.nullable(),
  ...figuresSchema.shape,
  deleted: z.number(),
  rounded: countsSchema,
  replaced: countsSchema,
  seconds: z.number(),
});

/** A load as its row says; while it works, `staged` and `rejected` are those of the parts that are in. */
export type Load = z.infer<typeof loadSchema>;
export type LoadError = z.infer<typeof loadErrorSchema>;

/** Who works on a load: a transaction of an older epoch finds that it has lost it. */
export interface Holder {
  loadId: string;
  epoch: number;
}

/** Another process has taken the load over, or it was ended from outside; this one stops without a trace. */
export class LoadLost extends Error {
  override readonly name = "LoadLost";
}

/** What parts of a direct load count for themselves. */
const OUTCOMES_OF_PARTS = [
  "inserted",
  "updated",
  "unchanged",
  "skipped",
  "stale",
  "deduplicated",
  "suppressed",
] as const;

/** SQL of the advisory lock that every transaction of a load holds. */
function lockKey(loadId: string): string {
  return `hashtextextended('data_transformer.load.' || ${loadId}::text, 0)`;
}

/**
 * Waits for the transactions of the load that are in flight, and lets no further one begin. Its row alone would not
 * do: several may hold that in turn without a gap, and who asks for more of it would wait for ever.
 */
async function stopFences(tx: Transaction, loadId: string): Promise<void> {
  await tx.query(`SELECT pg_advisory_xact_lock(${lockKey("$1")})`, [loadId]);
}

/** The figures of a load as answers show them. */
export function figuresOf(load: Load): Figures {
  return figuresSchema.parse(load);
}

/** The statements over the state schema's loads, parts and rejects. */
export function openLedger(stateSchema: string) {
  const schema = quoteIdentifier(stateSchema);
  const loads = `${schema}.loads`;
  const parts = `${schema}.parts`;
  const rejects = `${schema}.rejects`;

  const select = (where: string) => `
SELECT row_to_json(answer)::text FROM (
  SELECT l.load_id, l.created_at, l.finished_at, l.status, l.phase, l.epoch, l.owner,
         l.status = 'working' AND l.lease_until < clock_timestamp() AS stalled,
         l.export_id, l.table_oid::text, l.table_schema, l.table_name, l.mode, l.strategy, l.reason, l.dry_run, l.digest,
         l.arguments, l.mapping, l.warnings, l.error, l.expected,
         CASE WHEN l.status = 'working' THEN p.documents ELSE l.staged END AS staged,
         ${OUTCOMES_OF_PARTS.map((name) => `CASE WHEN l.status = 'working' THEN p.${name} ELSE l.${name} END AS ${name}`).join(", ")},
         CASE WHEN l.status = 'working' THEN p.rejected ELSE l.rejected END AS rejected,
         l.deleted, l.rounded, l.replaced,
         round(extract(epoch FROM coalesce(l.finished_at, clock_timestamp()) - l.created_at)::numeric, 1) AS seconds
  FROM ${loads} AS l
  CROSS JOIN LATERAL (
    SELECT coalesce(sum(documents), 0)::bigint AS documents, coalesce(sum(rejected), 0)::bigint AS rejected,
      ${OUTCOMES_OF_PARTS.map((name) => `coalesce(sum((figures->>'${name}')::bigint), 0)::bigint AS ${name}`).join(", ")}
    FROM ${parts} WHERE load_id = l.load_id
  ) AS p
  WHERE ${where}
) AS answer`;

  async function read(tx: Transaction, where: string, params: unknown[]): Promise<Load[]> {
    const { rows } = await tx.query(select(where), params);
    return rows.map(([json]) => loadSchema.parse(JSON.parse(String(json))));
  }

  /**
   * Ends the transactions of a holder whose lease ran out long ago: a process that was stopped, or cut off without a
   * word, would keep its load for as long as the server believes in the connection.
   */
  async function endSleepers(tx: Transaction, loadId: string): Promise<void> {
    const end = `SELECT pg_terminate_backend(k.pid) FROM pg_locks AS k, ${loads} AS l
      WHERE l.load_id = $1 AND l.status = 'working'
        AND l.lease_until < clock_timestamp() - make_interval(secs => ${PATIENCE_SECONDS})
        AND k.locktype = 'advisory' AND k.objsubid = 1 AND k.mode = 'ShareLock' AND k.pid <> pg_backend_pid()
        AND k.database = (SELECT oid FROM pg_database WHERE datname = current_database())
        AND (k.classid::bigint << 32 | k.objid::bigint) = ${lockKey("$1")}`;
    try {
      await tx.savepoint(() => tx.query(end, [loadId]));
    } catch (error) {
      // The session of a role that this one has no power over; the server's own time-outs will end it.
      if (errorCode(error) !== "42501") throw error;
    }
  }

  return {
    /** The load, or `unknown_load`. */
    async read(tx: Transaction, loadId: string): Promise<Load> {
      const [load] = await read(tx, "l.load_id = $1", [loadId]);
      if (load !== undefined) return load;
      throw new ToolError("unknown_load", `This database knows no load ${loadId}.`, {
        next: "Call list_loads for the loads that are kept.",
        details: { load_id: loadId },
      });
    },

    /** Loads, newest first, from after the given position. */
    async list(
      tx: Transaction,
      page: { limit: number; before: { created_at: string; load_id: string } | null },
    ): Promise<Load[]> {
      return read(
        tx,
        `($1::timestamptz IS NULL OR (l.created_at, l.load_id) < ($1::timestamptz, $2::text))
         ORDER BY l.created_at DESC, l.load_id DESC LIMIT $3`,
        [page.before?.created_at ?? null, page.before?.load_id ?? null, page.limit],
      );
    },

    /** How many loads are kept in each state. */
    async countByState(tx: Transaction): Promise<Record<string, number>> {
      const { rows } = await tx.query(
        `SELECT CASE WHEN status = 'working' AND lease_until < clock_timestamp() THEN 'stalled' ELSE status END AS state,
           count(*) FROM ${loads} GROUP BY state`,
      );
      return Object.fromEntries(rows.map(([state, count]) => [String(state), Number(count)]));
    },

    /** Loads of exports that nobody works on any more, the oldest first. */
    async findStalled(tx: Transaction): Promise<Load[]> {
      return read(
        tx,
        `l.status = 'working' AND l.lease_until < clock_timestamp() AND l.export_id IS NOT NULL ORDER BY l.created_at`,
        [],
      );
    },

    /** The load of these arguments that still works. */
    async findWorking(tx: Transaction, digest: string): Promise<Load | undefined> {
      return (await read(tx, "l.digest = $1 AND l.status = 'working'", [digest]))[0];
    },

    /** The newest completed load of these arguments that ended within the given seconds. */
    async findCompleted(tx: Transaction, digest: string, seconds: number): Promise<Load | undefined> {
      const [load] = await read(
        tx,
        `l.digest = $1 AND l.status = 'completed' AND l.finished_at > clock_timestamp() - make_interval(secs => $2)
         ORDER BY l.finished_at DESC LIMIT 1`,
        [digest, seconds],
      );
      return load;
    },

    /**
     * An append of this export into this table that works or was completed, however long ago and by which mapping. A table
     * is known by its oid, so that one which was made anew counts as empty; after a restore from a dump by its name, because
     * every oid is another one then.
     */
    async findAppended(
      tx: Transaction,
      exportId: string,
      { oid, schema: tableSchema, table }: { oid: string; schema: string; table: string },
    ): Promise<Load | undefined> {
      const [load] = await read(
        tx,
        `l.export_id = $1 AND l.mode = 'append' AND NOT l.dry_run
           AND CASE WHEN (l.arguments->>'ledger')::oid <> to_regclass($5)
             THEN l.table_schema = $3 AND l.table_name = $4 ELSE l.table_oid = $2::oid END
           AND l.status IN ('completed', 'working') AND l.arguments->>'rejects_of' IS NULL
         ORDER BY l.finished_at DESC NULLS LAST LIMIT 1`,
        [exportId, oid, tableSchema, table, loads],
      );
      return load;
    },

    /** Writes the load's row; false if an equal load works already. */
    async create(
      tx: Transaction,
      load: {
        loadId: string;
        owner: string;
        exportId: string | null;
        tableOid: string;
        schema: string;
        table: string;
        mode: string;
        dryRun: boolean;
        digest: string;
        arguments: unknown;
        mapping: unknown;
        warnings: string[];
        expected: number;
      },
    ): Promise<boolean> {
      const { rowCount } = await tx.query(
        `INSERT INTO ${loads} (load_id, status, phase, epoch, owner, lease_until, export_id, table_oid, table_schema,
           table_name, mode, dry_run, digest, arguments, mapping, warnings, expected)
         VALUES ($1, 'working', 'staging', 1, $2, clock_timestamp() + make_interval(secs => ${LEASE_SECONDS}), $3,
           $4::oid, $5, $6, $7, $8, $9, ($10::jsonb || jsonb_build_object('ledger', to_regclass($14)::oid::text))::json,
           $11, $12, $13)
         ON CONFLICT (digest) WHERE status = 'working' DO NOTHING`,
        [
          load.loadId,
          load.owner,
          load.exportId,
          load.tableOid,
          load.schema,
          load.table,
          load.mode,
          load.dryRun,
          load.digest,
          JSON.stringify(load.arguments),
          JSON.stringify(load.mapping),
          JSON.stringify(load.warnings),
          load.expected,
          loads,
        ],
      );
      return rowCount === 1;
    },

    /**
     * First statement of each transaction of a load. KEY SHARE lets the holder renew its lease meanwhile and makes
     * whoever takes the load over wait for this transaction's end. The advisory lock says which session it is, and is
     * what that waits for in a queue.
     */
    async fence(tx: Transaction, { loadId, epoch }: Holder): Promise<void> {
      const { rows } = await tx.query(
        `SELECT pg_advisory_xact_lock_shared(${lockKey("$1")}) FROM ${loads}
         WHERE load_id = $1 AND epoch = $2 AND status = 'working' FOR KEY SHARE`,
        [loadId, epoch],
      );
      if (rows.length === 0) throw new LoadLost(`${loadId} is no longer held in epoch ${epoch}`);
    },

    /** Renews the lease; throws `LoadLost` when another holds it. */
    async renew(tx: Transaction, { loadId, epoch }: Holder): Promise<void> {
      const { rowCount } = await tx.query(
        `UPDATE ${loads} SET lease_until = clock_timestamp() + make_interval(secs => ${LEASE_SECONDS})
         WHERE load_id = $1 AND epoch = $2 AND status = 'working'`,
        [loadId, epoch],
      );
      if (rowCount === 0) throw new LoadLost(`${loadId} is no longer held in epoch ${epoch}`);
    },

    /** Gives the lease up and leaves the load working, for the same start call to take over. */
    async release(tx: Transaction, { loadId, epoch }: Holder): Promise<void> {
      await tx.query(
        `UPDATE ${loads} SET lease_until = clock_timestamp() - interval '1 millisecond'
         WHERE load_id = $1 AND epoch = $2 AND status = 'working'`,
        [loadId, epoch],
      );
    },

    /** Takes a stalled load over; undefined while its holder, or a transaction of it, is alive. */
    async takeOver(tx: Transaction, loadId: string, owner: string): Promise<Holder | undefined> {
      try {
        await endSleepers(tx, loadId);
        return await tx.savepoint(async () => {
          // Bounded by lock_timeout.
          await stopFences(tx, loadId);
          const { rows } = await tx.query(
            `SELECT epoch FROM ${loads}
             WHERE load_id = $1 AND status = 'working' AND lease_until < clock_timestamp() FOR UPDATE`,
            [loadId],
          );
          const epoch = rows[0]?.[0];
          if (epoch === undefined) return undefined;
          const next = Number(epoch) + 1;
          await tx.query(
            `UPDATE ${loads} SET epoch = $2, owner = $3, phase = 'staging',
               lease_until = clock_timestamp() + make_interval(secs => ${LEASE_SECONDS}) WHERE load_id = $1`,
            [loadId, next, owner],
          );
          return { loadId, epoch: next };
        });
      } catch (error) {
        if (errorCode(error) === "55P03") return undefined;
        throw error;
      }
    },

    /** Takes the load away from whoever holds it, for `cancel_load`; undefined if it has ended already. */
    async seize(tx: Transaction, loadId: string, owner: string): Promise<Holder | undefined> {
      await stopFences(tx, loadId);
      const { rows } = await tx.query(
        `SELECT epoch FROM ${loads} WHERE load_id = $1 AND status = 'working' FOR UPDATE`,
        [loadId],
      );
      const epoch = rows[0]?.[0];
      if (epoch === undefined) return undefined;
      const next = Number(epoch) + 1;
      await tx.query(`UPDATE ${loads} SET epoch = $2, owner = $3 WHERE load_id = $1`, [loadId, next, owner]);
      return { loadId, epoch: next };
    },

    async setPhase(tx: Transaction, holder: Holder, phase: "staging" | "merging", expected: number): Promise<void> {
      await tx.query(
        `UPDATE ${loads} SET phase = $3, expected = $4, updated_at = now() WHERE load_id = $1 AND epoch = $2`,
        [holder.loadId, holder.epoch, phase, expected],
      );
    },

    /** How the load's parts reach the target, once that is chosen. */
    async strategy(
      tx: Transaction,
      loadId: string,
    ): Promise<{ name: "direct" | "gather"; reason: string } | undefined> {
      const { strategy, reason } = await this.read(tx, loadId);
      return strategy === null ? undefined : { name: strategy, reason: reason ?? "" };
    },

    async setStrategy(
      tx: Transaction,
      holder: Holder,
      { name, reason }: { name: "direct" | "gather"; reason: string },
    ): Promise<void> {
      await tx.query(`UPDATE ${loads} SET strategy = $3, reason = $4 WHERE load_id = $1 AND epoch = $2`, [
        holder.loadId,
        holder.epoch,
        name,
        reason,
      ]);
    },

    /** The load's last word, in the transaction that makes it true. */
    async finish(
      tx: Transaction,
      holder: Holder,
      outcome: {
        status: "completed" | "failed" | "cancelled";
        figures?: Figures;
        deleted?: number;
        rounded?: Record<string, number>;
        replaced?: Record<string, number>;
        error?: LoadError;
      },
    ): Promise<void> {
      const { figures } = outcome;
      const { rowCount } = await tx.query(
        `UPDATE ${loads} SET status = $3, phase = 'done', finished_at = clock_timestamp(), updated_at = now(),
           lease_until = clock_timestamp(), error = $4, deleted = $5, rounded = $6, replaced = $7
           ${figures === undefined ? "" : `, ${FIGURE_NAMES.map((name, index) => `${name} = $${index + 8}`).join(", ")}`}
         WHERE load_id = $1 AND epoch = $2 AND status = 'working'`,
        [
          holder.loadId,
          holder.epoch,
          outcome.status,
          outcome.error === undefined ? null : JSON.stringify(outcome.error),
          outcome.deleted ?? 0,
          JSON.stringify(outcome.rounded ?? {}),
          JSON.stringify(outcome.replaced ?? {}),
          ...(figures === undefined ? [] : FIGURE_NAMES.map((name) => figures[name])),
        ],
      );
      if (rowCount === 0) throw new LoadLost(`${holder.loadId} is no longer held in epoch ${holder.epoch}`);
      await writeAudit(tx, stateSchema, {
        action: `load_${outcome.status}`,
        loadId: holder.loadId,
        details: { figures, deleted: outcome.deleted, error: outcome.error?.code },
      });
    },

    /** The parts that are in the stage, or of a direct load in the target, in their order. */
    async parts(tx: Transaction, loadId: string): Promise<Map<number, LedgerPart>> {
      const { rows } = await tx.query(
        `SELECT part, documents, rows, rejected, rounded::text, replaced::text, figures::text
         FROM ${parts} WHERE load_id = $1 ORDER BY part`,
        [loadId],
      );
      return new Map(
        rows.map(([part, documents, inStage, rejected, rounded, replaced, figures]) => [
          Number(part),
          {
            documents: Number(documents),
            rows: Number(inStage),
            rejected: Number(rejected),
            rounded: countsSchema.parse(JSON.parse(String(rounded))),
            replaced: countsSchema.parse(JSON.parse(String(replaced))),
            ...(typeof figures === "string" ? { figures: figuresSchema.parse(JSON.parse(figures)) } : {}),
          },
        ]),
      );
    },

    async addPart(tx: Transaction, holder: Holder, part: number, figures: LedgerPart): Promise<void> {
      await tx.query(
        `INSERT INTO ${parts} (load_id, part, epoch, documents, rows, rejected, rounded, replaced, figures)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)`,
        [
          holder.loadId,
          part,
          holder.epoch,
          figures.documents,
          figures.rows,
          figures.rejected,
          JSON.stringify(figures.rounded),
          JSON.stringify(figures.replaced),
          figures.figures === undefined ? null : JSON.stringify(figures.figures),
        ],
      );
      // A part with figures is one of a direct load: its rows are in the target from this transaction on.
      if (figures.figures !== undefined) {
        await writeAudit(tx, stateSchema, {
          action: "load_part",
          loadId: holder.loadId,
          details: { part, figures: figures.figures },
        });
      }
    },

    /** Forgets every part and reject of the load: its stage is gone. */
    async forgetParts(tx: Transaction, loadId: string): Promise<void> {
      await tx.query(`DELETE FROM ${parts} WHERE load_id = $1`, [loadId]);
      await tx.query(`DELETE FROM ${rejects} WHERE load_id = $1`, [loadId]);
    },
  };
}

export type Ledger = ReturnType<typeof openLedger>;

/** What one part gave: documents read = rows + rejected. */
export interface LedgerPart {
  documents: number;
  rows: number;
  rejected: number;
  /** Values that lost fraction digits, by column. */
  rounded: Record<string, number>;
  /** Values that a policy changed or dropped, by column. */
  replaced: Record<string, number>;
  /** Of a part that has gone into the target by itself: where its documents ended. */
  figures?: Figures;
}
