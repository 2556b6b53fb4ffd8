import { setImmediate as afterAnswers } from "node:timers/promises";
import { ToolError } from "@es-to-pg/mcp-kit";
import { type BatchOptions, type BatchResult, type BatchStatement, failedStatement, type RawResult } from "./batch.ts";
import type { Connection, CopyStream } from "./connection.ts";
import { builtInTypeName, renderValue } from "./types.ts";

/** What the server may take beyond its own statement_timeout before the client ends the session itself. */
export const clientGraceMs = 3_000;

export interface QueryResult {
  /** Booleans, integers of up to 32 bits and finite floats as JSON values; all else as the exact text of the server. */
  rows: unknown[][];
  columns: { name: string; type: string }[];
  rowCount: number;
}

/** What may be done inside one transaction. */
export interface Transaction {
  /** The server's major version: 16. */
  readonly major: number;
  /** Runs exactly one statement by the extended protocol. */
  query(sql: string, params?: readonly unknown[], options?: { answerBytesMax?: number }): Promise<QueryResult>;
  /** The types a statement takes and the columns it answers, without planning or running it. */
  describe(sql: string): Promise<{ parameterTypes: string[]; columns: { name: string; type: string }[] }>;
  /**
   * Statements by the extended protocol, all sent before the first is answered. After one that fails none of the rest
   * runs, and `failedStatement` tells which it was; where `lastMayFail`, the last result tells its failure itself.
   */
  batch(statements: readonly BatchStatement[], options?: BatchOptions): Promise<BatchAnswer[]>;
  /** The stream takes what `COPY … FROM STDIN` reads; wait for its end (`finished`) before the next statement. */
  copyIn(sql: string): CopyStream;
  /** Runs the work under a savepoint and goes back to it when the work throws. */
  savepoint<T>(work: () => Promise<T>): Promise<T>;
}

export type BatchAnswer = QueryResult & { parameterTypes: string[]; failure?: Error };

/** One transaction on one connection. An abort cancels what runs at the server and ends the connection if that fails. */
export class Session implements Transaction {
  readonly #connection: Connection;
  /** Kept for one transaction: how a type is written depends on the search path. */
  readonly #typeNames = new Map<string, string>();
  readonly #signal: AbortSignal;
  readonly #clientTimeoutMs: number;
  readonly #onAbort = () => {
    if (this.#running !== undefined) void this.#connection.cancel(this.#running);
  };
  #running: Promise<unknown> | undefined;
  #savepoints = 0;
  /** What begins the transaction, where it has not been sent yet. */
  #opening: readonly BatchStatement[] = [];

  constructor(connection: Connection, signal: AbortSignal, clientTimeoutMs: number) {
    this.#connection = connection;
    this.#signal = signal;
    this.#clientTimeoutMs = clientTimeoutMs;
    signal.addEventListener("abort", this.#onAbort, { once: true });
  }

  get major(): number {
    return this.#connection.major;
  }

  close(): void {
    this.#signal.removeEventListener("abort", this.#onAbort);
  }

  async start(opening: readonly BatchStatement[]): Promise<void> {
    await this.#track(this.#connection.batch(opening));
  }

  /** Before a transaction that makes temporary objects and is rolled back. */
  async keepTemporarySchema(): Promise<void> {
    await this.#track(this.#connection.keepTemporarySchema());
  }

  /** Begins the transaction together with its first batch, or before its first statement. */
  startWithNext(opening: readonly BatchStatement[]): void {
    this.#opening = opening;
  }

  /** What begins the transaction, for whoever sends the first statement. */
  #takeOpening(): readonly BatchStatement[] {
    this.#signal.throwIfAborted();
    const opening = this.#opening;
    this.#opening = [];
    return opening;
  }

