import type { Postgres } from "./postgres.ts";

/** What the role that reads may do beyond reading, and what the server lets us do to judge a statement. */
export interface Posture {
  user: string;
  database: string;
  serverVersion: number;
  superuser: boolean;
  /** Member of the roles that read or write the server's files or run programs. */
  serverFiles: boolean;
  /** May write at least one table of its own or of others. */
  writes: boolean;
  /** A standby takes no temporary functions. */
  standby: boolean;
  /** May create temporary objects, which judging a statement needs. */
  temporary: boolean;
}

const postureQuery = `
SELECT current_user, current_database(), current_setting('server_version_num')::int4,
  (SELECT rolsuper FROM pg_roles WHERE rolname = current_user),
  EXISTS (SELECT FROM pg_roles WHERE rolname IN ('pg_read_server_files', 'pg_write_server_files', 'pg_execute_server_program')
          AND pg_has_role(current_user, oid, 'MEMBER')),
  EXISTS (SELECT FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
          WHERE c.relkind IN ('r', 'p') AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'
          AND has_table_privilege(c.oid, 'INSERT, UPDATE, DELETE, TRUNCATE')),
  pg_is_in_recovery(), has_database_privilege(current_database(), 'TEMP')`;

/** Looks at the role of every read. */
export async function readPosture(postgres: Postgres, options: { signal: AbortSignal }): Promise<Posture> {
  const { rows } = await postgres.read((tx) => tx.query(postureQuery), options);
  const [user, database, serverVersion, superuser, serverFiles, writes, standby, temporary] = rows[0] ?? [];
  return {
    user: String(user),
    database: String(database),
    serverVersion: Number(serverVersion),
    superuser: superuser === true,
    serverFiles: serverFiles === true,
    writes: writes === true,
    standby: standby === true,
    temporary: temporary === true,
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
