import type { Postgres, Transaction } from "./postgres.ts";

/** What the role that reads may do beyond reading. */
export interface Posture {
  user: string;
  database: string;
  superuser: boolean;
  /** Member of the roles that read or write the server's files or run programs. */
  serverFiles: boolean;
  /** May write at least one table of its own or of others. */
  writes: boolean;
}

const postureQuery = `
SELECT current_user, current_database(),
  (SELECT rolsuper FROM pg_roles WHERE rolname = current_user),
  EXISTS (SELECT FROM pg_roles WHERE rolname IN ('pg_read_server_files', 'pg_write_server_files', 'pg_execute_server_program')
          AND pg_has_role(current_user, oid, 'MEMBER')),
  EXISTS (SELECT FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
          WHERE c.relkind IN ('r', 'p') AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'
          AND has_table_privilege(c.oid, 'INSERT, UPDATE, DELETE, TRUNCATE'))`;

/** What the server lets the reading role do towards judging a statement. */
export interface Capabilities {
  /** Temporary functions with a parsed body can be made, before 14 temporary views: not on a standby or without the rights. */
  resolves: boolean;
  /** May bound the temporary files of a statement. */
  limitsFiles: boolean;
}

/** Asks what the role of the transaction may use. */
export async function readCapabilities(tx: Transaction): Promise<Capabilities> {
  const { rows } = await tx.query(
    `SELECT NOT pg_is_in_recovery() AND has_database_privilege(current_database(), 'TEMP') AND has_language_privilege('sql', 'USAGE'),
     (SELECT rolsuper FROM pg_roles WHERE rolname = current_user)`,
  );
  return { resolves: rows[0]?.[0] === true, limitsFiles: rows[0]?.[1] === true };
}

/** Looks at the role of every read. */
export async function readPosture(postgres: Postgres, options: { signal: AbortSignal }): Promise<Posture> {
  const { rows } = await postgres.read((tx) => tx.query(postureQuery), options);
  const [user, database, superuser, serverFiles, writes] = rows[0] ?? [];
  return {
    user: String(user),
    database: String(database),
    superuser: superuser === true,
    serverFiles: serverFiles === true,
    writes: writes === true,
  };
}

/** One line in plain words about how much the role of the reads could do if every guard failed. */
export function describePosture(posture: Posture): string {
  const role = `reads as ${posture.user}`;
  if (posture.superuser) return `${role}, a superuser: give POSTGRES_READER_USER a role that may only SELECT`;
  if (posture.serverFiles) return `${role}, who may reach the server's files: give POSTGRES_READER_USER a lesser role`;
  if (posture.writes) return `${role}, who may also write: a role for POSTGRES_READER_USER would bar that`;
  return `${role}, who may only read`;
}
