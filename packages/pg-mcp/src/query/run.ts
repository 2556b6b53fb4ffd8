import { setTimeout as sleep } from "node:timers/promises";
import { clip, nearest, ToolError } from "@es-to-pg/mcp-kit";
import { isServerError, translate } from "../errors.ts";
import {
  AnswerTooLarge,
  type BatchAnswer,
  type BatchStatement,
  type Capabilities,
  defaultSchemas,
  failedStatement,
  nearestTables,
  type Postgres,
  type QueryResult,
  quoteIdentifier,
  quoteLiteral,
  readTable,
  type TablePolicy,
  type Transaction,
} from "../postgres/index.ts";
import { isShowableSetting, type JudgePolicy } from "./function-policy.ts";
import { canGroundsChange, type Grounds, groundsHold } from "./grounds.ts";
import {
  endedTransactions,
  judgeQueries,
  judgeStatement,
  judgesAsFunction,
  type Resolved,
  resolveAtOnce,
} from "./judge.ts";
import { judgeText } from "./judge-text.ts";
import { refuseRunningLiterals } from "./literals.ts";
import { encodeParameter } from "./parameters.ts";
import { parseText } from "./parse-text.ts";
import { refusedWriting } from "./refusals.ts";
import { explained } from "./sql-mistakes.ts";
import { checkSqlText, readStatement } from "./sql-text.ts";

export interface QueryRequest {
  postgres: Postgres;
  sql: string;
  params: readonly unknown[];
  /** The values are the texts that the server reads. Default: they are written as the types of the parameters want it. */
  areParamsTexts?: boolean;
  /** At most this many rows are answered; one more is fetched to know whether there are more. */
  rowsMax: number;
  /** Fetching stops when the rows' JSON has this many bytes. */
  bytesMax: number;
  timeoutMs: number;
  policy: TablePolicy;
  functionsAllow: readonly string[];
  signal: AbortSignal;
  /** Whether the server has tools that write, which an error may name. Default true. */
  isWritable?: boolean;
  /** Characters before the caller's own text in `sql`, for the positions in errors. */
  ownCharacters?: number;
}

export interface QueryAnswer {
  columns: { name: string; type: string }[];
  rows: unknown[][];
  /** What ended the fetching before the last row. */
  cutBy: "rows" | "bytes" | null;
  /** Values that were shortened. */
  clipped: number;
}

/** What the server may send for one FETCH before the connection is closed: a value of 1 GB must not be held here. */
const fetchBytesMax = 8 * 1024 * 1024;
const firstFetchRows = 20;
const fetchRows = 200;
/** Longest value shown where there are several; one in a wide row gets less. */
const cellCharactersMax = 1_000;
const cellCharactersMin = 40;
/** What the server leaves of a long value; with the note about its length it stays below the other limit. */
const serverClipCharactersMax = 900;

/**
 * Runs one foreign statement that reads. It cannot write by construction: one statement by the extended protocol, judged
 * by what the server resolves it to, through a cursor in a READ ONLY transaction that is rolled back, and the session
 * discarded.
 */
export async function runQuery(request: QueryRequest): Promise<QueryAnswer> {
  checkSqlText(request.sql);
  const statement = readStatement(request.sql);
  try {
    if (statement.kind === "show") return await show(request, statement.setting);
    const capabilities = await request.postgres.capabilities({ signal: request.signal });
    try {
      return await whileGroundsHold(() => inScratch(request, capabilities, statement, undefined), request.signal);
    } catch (error) {
      if (!(error instanceof AnswerTooLarge) || statement.kind !== "query") throw error;
    }
    // A value too large to hold: once more, and the server shortens the values.
    return await whileGroundsHold(
      () => inScratch(request, capabilities, statement, serverClipCharactersMax),
      request.signal,
    );
  } catch (error) {
    if (error instanceof AnswerTooLarge) throw resultTooLarge();
    throw await withNearest(shifted(error, statement.kind === "explain" ? statement.offset : 0, request), request);
  }
}

const nothing: QueryResult = { columns: [], rows: [], rowCount: 0 };

type Runnable = Exclude<ReturnType<typeof readStatement>, { kind: "show" }>;