  async #open(): Promise<void> {
    const opening = this.#takeOpening();
    if (opening.length > 0) await this.start(opening);
  }

  async query(
    sql: string,
    params: readonly unknown[] = [],
    options: { answerBytesMax?: number } = {},
  ): Promise<QueryResult> {
    await this.#open();
    const raw = await this.#track(this.#connection.query(sql, { params, ...options }));
    const names = await this.#names(raw.fields);
    return rendered(raw, names);
  }

  async batch(statements: readonly BatchStatement[], options: BatchOptions = {}): Promise<BatchAnswer[]> {
    const opening = this.#takeOpening();
    const results = await this.#track(this.#batch(opening, statements, options));
    const parameters = results.map(({ parameterTypeOids }) =>
      parameterTypeOids.map((typeOid) => ({ typeOid, modifier: -1 })),
    );
    const names = await this.#names(results.flatMap(({ fields }, index) => [...(parameters[index] ?? []), ...fields]));
    return results.map((raw) => ({
      parameterTypes: names.splice(0, raw.parameterTypeOids.length),
      ...rendered(raw, names.splice(0, raw.fields.length)),
      ...(raw.failure === undefined ? {} : { failure: raw.failure }),
    }));
  }

  async #batch(
    opening: readonly BatchStatement[],
    statements: readonly BatchStatement[],
    options: BatchOptions,
  ): Promise<BatchResult[]> {
    try {
      return (await this.#connection.batch([...opening, ...statements], options)).slice(opening.length);
    } catch (error) {
      const failed = failedStatement(error);
      if (error instanceof Error && failed !== undefined) {
        // Counted from the first of the caller's own.
        Object.assign(error, { statement: failed < opening.length ? undefined : failed - opening.length });
      }
      throw error;
    }
  }

  async describe(sql: string): Promise<{ parameterTypes: string[]; columns: { name: string; type: string }[] }> {
    await this.#open();
    const { parameterTypeOids, fields } = await this.#track(this.#connection.describe(sql));
    const parameters = parameterTypeOids.map((typeOid) => ({ typeOid, modifier: -1 }));
    const names = await this.#names([...parameters, ...fields]);
    return {
      parameterTypes: names.slice(0, parameters.length),
      columns: fields.map(({ name }, index) => ({ name, type: names[parameters.length + index] ?? "unknown" })),
    };
  }

  copyIn(sql: string): CopyStream {
    this.#signal.throwIfAborted();
    const stream = this.#connection.copyIn(sql);
    void this.#track(
      new Promise<void>((resolve) => {
        stream
          .once("close", resolve)
          .once("finish", resolve)
          .once("error", () => resolve());
      }),
      false,
    );
    return stream;
  }

  async savepoint<T>(work: () => Promise<T>): Promise<T> {
    await this.#open();
    const name = `s${++this.#savepoints}`;
    await this.#track(this.#connection.execute(`SAVEPOINT ${name}`));
    try {
      const result = await work();
      await this.#track(this.#connection.execute(`RELEASE SAVEPOINT ${name}`));
      return result;
    } catch (error) {
      if (!this.#connection.broken && !this.#signal.aborted) {
        await this.#track(this.#connection.execute(`ROLLBACK TO SAVEPOINT ${name}; RELEASE SAVEPOINT ${name}`));
      }
      throw error;
    }
  }

  async finish(sql: "COMMIT" | "ROLLBACK"): Promise<void> {
    await this.#track(this.#connection.execute(sql));
  }

  /** Ends the transaction after a failure; a session that cannot even do that is thrown away. */
  async abandon(): Promise<void> {
    if (this.#connection.broken) return;
    // After an abort the cancelled statement, a COPY for one, may still be on its way out.
    await this.#running?.catch(() => {});
    await this.#connection.cancelsArrived();
    if (this.#connection.broken) return;
    await this.#bounded(() => this.#connection.execute("ROLLBACK"));
  }

  /** Ends the transaction and forgets all that was in the session, when the answer is on its way. */
  async empty(): Promise<void> {
    this.close();
    await afterAnswers();
    if (this.#connection.broken) return;
    await this.#bounded(() => this.#connection.empty());
  }

  /** Forgets what a foreign statement may have left in the session: advisory locks, prepared statements, settings. */
  async discard(): Promise<void> {
    await this.#bounded(() => this.#connection.discard());
  }

  async #bounded(work: () => Promise<unknown>): Promise<void> {
    const timer = setTimeout(() => this.#connection.destroy(), clientGraceMs);
    try {
      await work();
    } catch {
      this.#connection.destroy();
    } finally {
      clearTimeout(timer);
    }
  }

  /** Keeps the running statement known to the abort, and bounds it where the server's own limit might not hold. */
  async #track<T>(running: Promise<T>, bounded = true): Promise<T> {
    this.#running = running;
    // Whoever awaits the statement learns how it ended; the copy kept for the abort must not count as unhandled.
    running.catch(() => {});
    if (this.#signal.aborted) void this.#connection.cancel(running);
    let late = false;
    const timer =
      bounded && this.#clientTimeoutMs > 0
        ? setTimeout(() => {
            late = true;
            void this.#connection.cancel(running);
          }, this.#clientTimeoutMs)
        : undefined;
    try {
      const result = await running;
      if (!late) return result;
      throw new Error("the answer came after the time was over");
    } catch (error) {
      if (!late) throw error;
      throw new ToolError("statement_timeout", "The statement did not end in time and its connection was closed.", {
        next: "Narrow the statement with a filter, or raise timeout_seconds.",
        details: { connection_closed: this.#connection.broken },
        cause: error,
      });
    } finally {
      clearTimeout(timer);
      if (this.#running === running) this.#running = undefined;
    }
  }

  /** The printed types of columns; those of extensions and users are looked up. */
  async #names(fields: { typeOid: number; modifier: number }[]): Promise<string[]> {
    const unknown = fields.filter(
      ({ typeOid, modifier }) =>
        builtInTypeName(typeOid, modifier) === undefined && !this.#typeNames.has(`${typeOid}/${modifier}`),
    );
    if (unknown.length > 0) {
      const { rows } = await this.#track(
        this.#connection.query(
          "SELECT pg_catalog.format_type(t, m) FROM ROWS FROM (pg_catalog.unnest($1::oid[]), pg_catalog.unnest($2::int4[])) AS u(t, m)",
          {
            params: [
              `{${unknown.map(({ typeOid }) => typeOid).join(",")}}`,
              `{${unknown.map(({ modifier }) => modifier).join(",")}}`,
            ],
          },
        ),
      );
      for (const [index, { typeOid, modifier }] of unknown.entries()) {
        this.#typeNames.set(`${typeOid}/${modifier}`, rows[index]?.[0] ?? "unknown");
      }
    }
    return fields.map(
      ({ typeOid, modifier }) =>
        builtInTypeName(typeOid, modifier) ?? this.#typeNames.get(`${typeOid}/${modifier}`) ?? "unknown",
    );
  }
}

/** Rows and columns as the rest of the server sees them. */
function rendered({ rows, fields, rowCount }: RawResult, types: readonly string[]): QueryResult {
  return {
    rows: rows.map((row) => row.map((text, index) => renderValue(fields[index]?.typeOid ?? 0, text))),
    columns: fields.map((field, index) => ({ name: field.name, type: types[index] ?? "unknown" })),
    rowCount,
  };
}
