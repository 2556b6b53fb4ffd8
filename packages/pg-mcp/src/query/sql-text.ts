import { ToolError } from "@es-to-pg/mcp-kit";

/** Longer statements are programs, and programs are not for this door. */
const sqlCharactersMax = 100_000;
/**
 * The server's lexer takes time quadratic in the depth of an unclosed comment and hears no time-out meanwhile (10 000
 * deep: 3 s), so openings are counted wherever they stand, strings included: a count cannot be talked past.
 */
const commentOpeningsMax = 500;
/** The server's parser refuses what is deeper than its stack; this refuses it before. */
const parenthesesDepthMax = 500;

/** Refuses a text that would cost the server before it has judged anything. */
export function checkSqlText(sql: string): void {
  if (sql.trim() === "") throw refused("The SQL is empty.", "Send one SELECT, VALUES, WITH, TABLE, SHOW or EXPLAIN.");
  if (sql.length > sqlCharactersMax) {
    throw refused(
      `The SQL has ${sql.length} characters; the limit is ${sqlCharactersMax}.`,
      "Pass long lists as one array parameter: = ANY($1).",
    );
  }
  if (sql.includes("\0")) throw refused("The SQL holds a NUL character.", "Remove it; text in PostgreSQL holds none.");
  // The driver would send another character for it than the one that was looked at here.
  if (!sql.isWellFormed()) throw refused("The SQL holds half of a surrogate pair.", "Send whole characters.");
  if (sql.split("/*").length - 1 > commentOpeningsMax) {
    throw refused(`The SQL opens more than ${commentOpeningsMax} comments.`, "Remove the comments.");
  }
  let depth = 0;
  for (const character of sql) {
    if (character === "(") depth++;
    else if (character === ")" && depth > 0) depth--;
    if (depth > parenthesesDepthMax) {
      throw refused(`The SQL nests parentheses deeper than ${parenthesesDepthMax}.`, "Flatten the expression.");
    }
  }
}

function refused(message: string, next: string): ToolError {
  return new ToolError("sql_refused", message, { next });
}

export type Statement =
  | { kind: "query"; sql: string }
  | { kind: "explain"; options: string; sql: string /** Where `sql` begins in the text. */; offset: number }
  | { kind: "show"; setting: string };

/** What PostgreSQL takes for blank: less than JavaScript does. */
const blank = /(?:[ \t\n\r\f\v]|--[^\r\n]*(?:[\r\n]|$))/y;

/** Where the first word of the SQL begins: blanks and comments end where PostgreSQL ends them, a line also at CR. */
function skipBlanks(sql: string, from: number): number {
  let position = from;
  for (;;) {
    blank.lastIndex = position;
    const match = blank.exec(sql);
    if (match !== null && match[0] !== "") {
      position += match[0].length;
    } else if (sql.startsWith("/*", position)) {
      let depth = 0;
      do {
        if (sql.startsWith("/*", position)) {
          depth++;
          position += 2;
        } else if (sql.startsWith("*/", position)) {
          depth--;
          position += 2;
        } else position++;
      } while (depth > 0 && position < sql.length);
    } else return position;
  }
}

const explainOptionNames = [
  "analyze",
  "verbose",
  "costs",
  "settings",
  "generic_plan",
  "buffers",
  "wal",
  "timing",
  "summary",
  "memory",
  "format",
];

/** The options of EXPLAIN between their brackets; undefined where none stand there, or a query in brackets does. */
function optionList(sql: string, position: number): string | undefined {
  if (sql[position] !== "(") return undefined;
  const first = /^[a-z]*/i.exec(sql.slice(skipBlanks(sql, position + 1)))?.[0].toLowerCase();
  const end = sql.indexOf(")", position);
  if (end < 0 || first === "" || ["select", "with", "values", "table"].includes(first ?? "")) return undefined;
  return sql.slice(position + 1, end);
}

/** Tells the three kinds of statement apart that are run differently; it judges nothing, the server does. */
export function readStatement(sql: string): Statement {
  const start = skipBlanks(sql, 0);
  const word = /^[a-z]+/i.exec(sql.slice(start))?.[0]?.toLowerCase();
  if (word === "show") {
    const setting =
      /^show[ \t\n\r\f\v]+("?)([a-z_][\w.]*|time[ \t\n\r\f\v]+zone|all|transaction[ \t\n\r\f\v]+isolation[ \t\n\r\f\v]+level)\1[ \t\n\r\f\v]*;?[ \t\n\r\f\v]*$/i.exec(
        sql.slice(start),
      )?.[2];
    if (setting === undefined) throw refused("SHOW takes one name of a setting.", "Send SHOW server_version, say.");
    const name = setting.toLowerCase().replaceAll(/\s+/g, " ");
    const aliases: Record<string, string> = {
      "time zone": "timezone",
      "transaction isolation level": "transaction_isolation",
    };
    return { kind: "show", setting: aliases[name] ?? name };
  }
  if (word !== "explain") return { kind: "query", sql };
  let position = skipBlanks(sql, start + "explain".length);
  const options: string[] = [];
  const list = optionList(sql, position);
  if (list !== undefined) {
    for (const option of list.split(",")) {
      const [, name = "", value] =
        /^[ \t\n\r\f\v]*([a-z_]+)(?:[ \t\n\r\f\v]+([a-z_]+))?[ \t\n\r\f\v]*$/i.exec(option.toLowerCase()) ?? [];
      if (!explainOptionNames.includes(name)) {
        throw new ToolError("sql_refused", "EXPLAIN has no such option.", {
          next: "Use one of the allowed options.",
          details: { option: name === "" ? option.trim().slice(0, 80) : name, allowed: explainOptionNames },
        });
      }
      options.push(value === undefined ? name : `${name} ${value}`);
    }
    position = skipBlanks(sql, position + list.length + 2);
  } else {
    for (const name of ["analyze", "verbose"]) {
      if (new RegExp(`^${name}\\b`, "i").test(sql.slice(position))) {
        options.push(name);
        position = skipBlanks(sql, position + name.length);
      }
    }
  }
  return {
    kind: "explain",
    options: options.length === 0 ? "" : `(${options.join(", ")})`,
    sql: sql.slice(position),
    offset: position,
  };
}