async function inScratch(
  request: QueryRequest,
  { resolves, limitsFiles }: Capabilities,
  statement: Runnable,
  clipAtServer: number | undefined,
): Promise<QueryAnswer> {
  const { postgres, policy, signal, timeoutMs } = request;
  const judgePolicy: JudgePolicy = { functionsAllow: request.functionsAllow, tables: policy };
  return await postgres.scratch(
    async (tx) => {
      await refuseRunningLiterals(tx, statement.sql, judgePolicy);
      const atOnce =
        resolves && request.params.length === 0 && clipAtServer === undefined
          ? await resolveAtOnce(tx, statement.sql, () => goBack(tx))
          : undefined;
      const described = atOnce?.described ?? (await tx.describe(statement.sql));
      const values =
        request.areParamsTexts === true
          ? textsOf(described.parameterTypes, request.params)
          : bindParameters(described.parameterTypes, request.params);
      const { sql, columns } = await callable(tx, statement.sql, described.columns, clipAtServer);
      const parameterTypes = described.parameterTypes;
      const resolved = sql === statement.sql ? atOnce : undefined;
      const judge = async (): Promise<Judged> => {
        const grounds = resolves
          ? await judgeIfWritable(tx, { sql, parameterTypes, policy: judgePolicy, resolved })
          : undefined;
        if (grounds === undefined)
          return { ...(await judgeText(tx, { sql, policy: judgePolicy })), snapshot: undefined };
        return { text: readOfJudged(tx.major, columns, parameterTypes), grounds, snapshot: resolved?.snapshot };
      };
      // What answers no columns and is a syntax error where a query stands is none.
      const judged = await judge().catch((error: unknown) => {
        throw described.columns.length === 0 && isSyntaxError(error) ? refusedWriting() : error;
      });
      if (statement.kind === "explain") {
        const [plan = nothing] = await runJudged(tx, judged, [
          { sql: `EXPLAIN ${statement.options} ${judged.text}`, params: values },
        ]);
        return shape(plan.columns, plan.rows, { ...request, cellMax: request.bytesMax });
      }
      const atFirst = firstFetches(request.rowsMax);
      const [, ...fetched] = await runJudged(tx, judged, [
        { sql: `DECLARE answer NO SCROLL CURSOR FOR ${judged.text}`, params: values },
        ...atFirst.map((count) => ({ sql: fetchOf(count) })),
      ]);
      const answer = await fetchRowsOf(tx, request, { columns, fetched });
      const rows = described.columns.length === 0 ? answer.rows.map(() => []) : answer.rows;
      // The types that the values have, not those of their shortened text.
      return {
        ...answer,
        rows,
        columns: described.columns,
        clipped: answer.clipped + (clipAtServer === undefined ? 0 : 1),
      };
    },
    { signal, timeoutMs, writable: resolves, setup: sessionSetup(policy, limitsFiles) },
  );
}

/** How long a statement is judged anew, as long as somebody changes or locks what it reads. */
const rejudgeMs = 2_000;
const rejudgePauseMs = 50;

async function whileGroundsHold<T>(work: () => Promise<T>, signal: AbortSignal): Promise<T> {
  for (const deadline = Date.now() + rejudgeMs; ; await sleep(rejudgePauseMs, undefined, { signal })) {
    try {
      return await work();
    } catch (error) {
      if (!(error instanceof GroundsGone)) throw error;
      if (Date.now() < deadline) continue;
      if (isLockTimeout(error.cause)) throw error.cause;
      throw new ToolError("tables_changing", "What the statement reads is being changed by another session.", {
        retryable: true,
        next: "Make the same call again when the tables are left alone.",
        cause: error,
      });
    }
  }
}

/** Judges by what the server resolves; undefined where it cannot, or turns out to be read-only, as behind some poolers. */
async function judgeIfWritable(
  tx: Transaction,
  options: { sql: string; parameterTypes: readonly string[]; policy: JudgePolicy; resolved: Resolved | undefined },
): Promise<Grounds | undefined> {
  const { sql, parameterTypes, policy, resolved } = options;
  if (resolved !== undefined) return await judgeQueries(tx, resolved.queries, policy);
  try {
    return await judgeStatement(tx, { sql, parameterTypes, policy });
  } catch (error) {
    if (!isServerError(error) || error.code !== "25006") throw error;
    await goBack(tx);
    return undefined;
  }
}

/** What is run for a statement, and what lets it run. */
interface Judged {
  text: string;
  grounds: Grounds;
  snapshot: string | undefined;
}

