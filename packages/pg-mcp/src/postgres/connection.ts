import { randomBytes } from "node:crypto";
import type { Writable } from "node:stream";
import { finished } from "node:stream/promises";
import { setTimeout as sleep } from "node:timers/promises";
import type { ConnectionOptions as TlsOptions } from "node:tls";
import { ToolError, traced } from "@es-to-pg/mcp-kit";
import type { Client, ClientConfig, FieldDef, Connection as PgConnectionType, Submittable } from "pg";
import type { ConnectionOptions } from "../config.ts";
import { quoteLiteral } from "./identifiers.ts";
import { databaseOperation, statementOperation } from "./telemetry.ts";

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
/** What DISCARD ALL stands for in the documentation, without the plans and prepared statements. */
const discardAllButStatements =
  "CLOSE ALL; SET SESSION AUTHORIZATION DEFAULT; RESET ALL; UNLISTEN *; DISCARD TEMP; DISCARD SEQUENCES";
const releaseLocks = { sql: "SELECT pg_catalog.pg_advisory_unlock_all()", kept: true };
const countPrepared = {
  sql: "SELECT pg_catalog.count(*), pg_catalog.count(*) FILTER (WHERE from_sql) FROM pg_catalog.pg_prepared_statements",
  kept: true,
};

/** What the server says of itself when a session begins. */
interface ParameterStatus {
  parameterName: string;
  parameterValue: string;
}

type CopyFrom = typeof import("pg-copy-streams").from;

/** Nobody who waits for an answer within ten seconds gains from a longer attempt. */
const connectTimeoutMs = 8_000;
/** Older servers lack what loads and reads are made of. */
const majorMin = 13;
/** A cancel request that has no effect by then is followed by the end of the connection. */
const cancelGraceMs = 2_000;

/** How long the server may take to end a session that was cut off, before the answer says that it has not. */
const endProofMs = 3_000;
const endPollMs = 20;

/** One row as the text protocol sends it, and the columns it belongs to. */
export interface RawResult {
  rows: (string | null)[][];
  fields: { name: string; typeOid: number; modifier: number }[];
  rowCount: number;
}

/** One statement of several that are sent at once. */
export interface BatchStatement {
  sql: string;
  params?: readonly (string | null)[];
  /** Only what it takes and answers is asked: it is neither planned nor run. */
  describe?: boolean;
  /** One of few that come again and again: the session keeps it parsed and planned, where it can. */
  kept?: boolean;
}

export type BatchResult = RawResult &
  Described & {
    /** Why the last statement of a batch has no answer, where it may have none. */
    failure?: Error;
  };

export interface BatchOptions {
  answerBytesMax?: number | undefined;
  lastMayFail?: boolean;
}

