import { databaseDuration, type Operation } from "@es-to-pg/mcp-kit";

/** Statements by their first word. A foreign statement may begin with anything. */
const STATEMENTS = new Set(
  "ALTER ANALYZE BEGIN CLOSE COMMENT COMMIT COPY CREATE DECLARE DELETE DISCARD DROP EXPLAIN FETCH GRANT INSERT LOCK MERGE MOVE RELEASE ROLLBACK SAVEPOINT SELECT SET SHOW TABLE TRUNCATE UPDATE VALUES WITH".split(
    " ",
  ),
);

/** Where a session is. */
export interface SessionPlace {
  host: string;
  port: number;
  database: string;
}

/**
 * A statement, as the semantic conventions of databases have it, but for its text: what people and models write has
 * values in it, and so have the statements that are made of a mapping.
 */
export function statementOperation(sql: string, place: SessionPlace): Operation {
  const word = /^\s*([A-Za-z]{3,9})\b/.exec(sql)?.[1]?.toUpperCase() ?? "";
  return databaseOperation(STATEMENTS.has(word) ? word : "OTHER", place);
}

/** Anything else that a session is asked for. */
export function databaseOperation(
  name: "CONNECT" | "DESCRIBE" | (string & {}),
  { host, port, database }: SessionPlace,
): Operation {
  return {
    name: `${name} ${database}`,
    kind: "client",
    attributes: {
      "db.system.name": "postgresql",
      "db.operation.name": name,
      "db.namespace": database,
      "server.address": host,
      "server.port": port,
    },
    duration: databaseDuration,
  };
}