function isSyntaxError(error: unknown): boolean {
  return isServerError(error) ? error.code === "42601" : error instanceof ToolError && error.code === "syntax_error";
}

/** Where the transaction was before anything foreign had been sent. */
async function goBack(tx: Transaction): Promise<void> {
  await tx.query(`ROLLBACK TO SAVEPOINT ${savepoint}`);
}

/** Between the judgement and the plan somebody has added, or locked, what the plan would have been made with. */
class GroundsGone extends Error {
  override readonly name = "GroundsGone";
}

/**
 * How long the plan waits for a lock. The relations are locked since they were judged; whoever holds an index or an
 * inheriting table just now could add to them while the plan waits.
 */
const planLockTimeoutMs = 1;

/**
 * Runs what was judged, with what the judgement rests on looked at once more right before the plan is made: the
 * statements travel together, so that there is no time between the two but the server's own. Where there are several,
 * the last may fail; its result then says so.
 */
async function runJudged(
  tx: Transaction,
  { grounds, snapshot }: Judged,
  statements: readonly BatchStatement[],
): Promise<BatchAnswer[]> {
  const send = async (before: readonly BatchStatement[]): Promise<BatchAnswer[]> => {
    const limits = { answerBytesMax: fetchBytesMax, lastMayFail: statements.length > 2 };
    return (await tx.batch([...before, ...statements], limits)).slice(before.length);
  };
  const asItIsRun = [{ sql: "SET TRANSACTION READ ONLY" }, { sql: "SET LOCAL plan_cache_mode = DEFAULT" }];
  if (!canGroundsChange(grounds)) return await send(asItIsRun);
  const lockTimeout = { sql: `SET LOCAL lock_timeout = ${planLockTimeoutMs}` };
  const run = (before: readonly BatchStatement[], guard: BatchStatement) =>
    ifGuarded(send([...before, guard]), before.length);
  if (snapshot !== undefined) {
    // Where no transaction at all has ended in between, nobody need look what it did: that is planned faster.
    const guard = {
      sql: `SELECT 1 / CASE ${endedTransactions} WHEN $1 THEN 1 ELSE 0 END`,
      params: [snapshot],
      kept: true,
    };
    const before = [...asItIsRun, lockTimeout, { sql: `SAVEPOINT ${beforeRun}` }];
    try {
      return await run(before, guard);
    } catch (error) {
      if (!(error instanceof GroundsGone) || isLockTimeout(error.cause)) throw error;
    }
    return await run([{ sql: `ROLLBACK TO SAVEPOINT ${beforeRun}` }], groundsHold(grounds, tx.major));
  }
  return await run([...asItIsRun, lockTimeout], groundsHold(grounds, tx.major));
}

/** Where a judged statement goes back to when more has to be known before it runs. */
const beforeRun = "before_running";

function isLockTimeout(error: unknown): boolean {
  return isServerError(error) && error.code === "55P03";
}

/** Tells what the guard, or the plan right behind it, met from the statement's own failures. */
async function ifGuarded<T>(work: Promise<T>, guard: number): Promise<T> {
  try {
    return await work;
  } catch (error) {
    const failed = failedStatement(error);
    const isAdded = failed === guard && isServerError(error) && error.code === "22012";
    if (isAdded || (failed === guard + 1 && isLockTimeout(error))) throw new GroundsGone("", { cause: error });
    throw error;
  }
}

/** What one foreign statement may write to temporary files, where the role may say so. */
const temporaryFilesMax = "1GB";
/** What one sort or hash of a foreign statement may take of the server's memory, unless the server gives less. */
const workMemoryMax = "64MB";

const pseudoTypes = /^(?:record|cstring|void|unknown|internal|any\w*|trigger)(?:\[\])?$/;

/**
 * The statement in a form whose result can be called for by the names and types of its columns, so that it is what was
 * judged that runs: a result of no columns gets one, and a column of no real type is read as text.
 */
