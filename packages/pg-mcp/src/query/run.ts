import { ToolError } from "@es-to-pg/mcp-kit";
import { isServerError, type ServerError } from "../errors.ts";
import {
  AnswerTooLarge,
  type BatchStatement,
  type Capabilities,
  defaultSchemas,
  type QueryResult,
  quoteIdentifier,
  quoteLiteral,
  type TablePolicy,
  type Transaction,
} from "../postgres/index.ts";
import {
  clippingStatement,
  fetchOf,
  fetchRowsOf,
  firstFetches,
  resultTooLarge,
  serverClipCharactersMax,
  shape,
} from "./answer.ts";
import { isShowableSetting, type JudgePolicy } from "./function-policy.ts";
import type { Grounds } from "./grounds.ts";
import { judgeQueries, judgeStatement, judgesAsFunction, type Resolved, resolveAtOnce } from "./judge.ts";
import { judgeText } from "./judge-text.ts";
import { refuseRunningLiterals } from "./literals.ts";
import { withNearest } from "./near-names.ts";
import { encodeParameter } from "./parameters.ts";
import { parseText } from "./parse-text.ts";
import { refusedWriting } from "./refusals.ts";
import type { QueryAnswer, QueryRequest } from "./request.ts";
import { type Judged, runJudged, whileGroundsHold } from "./run-judged.ts";
import { checkSqlText, readStatement } from "./sql-text.ts";

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

/** Judges by what the server resolves; undefined where it cannot, or turns out not to. */
async function judgeIfWritable(
  tx: Transaction,
  options: { sql: string; parameterTypes: readonly string[]; policy: JudgePolicy; resolved: Resolved | undefined },
): Promise<Grounds | undefined> {
  const { sql, parameterTypes, policy, resolved } = options;
  if (resolved !== undefined) return await judgeQueries(tx, resolved, policy);
  try {
    return await judgeStatement(tx, { sql, parameterTypes, policy });
  } catch (error) {
    if (!isServerError(error) || !isRefusalToResolve(error)) throw error;
    await goBack(tx);
    return undefined;
  }
}

/**
 * Whether it is not the statement, which has been described, but what resolves it that the server does not take: it is
 * read-only, as behind some poolers, a right was withdrawn just now, or an event trigger objects.
 */
function isRefusalToResolve({ code, where }: ServerError): boolean {
  return code === "25006" || code === "42501" || code === "P0001" || where?.startsWith("PL/") === true;
}

function isSyntaxError(error: unknown): boolean {
  return isServerError(error) ? error.code === "42601" : error instanceof ToolError && error.code === "syntax_error";
}

/** Where the transaction was before anything foreign had been sent. */
async function goBack(tx: Transaction): Promise<void> {
  await tx.query(`ROLLBACK TO SAVEPOINT ${savepoint}`);
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
    `SELECT b.typtype = 'c' FROM pg_catalog.pg_type t JOIN pg_catalog.pg_type b ON b.oid = coalesce(nullif(t.typbasetype, '0'), t.oid)
     WHERE t.oid = pg_catalog.to_regtype($1)::oid`,
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
 * Names are looked for in the server's own schema first, and among temporary objects last. In between come the schemas
 * of the settings, or those of the role's own search path. Where the server's own schema has a function or an operator
 * of the very types, it is that one; where types only match after a conversion, one in those schemas may match better.
 * So our own questions compare values of one type, and name the schema of what takes any type. The statement below runs
 * by the role's own search path, which may have any schema first: it names the schema of everything.
 */
function sessionSetup(policy: TablePolicy, limitsFiles: boolean): BatchStatement[] {
  const path =
    policy.schemasAllow.length > 0
      ? quoteLiteral(defaultSchemas(policy).map(quoteIdentifier).join(", "))
      : "CASE WHEN pg_catalog.current_setting('search_path') OPERATOR(pg_catalog.<>) '' THEN pg_catalog.current_setting('search_path') END";
  const settings = [
    `pg_catalog.set_config('search_path', pg_catalog.concat_ws(', ', 'pg_catalog', ${path}, 'pg_temp'), true)`,
    `CASE WHEN pg_catalog.pg_size_bytes(pg_catalog.current_setting('work_mem')) OPERATOR(pg_catalog.>) pg_catalog.pg_size_bytes('${workMemoryMax}')
       THEN pg_catalog.set_config('work_mem', '${workMemoryMax}', true) END`,
    ...(limitsFiles ? [`pg_catalog.set_config('temp_file_limit', '${temporaryFilesMax}', true)`] : []),
    // Our own questions to the catalog are planned once, for whatever they are asked of.
    "pg_catalog.set_config('plan_cache_mode', 'force_generic_plan', true)",
  ];
  return [
    { sql: `SELECT ${settings.join(", ")}`, kept: true },
    { sql: `SAVEPOINT ${savepoint}`, kept: true },
  ];
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
  const { rows } = await request.postgres.scratch(
    (tx) => tx.query("SELECT pg_catalog.current_setting($1)", [setting]),
    {
      ...request,
      writable: false,
    },
  );
  return { columns: [{ name: setting, type: "text" }], rows, cutBy: null, clipped: 0 };
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