/** Which statement of a batch an error is about; undefined where it is about none. */
export function failedStatement(error: unknown): number | undefined {
  return error instanceof Error && "statement" in error && typeof error.statement === "number"
    ? error.statement
    : undefined;
}

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
        `BEGIN READ WRITE; CREATE FUNCTION pg_temp.nothing() RETURNS void LANGUAGE sql AS ''; DROP FUNCTION pg_temp.nothing(); COMMIT`,
      );
    } catch (error) {
      // Whoever may make no temporary objects is told so by what needs them.
      if (this.#broken) throw error;
      await this.execute("ROLLBACK");
    }
  }

  /** Ends the transaction and forgets all that may be left in the session, but for the statements that it keeps. */
  async empty(): Promise<void> {
    if (this.#kept === undefined || this.#kept.names.size === 0) {
      await this.execute("ROLLBACK");
      await this.discard();
      return;
    }
    await this.execute(`ROLLBACK; ${discardAllButStatements}`);
    const [, found] = await this.batch([releaseLocks, countPrepared]);
    const [prepared, preparedBySql] = found?.rows[0] ?? [];
    // Code of a user, where the operator lets any run, could have put a statement of its own in the place of ours.
    if (Number(prepared) !== this.#kept.names.size || preparedBySql !== "0") await this.discard();
  }

  /** Forgets all that may be left in the session, outside of a transaction. */
  async discard(): Promise<void> {
    this.keepNothing();
    await this.execute(discardAll);
  }

  /** Uses none of the kept statements any more: code of users that can reach them runs in this session. */
  keepNothing(): void {
    this.#kept?.names.clear();
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
    void sendCancel({ ...this.#options, encrypted: this.#encrypted, processID, secretKey });
    const timer = setTimeout(() => this.destroy(), cancelGraceMs);
    try {
      await ended;
    } catch {
      // How it ended is told to whoever waits for the statement.
    } finally {
      clearTimeout(timer);
    }
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
        const { rows } = await witness.query("SELECT FROM pg_catalog.pg_stat_activity WHERE pid = $1", {
          params: [processID],
        });
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

interface Described {
  parameterTypeOids: number[];
  fields: RawResult["fields"];
}

/** Parse, Describe and Sync of an unnamed statement, as pg's queue takes it. */
class Description implements Submittable {
  readonly #sql: string;
  readonly #resolve: (described: Described) => void;
  readonly #reject: (error: Error) => void;
  #parameterTypeOids: number[] = [];
  #fields: RawResult["fields"] = [];

  constructor(sql: string, resolve: (described: Described) => void, reject: (error: Error) => void) {
    this.#sql = sql;
    this.#resolve = resolve;
    this.#reject = reject;
  }

  submit(connection: PgConnectionType): void {
    connection.once("parameterDescription", (message: { dataTypeIDs: number[] }) => {
      this.#parameterTypeOids = message.dataTypeIDs;
    });
    connection.parse({ name: "", text: this.#sql, types: [] }, true);
    connection.describe({ type: "S", name: "" }, true);
    connection.sync();
  }

  handleRowDescription(message: { fields: FieldDef[] }): void {
    this.#fields = message.fields.map(rawField);
  }

  handleReadyForQuery(): void {
    this.#resolve({ parameterTypeOids: this.#parameterTypeOids, fields: this.#fields });
  }

  handleError(error: Error): void {
    this.#reject(error);
  }
}

/** Statements that a session has parsed, and planned, under names that nobody else can know before. */
class KeptStatements {
  /** By their text. */
  readonly names = new Map<string, string>();
  readonly #prefix = `kept_${randomBytes(9).toString("hex")}`;
  #given = 0;

  newName(): string {
    return `${this.#prefix}_${this.#given++}`;
  }
}

/** Statements by the extended protocol up to one Sync, as pg's queue takes them. */
class Batch implements Submittable {
  readonly #statements: readonly BatchStatement[];
  readonly #lastMayFail: boolean;
  readonly #kept: KeptStatements | undefined;
  readonly #resolve: (results: BatchResult[]) => void;
  readonly #reject: (error: Error) => void;
  readonly #results: BatchResult[];
  /** Statements that were sent to be parsed, in their order: what the session keeps of them, and under which name. */
  readonly #parsed: { sql: string; name: string }[] = [];
  #connection: PgConnectionType | undefined;
  /** Statements that have ended: the position of the one that is answered. */
  #ended = 0;
  readonly #onParameters = ({ dataTypeIDs }: { dataTypeIDs: number[] }): void => {
    const result = this.#results[this.#ended];
    if (result !== undefined) result.parameterTypeOids = dataTypeIDs;
  };
  readonly #onNoData = (): void => {
    if (this.#statements[this.#ended]?.describe === true) this.#ended++;
  };

  readonly #onParsed = (): void => {
    const parsed = this.#parsed.shift();
    if (parsed !== undefined && parsed.name !== "") this.#kept?.names.set(parsed.sql, parsed.name);
  };

  constructor(
    statements: readonly BatchStatement[],
    options: {
      lastMayFail: boolean;
      kept: KeptStatements | undefined;
      resolve: (results: BatchResult[]) => void;
      reject: (error: Error) => void;
    },
  ) {
    this.#statements = statements;
    this.#lastMayFail = options.lastMayFail;
    this.#kept = options.kept;
    this.#resolve = options.resolve;
    this.#reject = options.reject;
    this.#results = statements.map(() => ({ rows: [], fields: [], rowCount: 0, parameterTypeOids: [] }));
  }

  submit(connection: PgConnectionType): void {
    this.#connection = connection;
    connection.on("parameterDescription", this.#onParameters);
    connection.on("noData", this.#onNoData);
    connection.on("parseComplete", this.#onParsed);
    connection.stream.cork();
    for (const { sql, params = [], describe = false, kept = false } of this.#statements) {
      const name = this.#parse(connection, sql, kept);
      if (describe) connection.describe({ type: "S", name }, true);
      else {
        connection.bind({ portal: "", statement: name, values: [...params] }, true);
        connection.describe({ type: "P", name: "" }, true);
        connection.execute({ portal: "" }, true);
      }
    }
    connection.sync();
    connection.stream.uncork();
  }

  /** Sends a statement to be parsed unless the session has kept it, and answers its name. */
  #parse(connection: PgConnectionType, sql: string, isKept: boolean): string {
    const kept = isKept ? this.#kept : undefined;
    const known = kept?.names.get(sql);
    if (known !== undefined) return known;
    const name = kept?.newName() ?? "";
    this.#parsed.push({ sql, name });
    connection.parse({ name, text: sql, types: [] }, true);
    return name;
  }

  handleRowDescription(message: { fields: FieldDef[] }): void {
    const result = this.#results[this.#ended];
    if (result !== undefined) result.fields = message.fields.map(rawField);
    if (this.#statements[this.#ended]?.describe === true) this.#ended++;
  }

  handleDataRow(message: { fields: (string | null)[] }): void {
    this.#results[this.#ended]?.rows.push(message.fields);
  }

  handleCommandComplete(): void {
    const result = this.#results[this.#ended];
    if (result !== undefined) result.rowCount = result.rows.length;
    this.#ended++;
  }

  handleEmptyQuery(): void {
    this.#ended++;
  }

  handleReadyForQuery(): void {
    this.#leave();
    this.#resolve(this.#results);
  }

  handleError(error: Error): void {
    this.#leave();
    const last = this.#results.at(-1);
    if (last !== undefined && this.#lastMayFail && this.#ended === this.#statements.length - 1) {
      last.failure = error;
      this.#resolve(this.#results);
    } else this.#reject(Object.assign(error, { statement: this.#ended }));
  }

  #leave(): void {
    this.#connection?.removeListener("parameterDescription", this.#onParameters);
    this.#connection?.removeListener("noData", this.#onNoData);
    this.#connection?.removeListener("parseComplete", this.#onParsed);
  }
}

/** Half of a surrogate pair would arrive as another character than the one that was judged, or that a name has. */
function mustBeWellFormed(sql: string, params: readonly unknown[]): void {
  const texts = [sql, ...params.flat(2)];
  if (texts.every((text) => typeof text !== "string" || text.isWellFormed())) return;
  throw new ToolError("invalid_value", "A text or a name holds half of a surrogate pair, which is no character.", {
    next: "Send whole characters.",
  });
}

function rawField(field: FieldDef): RawResult["fields"][number] {
  return { name: field.name, typeOid: field.dataTypeID, modifier: field.dataTypeModifier };
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

function tlsOptions({ host, tls }: ConnectionOptions): TlsOptions {
  const verify =
    tls.mode === "verify-ca" || tls.mode === "verify-full" || (tls.mode === "require" && tls.ca !== undefined);
  return {
    rejectUnauthorized: verify,
    ...(tls.ca === undefined ? {} : { ca: tls.ca }),
    ...(tls.certificate === undefined ? {} : { cert: tls.certificate }),
    ...(tls.key === undefined ? {} : { key: tls.key }),
    // verify-ca trusts any name that the authority has signed.
    ...(tls.mode === "verify-full" ? {} : { checkServerIdentity: () => undefined }),
    ...(/^[\d.]+$|:/.test(host) ? {} : { servername: host }),
  };
}

async function sendCancel(
  target: ConnectionOptions & { encrypted: boolean; processID: number; secretKey: number },
): Promise<void> {
  const { Connection: PgConnection } = await import("pg");
  const wire = new PgConnection({ ssl: target.encrypted ? tlsOptions(target) : false });
  const timer = setTimeout(() => wire.stream.destroy(), cancelGraceMs);
  wire.on("end", () => clearTimeout(timer));
  wire.on("error", () => clearTimeout(timer));
  const cancel = () => wire.cancel(target.processID, target.secretKey);
  wire.on("connect", () => (target.encrypted ? wire.requestSsl() : cancel()));
  wire.on("sslconnect", cancel);
  if (isSocketPath(target.host)) wire.connect(`${target.host}/.s.PGSQL.${target.port}`);
  else wire.connect(target.port, target.host);
}

function isSocketPath(host: string): boolean {
  return host.startsWith("/");
}

function codeOf(error: unknown): string {
  return error instanceof Error && "code" in error && typeof error.code === "string" ? error.code : "";
}

function isTlsRefusal(error: unknown): boolean {
  if (!(error instanceof Error)) return false;
  // 28000 is pg_hba.conf refusing encrypted sessions; the others are the server's "N" to the TLS request, and no answer to it.
  return /does not support SSL|error establishing an SSL/.test(error.message) || codeOf(error) === "28000";
}

function isConnectionEnd(error: unknown): boolean {
  if (!(error instanceof Error)) return false;
  return (
    /^Connection terminated|not queryable|Client was closed/.test(error.message) ||
    ["ECONNRESET", "EPIPE", "ETIMEDOUT"].includes(codeOf(error))
  );
}

function connectionLost(cause?: unknown): ToolError {
  return new ToolError("connection_lost", "The connection to PostgreSQL ended before the answer was complete.", {
    retryable: true,
    next: "Make the same call again.",
    cause,
  });
}

const certificateErrors = new Set([
  "SELF_SIGNED_CERT_IN_CHAIN",
  "DEPTH_ZERO_SELF_SIGNED_CERT",
  "UNABLE_TO_VERIFY_LEAF_SIGNATURE",
  "UNABLE_TO_GET_ISSUER_CERT",
  "UNABLE_TO_GET_ISSUER_CERT_LOCALLY",
  "CERT_HAS_EXPIRED",
  "CERT_NOT_YET_VALID",
  "CERT_UNTRUSTED",
  "CERT_SIGNATURE_FAILURE",
]);

/** A failed attempt to connect as a `ToolError` that names the server, the TLS mode and what to change. */
export function connectError(error: unknown, options: ConnectionOptions): ToolError {
  if (error instanceof ToolError) return error;
  const message = error instanceof Error ? error.message : String(error);
  const code = codeOf(error);
  const at = `${options.host}:${options.port}`;
  const details = {
    host: options.host,
    port: options.port,
    database: options.database,
    user: options.user,
    tls: options.tls.mode,
    ...(code === "" ? {} : /^[0-9A-Z]{5}$/.test(code) ? { sqlstate: code } : { cause: code }),
  };
  const fail = (word: string, text: string, next: string, retryable = false) =>
    new ToolError(word, text, { next, retryable, details, cause: error });

  if (/password must be a/.test(message))
    return fail(
      "password_missing",
      `PostgreSQL at ${at} asks for a password for user ${quoteLiteral(options.user)} and none is set.`,
      "Set POSTGRES_PASSWORD, POSTGRES_PASSWORD_FILE or a DATABASE_URL with the password, and restart the server.",
    );
  if (code === "28P01")
    return fail(
      "authentication_failed",
      `PostgreSQL at ${at} refused the password of user ${quoteLiteral(options.user)}.`,
      "Correct POSTGRES_USER and POSTGRES_PASSWORD (or DATABASE_URL) and restart the server.",
    );
  if (code.startsWith("28"))
    return fail(
      "authentication_failed",
      `PostgreSQL at ${at} does not let user ${quoteLiteral(options.user)} into database ${quoteLiteral(options.database)} (TLS mode ${options.tls.mode}).`,
      "Check that the role exists and may log in, and that pg_hba.conf admits it from here with this TLS mode (POSTGRES_SSLMODE).",
    );
  if (code === "3D000")
    return fail(
      "database_not_found",
      `PostgreSQL at ${at} has no database ${quoteLiteral(options.database)}.`,
      "Create the database or correct POSTGRES_DB (or DATABASE_URL), and restart the server.",
    );
  if (code === "42501")
    return fail(
      "permission_denied",
      `User ${quoteLiteral(options.user)} may not connect to database ${quoteLiteral(options.database)} at ${at}.`,
      "Let an administrator GRANT CONNECT on the database to this role.",
    );
  if (code.startsWith("53") || code.startsWith("57"))
    return fail(
      "database_unavailable",
      `PostgreSQL at ${at} takes no connections at the moment (SQLSTATE ${code}).`,
      code === "53300" ? "Wait, or raise max_connections." : "Wait until the server has started, then call again.",
      true,
    );
  if (/does not support SSL/.test(message))
    return fail(
      "tls_unavailable",
      `PostgreSQL at ${at} does not speak TLS, and POSTGRES_SSLMODE=${options.tls.mode} demands it.`,
      "Turn on ssl in the server, or set POSTGRES_SSLMODE=prefer or disable.",
    );
  if (code === "ERR_TLS_CERT_ALTNAME_INVALID")
    return fail(
      "tls_untrusted",
      `The certificate of PostgreSQL at ${at} was issued for another name (TLS mode ${options.tls.mode}).`,
      "Connect by a name that the certificate carries, or set POSTGRES_SSLMODE=verify-ca.",
    );
  if (certificateErrors.has(code))
    return fail(
      "tls_untrusted",
      `The certificate of PostgreSQL at ${at} is not trusted: ${code} (TLS mode ${options.tls.mode}).`,
      "Set POSTGRES_CA_CERT to the authority's certificate (PEM or path), or POSTGRES_SSLMODE=require to encrypt without checking.",
    );
  if (/SSL|TLS/i.test(code) || /SSL|TLS|certificate/i.test(message))
    return fail(
      "tls_failed",
      `The TLS handshake with PostgreSQL at ${at} failed (TLS mode ${options.tls.mode}).`,
      "Check POSTGRES_SSLMODE, POSTGRES_CA_CERT, POSTGRES_CLIENT_CERT and POSTGRES_CLIENT_KEY.",
    );
  const why =
    code === "ECONNREFUSED"
      ? "nothing listens there"
      : code === "ENOTFOUND" || code === "EAI_AGAIN"
        ? "the name does not resolve"
        : code === "ETIMEDOUT" || /timeout/.test(message)
          ? `no answer within ${connectTimeoutMs / 1000} s`
          : "the connection ended during the handshake";
  return fail(
    "unreachable",
    `PostgreSQL at ${at} cannot be reached: ${why} (TLS mode ${options.tls.mode}).`,
    "Check POSTGRES_HOST and POSTGRES_PORT (or DATABASE_URL), that the server runs, and that a firewall lets this machine through.",
    true,
  );
}
