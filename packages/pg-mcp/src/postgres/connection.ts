import type { Writable } from "node:stream";
import { finished } from "node:stream/promises";
import { setTimeout as sleep } from "node:timers/promises";
import { ToolError, traced } from "@es-to-pg/mcp-kit";
import type { Client, ClientConfig } from "pg";
import type { ConnectionOptions } from "../config.ts";
import {
  Batch,
  type BatchOptions,
  type BatchResult,
  type BatchStatement,
  type Described,
  Description,
  KeptStatements,
  type RawResult,
  rawField,
} from "./batch.ts";
import { connectError, connectionLost, connectTimeoutMs, isConnectionEnd, isTlsRefusal } from "./connect-error.ts";
import { databaseOperation, statementOperation } from "./telemetry.ts";
import { cancelGraceMs, isSocketPath, sendCancel, tlsOptions } from "./wire.ts";

// What pg has and its types leave out.
declare module "pg" {
  interface Client {
    /** The server's number of this session, from BackendKeyData. */
    processID: number;
    secretKey: number;
  }
  interface Connection {
    connect(port: number | string, host?: string): void;
    requestSsl(): void;
    cancel(processID: number, secretKey: number): void;
  }
  interface QueryConfig {
    /** Goes by Parse, Bind, Execute even without parameters; since pg 8.12. */
    queryMode?: "extended";
  }
}

const discardAll = "DISCARD ALL";
/** The role and the settings with which the session began. */
export const asAtFirst = ["SET SESSION AUTHORIZATION DEFAULT", "RESET ALL"];
/** What DISCARD ALL stands for in the documentation, without the plans and prepared statements. */
const discardAllButStatements = `CLOSE ALL; ${asAtFirst.join("; ")}; UNLISTEN *; DISCARD TEMP; DISCARD SEQUENCES`;
const releaseLocks = { sql: "SELECT pg_catalog.pg_advisory_unlock_all()", kept: true };
/** Not kept: code of a user that puts a statement in the place of a kept one must find none that counts them. */
const countPrepared = {
  sql: "SELECT pg_catalog.count(*), pg_catalog.count(*) FILTER (WHERE from_sql) FROM pg_catalog.pg_prepared_statements",
};

/** What the server says of itself when a session begins. */
interface ParameterStatus {
  parameterName: string;
  parameterValue: string;
}

type CopyFrom = typeof import("pg-copy-streams").from;

/** Older servers lack what loads and reads are made of. */
const majorMin = 13;
/** How long the server may take to end a session that was cut off, before the answer says that it has not. */
const endProofMs = 3_000;
const endPollMs = 20;

/**
 * One session of the server. All values travel as text, one statement at a time; everything but our own settings goes
 * by the extended protocol, which takes exactly one statement.
 */
export class Connection {
  readonly #client: Client;
  readonly #options: ConnectionOptions;
  readonly #encrypted: boolean;
  readonly #copyFrom: CopyFrom;
  /** The server's major version. */
  readonly major: number;
  /** Statements that the session keeps; undefined where its next transaction may be in another session. */
  readonly #kept: KeptStatements | undefined;
  #hasTemporarySchema = false;
  #isWritten = false;
  /** Requests to cancel that may not have reached the session yet. */
  #cancelling: Promise<unknown> = Promise.resolve();
  #broken = false;
  #bytesLeft = Number.POSITIVE_INFINITY;
  #overrun: Error | undefined;

  constructor(
    client: Client,
    options: {
      copyFrom: CopyFrom;
      connection: ConnectionOptions;
      encrypted: boolean;
      major: number;
      /** Whether this is the server's own session, and not one that a pooler gives to others between transactions. */
      isDirect: boolean;
    },
  ) {
    this.#client = client;
    this.#copyFrom = options.copyFrom;
    this.#options = options.connection;
    this.#encrypted = options.encrypted;
    this.major = options.major;
    this.#kept = options.isDirect ? new KeptStatements() : undefined;
    // An idle session that the server ends reports here; without a listener it would end the process.
    client.on("error", () => {
      this.#broken = true;
    });
    client.on("end", () => {
      this.#broken = true;
    });
    client.connection.stream.on("data", (chunk: Buffer) => {
      this.#bytesLeft -= chunk.length;
      if (this.#bytesLeft < 0 && this.#overrun === undefined) {
        this.#overrun = new AnswerTooLarge();
        this.destroy();
      }
    });
  }