async function callable(
  tx: Transaction,
  sql: string,
  columns: QueryResult["columns"],
  clipAtServer: number | undefined,
): Promise<{ sql: string; columns: QueryResult["columns"] }> {
  const isPseudo = columns.map(({ type }) => pseudoTypes.test(type));
  // A function that answers one row type answers the columns of that type.
  if (columns.length === 1 && (await isRowType(tx, columns[0]?.type ?? ""))) isPseudo[0] = true;
  if (clipAtServer === undefined && columns.length > 0 && !isPseudo.includes(true)) return { sql, columns };
  const inner = await withoutEnd(sql);
  if (clipAtServer !== undefined) {
    const clipping = clippingStatement(inner, columns, clipAtServer);
    return { sql: clipping, columns: (await tx.describe(clipping)).columns };
  }
  if (columns.length === 0) {
    return {
      sql: `SELECT NULL::pg_catalog.text AS c0 FROM (${inner}\n) AS answer`,
      columns: [{ name: "c0", type: "text" }],
    };
  }
  const names = columns.map((_, index) => `c${index}`);
  const list = names.map((name, index) => (isPseudo[index] === true ? `${name}::pg_catalog.text AS ${name}` : name));
  return {
    sql: `SELECT ${list.join(", ")} FROM (${inner}\n) AS answer(${names.join(", ")})`,
    columns: columns.map(({ name, type }, index) => ({ name, type: isPseudo[index] === true ? "text" : type })),
  };
}

/** Types that are no rows, so that nobody need ask. */
const plainTypes =
  /^(?:boolean|smallint|integer|bigint|numeric|real|double precision|text|character|json|date|timestamp|time|interval|uuid|name|oid)/;

async function isRowType(tx: Transaction, type: string): Promise<boolean> {
  if (plainTypes.test(type) || pseudoTypes.test(type)) return false;
  const { rows } = await tx.query(
    `SELECT b.typtype = 'c' FROM pg_catalog.pg_type t JOIN pg_catalog.pg_type b ON b.oid = coalesce(nullif(t.typbasetype, 0), t.oid)
     WHERE t.oid = pg_catalog.to_regtype($1)`,
    [type],
  );
  return rows[0]?.[0] === true;
}

/** The statement without the semicolons, and the comments behind them, that may end it. */
async function withoutEnd(sql: string): Promise<string> {
  if (!sql.includes(";")) return sql;
  const { bytes } = await parseText(sql);
  return Buffer.from(sql).subarray(0, bytes).toString("utf8");
}

/** The statement as reading what was judged. */
function readOfJudged(major: number, columns: QueryResult["columns"], parameterTypes: readonly string[]): string {
  if (!judgesAsFunction(major)) return "SELECT * FROM pg_temp.judged";
  const list = columns.map(({ type }, index) => `c${index} ${type}`);
  const parameters = parameterTypes.map((_, index) => `$${index + 1}`);
  return `SELECT * FROM pg_temp.judged(${parameters.join(", ")}) AS answer(${list.join(", ")})`;
}

/** Where a judgement that the server would not make goes back to. */
const savepoint = "before_judging";

/**
 * Names are looked for in the server's own schema first, and among temporary objects last: neither can be shadowed. In
 * between come the schemas of the settings, or those of the role's own search path.
 */
function sessionSetup(policy: TablePolicy, limitsFiles: boolean): BatchStatement[] {
  const path =
    policy.schemasAllow.length > 0
      ? quoteLiteral(defaultSchemas(policy).map(quoteIdentifier).join(", "))
      : "nullif(pg_catalog.current_setting('search_path'), '')";
  const settings = [
    `pg_catalog.set_config('search_path', pg_catalog.concat_ws(', ', 'pg_catalog', ${path}, 'pg_temp'), true)`,
    `CASE WHEN pg_catalog.pg_size_bytes(pg_catalog.current_setting('work_mem')) > pg_catalog.pg_size_bytes('${workMemoryMax}')
       THEN pg_catalog.set_config('work_mem', '${workMemoryMax}', true) END`,
    ...(limitsFiles ? [`pg_catalog.set_config('temp_file_limit', '${temporaryFilesMax}', true)`] : []),
    // Our own questions to the catalog are planned once, for whatever they are asked of.
    "pg_catalog.set_config('plan_cache_mode', 'force_generic_plan', true)",
  ];
  return [{ sql: `SELECT ${settings.join(", ")}`, kept: true }, { sql: `SAVEPOINT ${savepoint}` }];
}

/** Values that are written as the server reads them already. */
function textsOf(types: readonly string[], params: readonly unknown[]): (string | null)[] {
  return bindParameters(
    types.map(() => "text"),
    params,
  );
}

