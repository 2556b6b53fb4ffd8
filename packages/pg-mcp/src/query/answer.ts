import { ToolError } from "@es-to-pg/mcp-kit";
import type { BatchAnswer, QueryResult, Transaction } from "../postgres/index.ts";
import type { QueryAnswer, QueryRequest } from "./request.ts";

/** What the server may send for one FETCH before the connection is closed: a value of 1 GB must not be held here. */
export const fetchBytesMax = 8 * 1024 * 1024;
const firstFetchRows = 20;
const fetchRows = 200;
/** Longest value shown where there are several; one in a wide row gets less. */
const cellCharactersMax = 1_000;
const cellCharactersMin = 40;
/** What the server leaves of a long value; with the note about its length it stays below the other limit. */
export const serverClipCharactersMax = 900;

export function fetchOf(rowCount: number): string {
  return `FETCH FORWARD ${rowCount} FROM answer`;
}

/**
 * How many rows the fetches ask for that travel with the statement itself: few, which tell how wide the rows are, and
 * more, which are not needed where the few fill the answer.
 */
export function firstFetches(rowsMax: number): number[] {
  const few = Math.min(firstFetchRows, rowsMax + 1);
  const more = Math.min(fetchRows, rowsMax + 1 - few);
  return more === 0 ? [few] : [few, more];
}

export async function fetchRowsOf(
  tx: Transaction,
  request: QueryRequest,
  { columns, fetched }: { columns: QueryResult["columns"]; fetched: readonly BatchAnswer[] },
): Promise<QueryAnswer> {
  const rows: unknown[][] = [];
  const atFirst = firstFetches(request.rowsMax);
  let bytes = 0;
  for (let turn = 0; ; turn++) {
    const wanted = atFirst[turn] ?? Math.min(fetchRows, request.rowsMax + 1 - rows.length);
    const answer: QueryResult & Pick<BatchAnswer, "failure"> =
      fetched[turn] ?? (await tx.query(fetchOf(wanted), [], { answerBytesMax: fetchBytesMax }));
    if (answer.failure !== undefined) throw answer.failure;
    rows.push(...answer.rows);
    for (const row of answer.rows) bytes += charactersOf(row);
    if (answer.rows.length < wanted || rows.length > request.rowsMax || bytes > fetchBytesMax) break;
    // Clipping makes rows smaller than they came, so a few are read beyond what the answer may have.
    if (bytes > request.bytesMax * 4 && shape(columns, rows, request).cutBy === "bytes") break;
  }
  return shape(columns, rows, request);
}

/** Some characters for what is no text; only a sum of many is looked at. */
function charactersOf(row: readonly unknown[]): number {
  return row.reduce<number>((sum, cell) => sum + (typeof cell === "string" ? cell.length : 8), row.length * 2);
}

/** The rows that fit, their long values clipped; the first row is always there. */
export function shape(
  columns: QueryResult["columns"],
  rows: readonly unknown[][],
  { rowsMax, bytesMax, cellMax }: { rowsMax: number; bytesMax: number; cellMax?: number },
): QueryAnswer {
  // Twice the share of a row of ten: most values are short.
  const share = Math.floor((bytesMax * 2) / Math.max(10, columns.length));
  const charactersMax = Math.max(cellCharactersMin, Math.min(cellMax ?? cellCharactersMax, cellMax ?? share));
  let clipped = 0;
  let bytes = 0;
  const shown: unknown[][] = [];
  let cutBy: QueryAnswer["cutBy"] = rows.length > rowsMax ? "rows" : null;
  for (const row of rows.slice(0, rowsMax)) {
    let shortened = 0;
    const cells = row.map((cell) => {
      if (typeof cell !== "string" || cell.length <= charactersMax) return cell;
      shortened++;
      return `${cell.slice(0, charactersMax)}… (${cell.length} characters)`;
    });
    bytes += Buffer.byteLength(JSON.stringify(cells)) + 1;
    if (bytes > bytesMax && shown.length > 0) {
      cutBy = "bytes";
      break;
    }
    shown.push(cells);
    clipped += shortened;
  }
  return { columns, rows: shown, cutBy, clipped };
}

/** The same query with its long values cut at the server, for values too large to be sent. */
export function clippingStatement(sql: string, columns: QueryResult["columns"], charactersMax: number): string {
  const short = /^(?:boolean|smallint|integer|bigint|oid|real|double precision|date|timestamp|uuid|time|interval)/;
  const list = columns.map(({ type }, index) => {
    const column = `c${index}`;
    if (short.test(type) && !type.endsWith("[]")) return column;
    const whole = `${column}::text`;
    return `CASE WHEN pg_catalog.length(${whole}) > ${charactersMax} THEN pg_catalog.left(${whole}, ${charactersMax})
      || '… (' || pg_catalog.length(${whole})::text || ' characters)' ELSE ${whole} END AS ${column}`;
  });
  const aliases = columns.map((_, index) => `c${index}`);
  // OFFSET keeps a long value from being computed once for every time that it is named here.
  return `SELECT ${list.join(", ")} FROM (SELECT * FROM (${sql}\n) AS whole OFFSET 0) AS answer(${aliases.join(", ")})`;
}

export function resultTooLarge(): ToolError {
  return new ToolError("result_too_large", "A value of the result is larger than this server holds.", {
    next: "Select less of it: left(column, 1000), length(column), or other columns.",
    details: { bytes_max: fetchBytesMax },
  });
}
