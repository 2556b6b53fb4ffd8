import { quoteIdentifier } from "../postgres/index.ts";
import type { LoadContext } from "./context.ts";

/** Removes stages whose load has ended, and loads older than the retention with their rejects. */
export async function sweepState({ postgres, settings }: LoadContext, signal: AbortSignal): Promise<void> {
  const schema = settings.PG_MCP_STATE_SCHEMA;
  const loads = `${quoteIdentifier(schema)}.loads`;
  await postgres.write(
    async (tx) => {
      await tx.query(
        `DELETE FROM ${loads} WHERE CASE status WHEN 'working' THEN lease_until ELSE finished_at END
           < clock_timestamp() - make_interval(days => $1)`,
        [settings.PG_MCP_RETENTION_DAYS],
      );
      await tx.query(
        `DELETE FROM ${quoteIdentifier(schema)}.audit WHERE at < clock_timestamp() - make_interval(days => $1)`,
        [settings.PG_MCP_RETENTION_DAYS],
      );
      const { rows } = await tx.query(
        `SELECT c.relname FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
         WHERE n.nspname = $1 AND c.relkind = 'r' AND c.relname ~ '^(stage|text|cooked|ready)_load_[0-9a-z]{26}(_c[0-9]+)?$'
           AND NOT EXISTS (SELECT 1 FROM ${loads} WHERE load_id = substring(c.relname from 'load_[0-9a-z]{26}')
                           AND status = 'working')`,
        [schema],
      );
      for (const [name] of rows) {
        const stage = `${quoteIdentifier(schema)}.${quoteIdentifier(String(name))}`;
        await tx
          .savepoint(() => tx.query(`DROP TABLE IF EXISTS ${stage}`))
          // Another sweep, or the end of the load itself, has it in hand; what is left waits for the next sweep.
          .catch(() => {});
      }
    },
    { signal, lockTimeoutMs: 500 },
  );
}
