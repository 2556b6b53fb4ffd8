import { clip, nearest, ToolError } from "@es-to-pg/mcp-kit";
import { isServerError, translate } from "../errors.ts";
import {
  nearestTables,
  quoteIdentifier,
  quoteLiteral,
  readTable,
  type TablePolicy,
  type Transaction,
} from "../postgres/index.ts";
import type { QueryRequest } from "./request.ts";
import { explained } from "./sql-mistakes.ts";

const namePattern = String.raw`(?:"(?:[^"]|"")+"|[\p{L}_][\p{L}\p{N}_$]*)`;
const qualifiedName = new RegExp(`^${namePattern}(?:\\s*\\.\\s*${namePattern})*`, "u");

/** Adds the nearest names that exist to an error about a name that does not. */
export async function withNearest(error: unknown, request: QueryRequest): Promise<unknown> {
  const written = request.sql.slice(request.ownCharacters ?? 0);
  if (error instanceof ToolError && error.code === "sql_refused" && request.ownCharacters === undefined) {
    return explained(written, error, request) ?? error;
  }
  if (!isServerError(error)) return error;
  if (NO_STATEMENT.has(error.code) && request.ownCharacters === undefined) {
    const refusal = translate(error);
    return (refusal === undefined ? undefined : explained(written, refusal, request)) ?? error;
  }
  if (error.code !== "42P01" && error.code !== "42703") return error;
  const known = translate(error);
  if (known === undefined || error.position === undefined) return error;
  const position = Number(error.position) - 1 + (request.ownCharacters ?? 0);
  const name = qualifiedName.exec(request.sql.slice(position))?.[0] ?? "";
  const parts = [...name.matchAll(/"((?:[^"]|"")+)"|([\p{L}_][\p{L}\p{N}_$]*)/gu)].map(
    ([, quoted, plain]) => quoted?.replaceAll('""', '"') ?? plain?.toLowerCase() ?? "",
  );
  try {
    const found = await request.postgres.read(
      (tx) =>
        error.code === "42P01" ? nearTables(tx, parts, request.policy) : nearColumns(tx, parts.at(-1) ?? "", request),
      { signal: request.signal },
    );
    const { code, message, retryable, next, details } = known;
    const corrected = found[0] === undefined ? undefined : await correctedName(found[0], parts, error.code, request);
    const isValue = found.length === 0 && error.code === "42703" && name.startsWith('"') && parts.length === 1;
    const change = isValue ? quoteLiteral(parts[0] ?? "") : corrected;
    const sql =
      change === undefined
        ? undefined
        : written.slice(0, Number(error.position) - 1) +
          change +
          written.slice(Number(error.position) - 1 + name.length);
    const say = isValue ? "Double quotation marks name a column; a value stands in single ones, or in params." : next;
    return new ToolError(code, message, {
      retryable,
      details: { ...details, nearest: found.map((near) => clip(near, 130)) },
      cause: error,
      ...(say === undefined ? {} : { next: say }),
      // A condition ends with what this server has put behind it.
      ...(sql === undefined
        ? {}
        : {
            instead: { arguments: request.ownCharacters === undefined ? { sql } : { where: sql.replace(/\n\)$/, "") } },
          }),
    });
  } catch {
    // The hint is a courtesy; without it the error still says what is wrong.
    return known;
  }
}

/** SQLSTATEs of what is no statement at all, or one that the server cannot look at: syntax, an unknown setting. */
const NO_STATEMENT = new Set(["42601", "42704"]);

/** The nearest name as it stands in SQL, qualified as the wrong one was. */
async function correctedName(
  near: string,
  parts: readonly string[],
  code: string,
  { postgres, signal }: QueryRequest,
): Promise<string> {
  if (code === "42703") return [...parts.slice(0, -1), near].map(identifierText).join(".");
  const found = await postgres.read((tx) => readTable(tx, { table: near }), { signal });
  return found === undefined ? near : [found.schema, found.table].map(identifierText).join(".");
}

/** A name quoted where it needs to be. */
function identifierText(name: string): string {
  return /^[a-z_][a-z0-9_]*$/.test(name) ? name : quoteIdentifier(name);
}

async function nearTables(tx: Transaction, parts: readonly string[], policy: TablePolicy): Promise<string[]> {
  const [first = "", second] = parts;
  return await nearestTables(tx, second === undefined ? { table: first } : { schema: first, table: second }, policy);
}

/** Columns of the tables that the statement speaks of, judged by the words in it. */
async function nearColumns(tx: Transaction, column: string, { sql }: QueryRequest): Promise<string[]> {
  const words = new Set([...sql.matchAll(/[\p{L}_][\p{L}\p{N}_$]*/gu)].flatMap(([word]) => [word, word.toLowerCase()]));
  const { rows } = await tx.query(
    `SELECT DISTINCT a.attname FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid
     WHERE c.relname = ANY($1::name[]) AND c.relkind IN ('r', 'p', 'v', 'm', 'f') AND a.attnum > 0 AND NOT a.attisdropped
     LIMIT 5000`,
    [[...words].slice(0, 1_000)],
  );
  return nearest(
    column,
    rows.map(([name]) => String(name)),
  );
}
