import type { Postgres } from "./postgres.ts";
import type { Transaction } from "./session.ts";

/** What the role that reads may do beyond reading. */
export interface Posture {
  user: string;
  database: string;
  superuser: boolean;
  /** Member of the roles that read or write the server's files or run programs. */
  serverFiles: boolean;
  /** May end the sessions of others, pass row security, or make roles: what no reader needs. */
  powers: string[];
  /** Tables of its own: their owner may do anything to them. */
  ownedTables: number;
  /** May write at least one table of its own or of others. */
  writes: boolean;
  /** Extensions in this database whose functions reach files, the network or other programs. */
  extensions: string[];
  /** Whether the server itself resolves the names of foreign statements; else they are judged by their text. */
  resolves: boolean;
}

/** Extensions and languages by which code leaves the database. */
const reachingExtensions = [
  "adminpack",
  "dblink",
  "file_fdw",
  "http",
  "mysql_fdw",
  "ogr_fdw",
  "oracle_fdw",
  "pg_cron",
  "pg_net",
  "pg_surgery",
  "pgsql-http",
  "pljavau",
  "plperlu",
  "plpython3u",
  "plpythonu",
  "plrustu",
  "plsh",
  "pltclu",
  "plv8u",
  "postgres_fdw",
  "redis_fdw",
  "tds_fdw",
];

const postureQuery = `
SELECT current_user, current_database(), r.rolsuper,
  EXISTS (SELECT FROM pg_roles WHERE rolname IN ('pg_read_server_files', 'pg_write_server_files', 'pg_execute_server_program')
          AND pg_has_role(current_user, oid, 'MEMBER')),
  concat_ws(',', CASE WHEN r.rolcreaterole THEN 'make roles' END, CASE WHEN r.rolbypassrls THEN 'pass row security' END,
    CASE WHEN r.rolreplication THEN 'replicate' END,
    CASE WHEN EXISTS (SELECT FROM pg_roles WHERE rolname = 'pg_signal_backend' AND pg_has_role(current_user, oid, 'MEMBER'))
      THEN 'end sessions of others' END),
  (SELECT count(*)::int4 FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
   WHERE c.relkind IN ('r', 'p') AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema' AND c.relowner = r.oid),
  EXISTS (SELECT FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
          WHERE c.relkind IN ('r', 'p') AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'
          AND has_table_privilege(c.oid, 'INSERT, UPDATE, DELETE, TRUNCATE')),
  (SELECT coalesce(string_agg(extname, ',' ORDER BY extname), '') FROM pg_extension
   WHERE extname IN (${reachingExtensions.map((name) => `'${name}'`).join(", ")}))
FROM pg_roles r WHERE r.rolname = current_user`;

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
  const [{ rows }, { resolves }] = await Promise.all([
    postgres.read((tx) => tx.query(postureQuery), options),
    postgres.capabilities(options),
  ]);
  const [user, database, superuser, serverFiles, powers, ownedTables, writes, extensions] = rows[0] ?? [];
  return {
    user: String(user),
    database: String(database),
    superuser: superuser === true,
    serverFiles: serverFiles === true,
    powers: wordsIn(powers),
    ownedTables: Number(ownedTables),
    writes: writes === true,
    extensions: wordsIn(extensions),
    resolves,
  };
}

function wordsIn(list: unknown): string[] {
  return typeof list === "string" && list !== "" ? list.split(",") : [];
}

/** One line in plain words about how much the role of the reads could do if every guard failed. */
export function describePosture(posture: Posture): string {
  const { superuser, serverFiles, powers, ownedTables, writes, extensions, resolves } = posture;
  const may = superuser
    ? "a superuser"
    : [
        ...(serverFiles ? ["may reach the server's files"] : []),
        ...(powers.length > 0 ? [`may ${powers.join(" and ")}`] : []),
        ...(ownedTables > 0 ? [`owns ${ownedTables} ${ownedTables === 1 ? "table" : "tables"}`] : []),
        ...(writes && ownedTables === 0 ? ["may also write"] : []),
      ].join(", ");
  return [
    may === ""
      ? `reads as ${posture.user}, who may only read`
      : `reads as ${posture.user}, ${superuser ? may : `who ${may}`}: give POSTGRES_READER_USER a role that may only SELECT (pg-mcp --print-roles)`,
    ...(extensions.length > 0 ? [`extensions that reach outside: ${extensions.join(", ")}`] : []),
    ...(resolves
      ? []
      : ["statements are judged by their text, more strictly: a standby, or no right to temporary objects"]),
  ].join("; ");
}
