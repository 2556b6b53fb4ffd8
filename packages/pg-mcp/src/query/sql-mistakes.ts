import { type Instead, ToolError } from "@es-to-pg/mcp-kit";

/** What is wrong with a statement that the server does not even parse, and the call that was meant. */
export interface Mistake {
  code: string;
  message: string;
  next: string;
  instead?: Instead;
}

const IDENTIFIER = String.raw`(?:"(?:[^"]|"")+"|[\w$]+)(?:\.(?:"(?:[^"]|"")+"|[\w$]+))?`;

/** Statements that write, by their first word, and what writes in their place. */
const WRITES: Readonly<Record<string, string>> = {
  insert: "Call insert_data for one row, bulk_insert for several or for an export.",
  update: 'Call insert_data with on_conflict:"update" for one row by its key, bulk_insert in mode upsert for several.',
  merge: "Call bulk_insert in mode upsert.",
  delete: "No tool deletes single rows; bulk_insert in mode replace leaves those of an export.",
  truncate: "No tool empties a table; bulk_insert in mode replace leaves the rows of an export.",
  copy: "Call bulk_insert for an export, or with rows.",
  create: "Call create_table with columns or a mapping.",
  alter: "Call create_table with add_columns:true for columns that are missing; no tool changes others.",
  drop: "No tool drops anything; ask the table's owner.",
  grant: "No tool changes rights; ask an administrator.",
  vacuum: "Loads analyze their table themselves.",
  call: "Procedures are not called; read with SELECT.",
  do: "Blocks of code are not run; read with SELECT.",
};

/** Sessions and transactions are the server's own affair. */
const SESSION = /^(?:begin|start|commit|rollback|set|reset|use|prepare|execute|declare|lock|listen)\b/i;

/**
 * What a model may have meant by a text that is no statement which reads: a statement that writes, another dialect's
 * way, a command of a client. Undefined where nothing of the kind is seen. It explains a refusal, and decides none.
 */
export function mistakeOf(sql: string): Mistake | undefined {
  const text = sql.trim();
  const fenced = /^```\w*\s+(.*?)\s*(?:```)?$/s.exec(text)?.[1];
  if (fenced !== undefined) {
    return invalid("The fence of a code block is no SQL.", "Send the statement alone.", { arguments: { sql: fenced } });
  }
  const word = /^[a-z]+/i.exec(text)?.[0].toLowerCase() ?? "";
  const writes = WRITES[word];
  if (writes !== undefined) {
    return { code: "read_only", message: `execute_query only reads, and ${word.toUpperCase()} writes.`, next: writes };
  }
  if (SESSION.test(text)) {
    return invalid("Every call is a transaction of its own.", "Send the SELECT alone.");
  }
  return ofAnotherClient(text, word) ?? ofAnotherDialect(text);
}

function ofAnotherClient(text: string, word: string): Mistake | undefined {
  if (/^show\s+(?:full\s+)?(?:tables|databases|schemas)\b/i.test(text) || /^\\(?:dt|dn|l|d)\+?\s*;?$/.test(text)) {
    return invalid("PostgreSQL has no such command.", "Call list_tables.", { tool: "list_tables", arguments: {} });
  }
  const described = new RegExp(
    `^(?:desc|describe|show\\s+(?:full\\s+)?columns\\s+(?:from|in)|show\\s+create\\s+table|\\\\d\\+?)\\s+(${IDENTIFIER})`,
    "i",
  ).exec(text)?.[1];
  if (described !== undefined) {
    const instead = { tool: "get_schema", arguments: { table: described } };
    return invalid("PostgreSQL has no such command.", "Call get_schema for the columns.", instead);
  }
  if (text.startsWith("{") || text.startsWith("[")) {
    return invalid("This is JSON and no SQL.", "Query DSL belongs to search_documents of es-mcp; write SQL here.");
  }
  return word === "get" || word === "post"
    ? invalid("This is a request and no SQL.", "Query DSL belongs to search_documents of es-mcp; write SQL here.")
    : undefined;
}