/** The values as the server's types for them want them written. */
function bindParameters(types: readonly string[], params: readonly unknown[]): (string | null)[] {
  if (types.length !== params.length) {
    throw new ToolError(
      "parameter_mismatch",
      `The SQL has ${types.length} parameters, params has ${params.length} values.`,
      {
        next:
          types.length === 0
            ? "Leave params out, or write $1, $2 … where the values belong."
            : `Give params one value for each of $1, $2 …: params:[${types.map((type) => `<${type}>`).join(", ")}].`,
        details: { parameter_types: types },
        ...(types.length === 0 ? { instead: { arguments: { params: undefined } } } : {}),
      },
    );
  }
  return params.map((value, index) => encodeParameter(value, types[index] ?? "text"));
}

function fetchOf(rowCount: number): string {
  return `FETCH FORWARD ${rowCount} FROM answer`;
}

/**
 * How many rows the fetches ask for that travel with the statement itself: few, which tell how wide the rows are, and
 * more, which are not needed where the few fill the answer.
 */
function firstFetches(rowsMax: number): number[] {
  const few = Math.min(firstFetchRows, rowsMax + 1);
  const more = Math.min(fetchRows, rowsMax + 1 - few);
  return more === 0 ? [few] : [few, more];
}

async function fetchRowsOf(
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
function shape(
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
function clippingStatement(sql: string, columns: QueryResult["columns"], charactersMax: number): string {
  const short = /^(?:boolean|smallint|integer|bigint|oid|real|double precision|date|timestamp|uuid|time|interval)/;
  const list = columns.map(({ type }, index) => {
    const column = `c${index}`;
    if (short.test(type) && !type.endsWith("[]")) return column;
    const whole = `${column}::text`;
    return `CASE WHEN pg_catalog.length(${whole}) > ${charactersMax} THEN pg_catalog.left(${whole}, ${charactersMax})
      || '… (' || pg_catalog.length(${whole}) || ' characters)' ELSE ${whole} END AS ${column}`;
  });
  const aliases = columns.map((_, index) => `c${index}`);
  // OFFSET keeps a long value from being computed once for every time that it is named here.
  return `SELECT ${list.join(", ")} FROM (SELECT * FROM (${sql}\n) AS whole OFFSET 0) AS answer(${aliases.join(", ")})`;
}

async function show(request: QueryRequest, setting: string): Promise<QueryAnswer> {
  if (setting === "all") {
    const answer = await request.postgres.read(
      (tx) => tx.query("SELECT name, setting, unit FROM pg_settings WHERE name !~ '[.]' ORDER BY name"),
      request,
    );
    const rows = answer.rows.map(([name, ...rest]) =>
      isShowableSetting(String(name)) ? [name, ...rest] : [name, null, null],
    );
    return shape(answer.columns, rows, request);
  }
  if (!isShowableSetting(setting)) {
    throw new ToolError("sql_refused", "This setting may hold a secret and is not shown.", { details: { setting } });
  }
  const { rows } = await request.postgres.scratch((tx) => tx.query("SELECT current_setting($1)", [setting]), {
    ...request,
    writable: false,
  });
  return { columns: [{ name: setting, type: "text" }], rows, cutBy: null, clipped: 0 };
}

function resultTooLarge(): ToolError {
  return new ToolError("result_too_large", "A value of the result is larger than this server holds.", {
    next: "Select less of it: left(column, 1000), length(column), or other columns.",
    details: { bytes_max: fetchBytesMax },
  });
}

function movedBack(error: unknown, characters: number): unknown {
  if (isServerError(error) && error.position !== undefined) {
    error.position = String(Math.max(1, Number(error.position) - characters));
  }
  return error;
}

/** Counts the position in an error from the beginning of what the caller wrote. */
function shifted(error: unknown, offset: number, { ownCharacters = 0 }: QueryRequest): unknown {
  return movedBack(error, ownCharacters - offset);
}

const namePattern = String.raw`(?:"(?:[^"]|"")+"|[\p{L}_][\p{L}\p{N}_$]*)`;
const qualifiedName = new RegExp(`^${namePattern}(?:\\s*\\.\\s*${namePattern})*`, "u");

/** Adds the nearest names that exist to an error about a name that does not. */
async function withNearest(error: unknown, request: QueryRequest): Promise<unknown> {
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