  /** Whether the session cannot be used any more. */
  get broken(): boolean {
    return this.#broken;
  }

  /** Runs one or several statements of our own that answer nothing, by the simple protocol. */
  async execute(sql: string): Promise<void> {
    mustBeWellFormed(sql, []);
    await traced(statementOperation(sql, this.#options), () => this.#guard(() => this.#client.query(sql), undefined));
  }

  /** Runs exactly one statement, by the extended protocol. */
  async query(
    sql: string,
    options: { params?: readonly unknown[]; answerBytesMax?: number | undefined } = {},
  ): Promise<RawResult> {
    mustBeWellFormed(sql, options.params ?? []);
    const result = await traced(statementOperation(sql, this.#options), () =>
      this.#guard(
        () =>
          this.#client.query<(string | null)[], unknown[]>({
            text: sql,
            values: [...(options.params ?? [])],
            rowMode: "array",
            queryMode: "extended",
          }),
        options.answerBytesMax,
      ),
    );
    return {
      rows: result.rows,
      fields: result.fields.map(rawField),
      rowCount: result.rowCount ?? 0,
    };
  }

  async #guard<T>(send: () => Promise<T>, answerBytesMax: number | undefined): Promise<T> {
    if (this.#broken) throw connectionLost();
    this.#bytesLeft = answerBytesMax ?? Number.POSITIVE_INFINITY;
    try {
      return await send();
    } catch (error) {
      throw this.#told(error);
    } finally {
      this.#bytesLeft = Number.POSITIVE_INFINITY;
    }
  }

  #told<T>(error: T): T | Error {
    if (this.#overrun !== undefined) return this.#overrun;
    return isConnectionEnd(error) ? connectionLost(error) : error;
  }

