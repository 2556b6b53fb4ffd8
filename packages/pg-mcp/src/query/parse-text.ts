import { extname } from "node:path";
import { Worker } from "node:worker_threads";
import { ToolError } from "@es-to-pg/mcp-kit";
import { z } from "zod";

/** No statement that a person writes takes the parser this long; it protects the process from one that was made to. */
const parseTimeoutMs = 3_000;
/** What the parser makes of a text takes a hundred times as much memory. */
const charactersMax = 20_000;
/** Memory of the thread's own objects. */
const threadMegabytesMax = 128;
/** A thread takes some 10 MB and a tenth of a second to start, so it is kept for the next text for a while. */
const idleMs = 30_000;

const answerSchema = z.union([
  z.object({ tree: z.object({ stmts: z.array(z.unknown()).optional() }) }),
  z.object({ error: z.string(), position: z.number().optional() }),
]);

const statementSchema = z.object({
  stmt: z.unknown(),
  stmt_location: z.number().optional(),
  stmt_len: z.number().optional(),
});

/** One statement as PostgreSQL's own grammar reads it, in libpg-query's JSON, and where it ends in the UTF-8 text. */
export interface ParsedText {
  statement: unknown;
  /** Bytes up to the semicolon, or to the end. */
  bytes: number;
}

/** Reads a text that must be one statement; fails as the server would on one that is none. */
export async function parseText(sql: string): Promise<ParsedText> {
  if (sql.length > charactersMax) {
    throw new ToolError(
      "sql_refused",
      `The SQL has ${sql.length} characters; here, where it is judged by its text, the limit is ${charactersMax}.`,
      {
        next: "Pass long lists as one array parameter: = ANY($1).",
      },
    );
  }
  const answer = answerSchema.safeParse(await thread.ask(sql));
  if (!answer.success) {
    throw new ToolError("sql_refused", "This server cannot read the SQL: it is too deep or too long for the parser.", {
      next: "Write a shorter, flatter statement.",
    });
  }
  if ("error" in answer.data) {
    const { error, position } = answer.data;
    throw new ToolError("syntax_error", `PostgreSQL: ${error}.`, {
      next: "Correct the SQL at the position given.",
      details: { sqlstate: "42601", ...(position === undefined ? {} : { position: position + 1 }) },
    });
  }
  const [only, ...others] = answer.data.tree.stmts ?? [];
  if (only === undefined || others.length > 0) {
    throw new ToolError("sql_refused", "This server does not run more than one statement, or none.", {
      next: "Send one statement per call.",
    });
  }
  const { stmt, stmt_location = 0, stmt_len } = statementSchema.parse(only);
  return { statement: stmt, bytes: stmt_len === undefined ? Buffer.byteLength(sql) : stmt_location + stmt_len };
}

/** A thread that parses one text after the other: what takes too long can be ended only with the thread. */
class ParserThread {
  #worker: Worker | undefined;
  #last: Promise<unknown> = Promise.resolve();
  #idle: NodeJS.Timeout | undefined;

  /** What the parser says of a text; undefined where it was too much for it. */
  ask(sql: string): Promise<unknown> {
    const answer = this.#last.then(() => this.#parse(sql));
    this.#last = answer;
    return answer;
  }

  async #parse(sql: string): Promise<unknown> {
    clearTimeout(this.#idle);
    const worker = (this.#worker ??= start());
    const { promise, resolve } = Promise.withResolvers<unknown>();
    const timer = setTimeout(() => resolve(undefined), parseTimeoutMs);
    const ended = (): void => resolve(undefined);
    worker.once("message", resolve).once("error", ended).once("exit", ended);
    // oxlint-disable-next-line unicorn/require-post-message-target-origin -- a thread, and no window
    worker.postMessage(sql);
    const answer = await promise;
    clearTimeout(timer);
    worker.off("message", resolve).off("error", ended).off("exit", ended);
    if (!answerSchema.safeParse(answer).success) await this.#end();
    else this.#idle = setTimeout(() => void this.#end(), idleMs).unref();
    return answer;
  }

  async #end(): Promise<void> {
    const worker = this.#worker;
    this.#worker = undefined;
    await worker?.terminate();
  }
}

function start(): Worker {
  // The file beside this one, whether compiled or not.
  const worker = new Worker(new URL(`./parse-worker${extname(import.meta.filename)}`, import.meta.url), {
    resourceLimits: { maxOldGenerationSizeMb: threadMegabytesMax },
    // What the process was started with must not open a debugger's port here, or load what the tests load.
    execArgv: [],
    stdout: true,
    stderr: true,
  });
  // An error between two texts ends the thread; the next text meets that as its own end.
  worker.on("error", () => {});
  worker.unref();
  return worker;
}

// One for the process, because it belongs to no connection and no call.
const thread = new ParserThread();
