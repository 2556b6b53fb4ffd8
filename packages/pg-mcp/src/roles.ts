import { connections, type PgSettings } from "./config.ts";
import { connectionsOfRoleMax, defaultSchemas, quoteIdentifier } from "./postgres/index.ts";

const reader = "pg_mcp_reader";
const writer = "pg_mcp_writer";

/** Sessions that each role may have: for as many pg-mcp as the autoscaler of archestra/kubernetes makes at most. */
const connectionLimit = 8 * connectionsOfRoleMax;

/**
 * SQL for an administrator: a role for every read, which may only SELECT, and one for the tools that write. It holds no
 * password, so that none is left in a terminal or a file.
 */
export function rolesSql(settings: PgSettings): string {
  const database = quoteIdentifier(connections(settings).writer.database);
  const schemas = defaultSchemas({
    schemasAllow: settings.PG_MCP_SCHEMAS_ALLOW,
    schemasDeny: settings.PG_MCP_SCHEMAS_DENY,
    tablesAllow: [],
    tablesDeny: [],
  });
  const state = quoteIdentifier(settings.PG_MCP_STATE_SCHEMA);
  const lines = [
    `-- Roles for pg-mcp. Run as a superuser in the database ${database}, then give each role a password:`,
    `--   \\password ${reader}`,
    `--   \\password ${writer}`,
    `-- and set POSTGRES_USER=${writer}, POSTGRES_READER_USER=${reader}, with POSTGRES_PASSWORD_FILE and POSTGRES_READER_PASSWORD_FILE.`,
    `-- A pg-mcp has at most ${connectionsOfRoleMax} sessions of each role; max_connections must have room for all of them.`,
    ...[reader, writer].map(
      (role) =>
        `CREATE ROLE ${role} LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION NOBYPASSRLS CONNECTION LIMIT ${connectionLimit};`,
    ),
    "",
    "-- Temporary objects are what the server judges statements by; without them it judges more strictly, by the text.",
    `GRANT CONNECT, TEMPORARY ON DATABASE ${database} TO ${reader}, ${writer};`,
    `ALTER ROLE ${reader} SET default_transaction_read_only = on;`,
    `ALTER ROLE ${reader} SET statement_timeout = '60s';`,
    `ALTER ROLE ${reader} SET temp_file_limit = '1GB';`,
    "",
    "-- The server's own state: loads, rejects, audit.",
    `CREATE SCHEMA IF NOT EXISTS ${state} AUTHORIZATION ${writer};`,
    ...schemas
      .map(quoteIdentifier)
      .flatMap((schema) => [
        "",
        `-- Tables of ${schema}, those that are there and those that ${writer} makes.`,
        `GRANT USAGE ON SCHEMA ${schema} TO ${reader};`,
        `GRANT SELECT ON ALL TABLES IN SCHEMA ${schema} TO ${reader};`,
        `ALTER DEFAULT PRIVILEGES FOR ROLE ${writer} IN SCHEMA ${schema} GRANT SELECT ON TABLES TO ${reader};`,
        `GRANT USAGE, CREATE ON SCHEMA ${schema} TO ${writer};`,
        `GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA ${schema} TO ${writer};`,
        `GRANT USAGE, SELECT ON ALL SEQUENCES IN SCHEMA ${schema} TO ${writer};`,
      ]),
  ];
  return `${lines.join("\n")}\n`;
}
