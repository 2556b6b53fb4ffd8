import { clip, ToolError } from "@es-to-pg/mcp-kit";
import { StagingError } from "@es-to-pg/staging";

/** What pg's DatabaseError carries; told by its shape, so that this leaf does not load the driver. */
export interface ServerError extends Error {
  /** SQLSTATE. */
  code: string;
  severity: string;
  position?: string | undefined;
  hint?: string | undefined;
  /** The calls that it came from. */
  where?: string | undefined;
  schema?: string | undefined;
  table?: string | undefined;
  column?: string | undefined;
  dataType?: string | undefined;
  constraint?: string | undefined;
}

/** Whether an error is one that the database answered with. */
export function isServerError(error: unknown): error is ServerError {
  return (
    error instanceof Error &&
    "severity" in error &&
    "code" in error &&
    typeof error.code === "string" &&
    /^[0-9A-Z]{5}$/.test(error.code)
  );
}

interface Meaning {
  code: string;
  retryable?: boolean;
  next?: string;
}

const meanings: Readonly<Record<string, Meaning>> = {
  "0A000": { code: "not_supported" },
  "22012": { code: "invalid_value", next: "Guard the divisor: x / nullif(y, 0)." },
  "22007": {
    code: "invalid_value",
    next: "Write dates as 2025-01-31 or 2025-01-31T10:00:00Z; for a time ago compute it in SQL: now() - interval '1 month'.",
  },
  "22P02": {
    code: "invalid_value",
    next: "Give the value in the form of its type: digits for a number, true or false, 2025-01-31 for a date.",
  },
  "22": { code: "invalid_value", next: "Filter or cast the value, or give it in another form." },
  "23502": { code: "not_null_violation", next: "Give the column a value." },
  "23503": { code: "foreign_key_violation", next: "Load the referenced rows first." },
  "23505": { code: "unique_violation", next: "Use on_conflict or another key." },
  "23514": { code: "check_violation", next: "Call get_schema for the check's definition." },
  "23": { code: "constraint_violation" },
  "25006": {
    code: "read_only",
    next: "Send a SELECT; writing goes through insert_data, create_table and bulk_insert.",
  },
  "40001": { code: "serialization_failure", retryable: true, next: "Make the same call again." },
  "40P01": { code: "deadlock", retryable: true, next: "Make the same call again." },
  "42501": { code: "permission_denied", next: "Let an administrator grant this role the right, or use another table." },
  "42601": { code: "syntax_error", next: "Correct the SQL at the position given." },
  "42703": {
    code: "column_not_found",
    next: "Call get_schema for the columns; names that AS gives are unknown in WHERE and HAVING.",
  },
  "42803": { code: "sql_invalid", next: "Name the column in GROUP BY too, or aggregate it: max(column)." },
  "42P01": { code: "table_not_found", next: "Call list_tables for the tables." },
  "42P02": { code: "parameter_missing", next: "Give params one value for each of $1, $2 …" },
  "42725": { code: "sql_invalid", next: "Cast the arguments or parameters: $1::int." },
  "42P18": { code: "sql_invalid", next: "Cast the parameter: $1::text." },
  "42883": {
    code: "function_not_found",
    next: "Check the function's name and the types of its arguments; cast them if needed.",
  },
  "42": { code: "sql_invalid", next: "Correct the SQL." },
  "53100": {
    code: "disk_full",
    retryable: true,
    next: "Make room on the database server, then make the same call again.",
  },
  "53": { code: "database_out_of_resources", retryable: true, next: "Ask for less at once, or try later." },
  "54": { code: "statement_too_complex", next: "Split the statement." },
  "55P03": { code: "lock_timeout", retryable: true, next: "Another session holds the table; try again later." },
  "57014": { code: "statement_timeout", next: "Narrow the statement with a filter, or raise timeout_seconds." },
  "57": { code: "database_unavailable", retryable: true, next: "Wait until the server is back, then call again." },
  "08": { code: "connection_lost", retryable: true, next: "Make the same call again." },
  "3F000": { code: "schema_not_found", next: "Call list_tables for the schemas." },
  "58": { code: "database_failed" },
  XX: { code: "database_failed" },
};

/** What to do where the server's words tell more than its code: ways of other databases above all. */
const advice: readonly (readonly [message: RegExp, next: string])[] = [
  [/^malformed array literal/, "Ask for one element as 'x' = ANY(column); a whole array is '{a,b}'."],
  [/^operator does not exist: (?:date|timestamp).* ~~/, "Compare times: c >= '2025-01-01' AND c < '2026-01-01'."],
  [/^function (?:ifnull|nvl|isnull)\(/, "Write coalesce(a, b)."],
  [/^function (?:date_format|strftime|format)\(/, "Write to_char(column, 'YYYY-MM-DD')."],
  [/^function (?:getdate|sysdate|curdate)\(/, "Write now() or current_date."],
  [/^function (?:date_add|dateadd|date_sub|datediff)\(/, "Calculate with times: column + interval '1 day', a - b."],
  [/^function (?:year|month|day|hour)\(/, "Write extract(year FROM column)."],
  [/^function (?:group_concat|listagg)\(/, "Write string_agg(column, ',')."],
  [/^function len\(/, "Write length(column)."],
  [/^function (?:json_extract|json_value|get_json_object)\(/, "Write column ->> 'key', deeper column #>> '{a,b}'."],
  [/^function round\((?:real|double precision), integer\)/, "Write round(column::numeric, 2)."],
];

/** A message of the server without the values it quotes: they are somebody's data. */
function withoutValues(error: ServerError): string {
  if (!error.code.startsWith("22") && !error.code.startsWith("23")) return error.message;
  // A constraint's own message names columns and relations only; of class 22 everything quoted is a value.
  return error.code.startsWith("23")
    ? error.message
    : error.message.replaceAll(/"[^]*"/g, "(a value)").replace(/: [^:(]*$/, "");
}

const messageCharactersMax = 300;

/** Makes a `ToolError` of what the database or the staging store failed with; undefined for anything else. */
export function translate(error: unknown): ToolError | undefined {
  if (error instanceof StagingError) {
    const { code, message, retryable, next, details } = error;
    return new ToolError(code, message, { retryable, details, cause: error, ...(next === undefined ? {} : { next }) });
  }
  if (!isServerError(error)) return undefined;
  const meaning = meanings[error.code] ?? meanings[error.code.slice(0, 2)] ?? { code: "database_error" };
  const next = advice.find(([message]) => message.test(error.message))?.[1] ?? meaning.next;
  const fields = {
    sqlstate: error.code,
    position: error.position === undefined ? undefined : Number(error.position),
    hint: error.hint === undefined ? undefined : clip(error.hint, messageCharactersMax),
    schema: error.schema,
    table: error.table,
    column: error.column,
    type: error.dataType,
    constraint: error.constraint,
  };
  const details = Object.fromEntries(Object.entries(fields).filter(([, value]) => value !== undefined));
  return new ToolError(meaning.code, `PostgreSQL: ${clip(withoutValues(error), messageCharactersMax)}.`, {
    retryable: meaning.retryable ?? false,
    details,
    cause: error,
    ...(next === undefined ? {} : { next }),
  });
}