/** Each way of another dialect, the words that explain it, and how it is written here. */
const DIALECTS: readonly {
  pattern: RegExp;
  message: string;
  next: string;
  rewrite?: (sql: string) => string;
}[] = [
  {
    pattern: /`[^`]+`/,
    message: "PostgreSQL knows no backticks.",
    next: 'Quote names in double quotation marks: "name".',
    rewrite: (sql) => sql.replaceAll(/`([^`"]+)`/g, '"$1"'),
  },
  {
    pattern: /^select\s+(?:distinct\s+)?top\s*\(?\s*\d+/i,
    message: "PostgreSQL knows no TOP.",
    next: "Put LIMIT at the end.",
    rewrite: (sql) => {
      const [, head = "", count = "", rest = ""] =
        /^(\s*select\s+(?:distinct\s+)?)top\s*\(?\s*(\d+)\s*\)?\s+(.*)$/is.exec(withoutSemicolon(sql)) ?? [];
      return `${head}${rest} LIMIT ${count}`;
    },
  },
  {
    pattern: /\blimit\s+\d+\s*,\s*\d+/i,
    message: "PostgreSQL takes the offset apart from the limit.",
    next: "Write LIMIT count OFFSET offset.",
    rewrite: (sql) => sql.replace(/\blimit\s+(\d+)\s*,\s*(\d+)/i, "LIMIT $2 OFFSET $1"),
  },
  {
    pattern: /\bfrom\s+\$\d/i,
    message: "A parameter stands for a value, and not for the name of a table.",
    next: "Write the table's name in the SQL; list_tables shows the names.",
  },
  {
    pattern: /(?:[=<>]|\blike|\bin\s*\(|,)\s*\?/i,
    message: "Parameters are numbered.",
    next: "Write $1, $2 … in place of ?.",
    rewrite: (sql) => {
      let number = 0;
      return sql.replaceAll(/'(?:[^']|'')*'|"(?:[^"]|"")*"|\?/g, (part) => {
        if (part !== "?") return part;
        number += 1;
        return `$${number}`;
      });
    },
  },
  {
    pattern: /(?:%s|:[a-z_]\w*|@[a-z_]\w*)/i,
    message: "Parameters are numbered.",
    next: "Write $1, $2 … and give params their values in this order.",
    rewrite: (sql) => {
      const names: string[] = [];
      // Two colons before a name are a cast.
      return sql.replaceAll(/'(?:[^']|'')*'|"(?:[^"]|"")*"|::|%s|[:@][a-z_]\w*/gi, (part) => {
        if (!/^(?:%s|[:@]\w+)$/i.test(part)) return part;
        const at = part === "%s" ? -1 : names.indexOf(part);
        return `$${at >= 0 ? at + 1 : names.push(part)}`;
      });
    },
  },
];

function ofAnotherDialect(text: string): Mistake | undefined {
  const dialect = DIALECTS.find(({ pattern }) => pattern.test(text));
  if (dialect === undefined) return undefined;
  const { message, next, rewrite } = dialect;
  const sql = rewrite?.(text);
  return invalid(message, next, sql === undefined ? undefined : { arguments: { sql } });
}

function withoutSemicolon(sql: string): string {
  return sql.trim().replace(/;\s*$/, "");
}

function invalid(message: string, next: string, instead?: Instead): Mistake {
  return { code: "syntax_error", message, next, ...(instead === undefined ? {} : { instead }) };
}

/** A refusal of the server in words that say what was meant, where a mistake is seen; undefined elsewhere. */
export function explained(
  sql: string,
  refusal: ToolError,
  { isWritable = true }: { isWritable?: boolean } = {},
): ToolError | undefined {
  const several = /multiple commands/.test(refusal.message);
  const mistake = several
    ? invalid("One call runs one statement.", "Send the statements one by one, or join them by UNION ALL or WITH.")
    : mistakeOf(sql);
  if (mistake === undefined) return undefined;
  const { message, instead } = mistake;
  const isRefused = refusal.code === "sql_refused";
  // The judge's own refusal of anything that does not write says more than a guess.
  if (isRefused && mistake.code !== "read_only") return undefined;
  const code = isRefused ? refusal.code : mistake.code;
  // Where no tool writes, none is to be named.
  const next =
    mistake.code === "read_only" && !isWritable
      ? "Read with SELECT; this server has no tool that writes."
      : mistake.next;
  return new ToolError(code, message, {
    next,
    details: refusal.details,
    cause: refusal,
    ...(instead === undefined ? {} : { instead }),
  });
}