  /** What a statement takes and answers, without planning or running it. */
  async describe(sql: string): Promise<Described> {
    mustBeWellFormed(sql, []);
    return await traced(databaseOperation("DESCRIBE", this.#options), () =>
      this.#guard(
        () => new Promise((resolve, reject) => this.#client.query(new Description(sql, resolve, reject))),
        undefined,
      ),
    );
  }

  /**
   * Runs statements one after the other by the extended protocol, all sent before the first is answered; after one that
   * fails none of the rest runs. Where `lastMayFail`, its failure is told beside the answers of the others.
   */
  async batch(statements: readonly BatchStatement[], options: BatchOptions = {}): Promise<BatchResult[]> {
    for (const { sql, params = [] } of statements) mustBeWellFormed(sql, params);
    const operation = databaseOperation("BATCH", this.#options);
    operation.attributes["db.operation.batch.size"] = statements.length;
    return await traced(operation, () => this.#guard(() => this.#batch(statements, options), options.answerBytesMax));
  }

  async #batch(statements: readonly BatchStatement[], { lastMayFail = false }: BatchOptions): Promise<BatchResult[]> {
    const results = await new Promise<BatchResult[]>((resolve, reject) => {
      this.#client.query(new Batch(statements, { lastMayFail, kept: this.#kept, resolve, reject }));
    });
    const last = results.at(-1);
    if (last?.failure !== undefined) last.failure = this.#told(last.failure);
    return results;
  }

  /**
   * Gives a session of its own its schema of temporary objects for good. One that a transaction makes and takes back is
   * set up anew each time, which costs as much as what is put into it, and the plans that the session keeps.
   */
  async keepTemporarySchema(): Promise<void> {
    if (this.#kept === undefined || this.#hasTemporarySchema) return;
    this.#hasTemporarySchema = true;
    try {
      await this.execute(
        `BEGIN READ WRITE; CREATE FUNCTION pg_temp.nothing() RETURNS pg_catalog.void LANGUAGE sql AS ''; DROP FUNCTION pg_temp.nothing(); COMMIT`,
      );
    } catch (error) {
      // Whoever may make no temporary objects is told so by what needs them.
      if (this.#broken) throw error;
      await this.execute("ROLLBACK");
    }
  }

  /** Ends the transaction and forgets all that may be left in the session, but for the statements that it keeps. */
  async empty(): Promise<void> {
    if (this.#kept === undefined || this.#kept.bySql.size === 0) {
      await this.execute("ROLLBACK");
      await this.discard();
      return;
    }
    await this.execute(`ROLLBACK; ${discardAllButStatements}`);
    const [, found] = await this.batch([releaseLocks, countPrepared]);
    const [prepared, preparedBySql] = found?.rows[0] ?? [];
    // Code of a user, where the operator lets any run, could have put a statement of its own in the place of ours.
    if (Number(prepared) !== this.#kept.bySql.size || preparedBySql !== "0") await this.discard();
  }

  /** Forgets all that may be left in the session, outside of a transaction. */
  async discard(): Promise<void> {
    this.keepNothing();
    await this.execute(discardAll);
    this.#isWritten = false;
  }

  /**
   * Whether a transaction that could be committed has run since the session was emptied: code of users, a trigger of a
   * table that was written, can have left it another role, settings and temporary objects. Behind a pooler nobody knows
   * whose session it was.
   */
  get isWritten(): boolean {
    return this.#isWritten;
  }

  beginsToWrite(): void {
    this.#isWritten = this.#kept !== undefined;
  }

  /** Uses none of the kept statements any more: code of users that can reach them runs in this session. */
  keepNothing(): void {
    this.#kept?.bySql.clear();
  }

  /** The stream takes what `COPY … FROM STDIN` reads; it finishes when the server has taken all of it. */
  copyIn(sql: string): CopyStream {
    mustBeWellFormed(sql, []);
    if (this.#broken) throw connectionLost();
    const stream = this.#client.query(this.#copyFrom(sql));
    // How it ends is told to whoever writes; here it is only how long that took.
    traced(statementOperation(sql, this.#options), () => finished(stream)).catch(() => {});
    return stream;
  }

  /**
   * Asks the server over a second connection to stop what this session is doing, and ends the session if nothing has
   * ended within the grace. A cancel request, and no pg_cancel_backend: it also finds its way through PgBouncer.
   */
  async cancel(ended: Promise<unknown>): Promise<void> {
    const { processID, secretKey } = this.#client;
    const sent = sendCancel({ ...this.#options, encrypted: this.#encrypted, processID, secretKey });
    this.#cancelling = Promise.all([this.#cancelling, sent]);
    const timer = setTimeout(() => this.destroy(), cancelGraceMs);
    try {
      await ended;
    } catch {
      // How it ended is told to whoever waits for the statement.
    } finally {
      clearTimeout(timer);
    }
  }

  /** Waits until no request to cancel is on its way: one that comes late ends whatever runs in the session then. */
  async cancelsArrived(): Promise<void> {
    await this.#cancelling;
  }

  /**
   * Whether the server has ended this session, which was cut off here: asked over a connection of its own, for some
   * seconds, after another request to cancel.
   */
  async hasEnded(): Promise<boolean> {
    const { processID, secretKey } = this.#client;
    void sendCancel({ ...this.#options, encrypted: this.#encrypted, processID, secretKey });
    const witness = await connect(this.#options);
    try {
      for (const deadline = Date.now() + endProofMs; ; ) {
        const { rows } = await witness.query(
          "SELECT FROM pg_catalog.pg_stat_activity WHERE pid OPERATOR(pg_catalog.=) $1",
          {
            params: [processID],
          },
        );
        if (rows.length === 0) return true;
        if (Date.now() > deadline) return false;
        await sleep(endPollMs);
      }
    } finally {
      await witness.end();
    }
  }

  /** Ends the session at once and without a farewell. */
  destroy(): void {
    this.#broken = true;
    this.#client.connection.stream.destroy();
  }

  /** Ends the session politely, within a second. */
  async end(): Promise<void> {
    if (this.#broken) return;
    this.#broken = true;
    const timer = setTimeout(() => this.destroy(), 1_000);
    await this.#client.end().catch(() => {});
    clearTimeout(timer);
  }
}

/** What `COPY … FROM STDIN` reads; after its end it knows how many rows the server took. */
export type CopyStream = Writable & { readonly rowCount: number };

/** Half of a surrogate pair would arrive as another character than the one that was judged, or that a name has. */
function mustBeWellFormed(sql: string, params: readonly unknown[]): void {
  const texts = [sql, ...params.flat(2)];
  if (texts.every((text) => typeof text !== "string" || text.isWellFormed())) return;
  throw new ToolError("invalid_value", "A text or a name holds half of a surrogate pair, which is no character.", {
    next: "Send whole characters.",
  });
}

/** The server sent more bytes for one statement than the caller was ready to hold. */
export class AnswerTooLarge extends Error {
  override readonly name = "AnswerTooLarge";
}

/** Opens a session, trying without TLS second where the mode is `prefer`. Failures are `ToolError`s that name the fix. */
export async function connect(options: ConnectionOptions): Promise<Connection> {
  return await traced(databaseOperation("CONNECT", options), () => connectInMode(options));
}

async function connectInMode(options: ConnectionOptions): Promise<Connection> {
  const { mode } = options.tls;
  try {
    return await open(options, mode !== "disable" && !isSocketPath(options.host));
  } catch (error) {
    if (mode !== "prefer" || !isTlsRefusal(error)) throw connectError(error, options);
  }
  try {
    return await open(options, false);
  } catch (error) {
    throw connectError(error, options);
  }
}

async function open(options: ConnectionOptions, encrypted: boolean): Promise<Connection> {
  // Loading pg takes about 60 ms; a server that only lists its tools never pays for it.
  const [{ Client: PgClient }, { from: copyFrom }] = await Promise.all([import("pg"), import("pg-copy-streams")]);
  const config: ClientConfig = {
    host: options.host,
    port: options.port,
    database: options.database,
    user: options.user,
    // A function keeps the password out of the client's enumerable state and pg from looking into ~/.pgpass.
    password: () => options.password ?? "",
    ssl: encrypted ? tlsOptions(options) : false,
    application_name: "pg-mcp",
    keepAlive: true,
    connectionTimeoutMillis: connectTimeoutMs,
    // All values stay the text the server sent: 64-bit integers, numerics and dates lose nothing on the way.
    types: { getTypeParser: () => (value: unknown) => value },
  };
  const client = new PgClient(config);
  // Errors before the connection stands reject connect(); a second one would otherwise be unhandled.
  client.on("error", () => {});
  let version = "";
  client.connection.on("parameterStatus", ({ parameterName, parameterValue }: ParameterStatus) => {
    if (parameterName === "server_version") version = parameterValue;
  });
  let timer: NodeJS.Timeout | undefined;
  const timeout = new Promise<never>((_, reject) => {
    timer = setTimeout(() => {
      client.connection.stream.destroy();
      reject(Object.assign(new Error("the connection was not established in time"), { code: "ETIMEDOUT" }));
    }, connectTimeoutMs);
  });
  try {
    await Promise.race([client.connect(), timeout]);
    const major = supportedMajor(version);
    const isDirect = await Promise.race([hasOwnSession(client), timeout]);
    return new Connection(client, { copyFrom, connection: options, encrypted, major, isDirect });
  } catch (error) {
    client.connection.stream.destroy();
    throw error;
  } finally {
    clearTimeout(timer);
  }
}

/** A pooler makes up the number that it tells of a session: it is not that of a process of the server. */
async function hasOwnSession(client: Client): Promise<boolean> {
  const { rows } = await client.query<{ pid: string }>("SELECT pg_catalog.pg_backend_pid() AS pid");
  return Number(rows[0]?.pid) === client.processID;
}

/** The major version of `14.5 (Debian 14.5-1)` or `18beta1`; throws where it is too old. */
function supportedMajor(version: string): number {
  const major = Number.parseInt(version, 10);
  if (major >= majorMin) return major;
  throw new ToolError(
    "postgres_too_old",
    `This server works with PostgreSQL ${majorMin} and later, and this is ${version}.`,
    {
      next: "Upgrade the database, or name another one in DATABASE_URL (or POSTGRES_HOST and POSTGRES_PORT).",
      details: { server_version: version, supported_from: majorMin },
    },
  );
}
