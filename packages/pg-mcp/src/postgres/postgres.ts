import { ToolError } from "@es-to-pg/mcp-kit";
import type { ConnectionOptions } from "../config.ts";
import type { BatchStatement } from "./batch.ts";
import { asAtFirst, connect } from "./connection.ts";
import { Pool } from "./pool.ts";
import { type Capabilities, readCapabilities } from "./posture.ts";
import { clientGraceMs, Session, type Transaction } from "./session.ts";

interface TransactionOptions {
  signal: AbortSignal;
  /** Limit of one statement, kept by the server. Default 30 s for reads, none for writes. */
  timeoutMs?: number;
  /** How long a statement waits for a lock. Default 2 s for reads, 10 s for writes. */
  lockTimeoutMs?: number;
  /** Only where other calls keep connections; else `connections_busy` at once. Default false. */
  isSpare?: boolean;
  /** Of work that may hold its connection for long: it leaves some for calls, and waits for one as long as it must. */
  isJob?: boolean;
  /** Of what must not wait for jobs and calls: leases, probes. Short, on a connection that is kept for it. */
  isUpkeep?: boolean;
  /** All statements see one snapshot (REPEATABLE READ). Default false. */
  oneSnapshot?: boolean;
}

interface ScratchOptions extends TransactionOptions {
  writable: boolean;
  /** Statements of our own that begin the transaction, sent along with its settings. */
  setup?: readonly BatchStatement[];
}

/** PostgreSQL as the rest of the server sees it. Every unit of work is one transaction with settings of its own. */
export interface Postgres {
  /** A READ ONLY transaction of the reader role, always rolled back. */
  read<T>(work: (tx: Transaction) => Promise<T>, options: TransactionOptions): Promise<T>;
  /** A transaction of the writer role, committed when the work returns. */
  write<T>(work: (tx: Transaction) => Promise<T>, options: TransactionOptions): Promise<T>;
  /**
   * For statements that come from outside: the reader role and its own search_path, always rolled back, and the session
   * discarded. With `writable` it can make temporary objects, which judging a statement needs; the work then says
   * `SET TRANSACTION READ ONLY` itself before it runs anything foreign.
   */
  scratch<T>(work: (tx: Transaction) => Promise<T>, options: ScratchOptions): Promise<T>;
  /** What judging a statement may use. */
  capabilities(options: { signal: AbortSignal }): Promise<Capabilities>;
  /** What the connections are doing, by pool. */
  pools(): { name: string; used: number; idle: number; waiting: number; max: number }[];
  /** The server's version as a number: 160014. */
  serverVersion(): Promise<number>;
  close(): Promise<void>;
}

export interface PostgresOptions {
  writer: ConnectionOptions;
  /** The role of every read; the writer's where none is given. */
  reader?: ConnectionOptions | undefined;
}

const readTimeoutMs = 30_000;
const readLockTimeoutMs = 2_000;
const writeLockTimeoutMs = 10_000;
/** A transaction of ours that stops speaking for this long has lost its owner. */
const idleInTransactionMs = 300_000;
/** A standby becomes a primary, and rights are granted, so what was learnt is asked again after this. */
const capabilitiesMs = 60_000;
/** Jobs hold one connection each, and more where they are to spare; the rest serves single calls. */
const connectionsMax = 6;
/** Connections that jobs leave: whoever wants to know how they are, or to stop them, needs one too. */
const jobsLeaveMin = 2;
/** Connections for what must not wait for the others, beside them: one may wait for a row. */
const upkeepConnectionsMax = 2;

/** Most sessions that a server has of one role. */
export const connectionsOfRoleMax = connectionsMax + upkeepConnectionsMax;

/** The pools of one role. */
function poolsOf(role: ConnectionOptions): { work: Pool; upkeep: Pool } {
  return {
    work: new Pool({ open: () => connect(role), connectionsMax }),
    upkeep: new Pool({ open: () => connect(role), connectionsMax: upkeepConnectionsMax }),
  };
}

/** Opens nothing yet: the first call connects. */
export function openPostgres(options: PostgresOptions): Postgres {
  const writer = poolsOf(options.writer);
  const reader = options.reader === undefined ? writer : poolsOf(options.reader);
  const pools = [
    { name: "writer", pool: writer.work },
    { name: "writer_upkeep", pool: writer.upkeep },
    ...(reader === writer
      ? []
      : [
          { name: "reader", pool: reader.work },
          { name: "reader_upkeep", pool: reader.upkeep },
        ]),
  ];
  let version: number | undefined;
  let known: { capabilities: Capabilities; until: number } | undefined;

  async function run<T>(
    kind: "read" | "write" | "scratch",
    work: (tx: Transaction) => Promise<T>,
    {
      signal,
      timeoutMs,
      lockTimeoutMs,
      isSpare = false,
      isJob = false,
      isUpkeep = false,
      oneSnapshot = false,
      writable = kind === "write",
      setup = [],
    }: TransactionOptions & Partial<ScratchOptions>,
  ): Promise<T> {
    const pool = (kind === "write" ? writer : reader)[isUpkeep ? "upkeep" : "work"];
    const isScratch = kind === "scratch";
    const statementMs = timeoutMs ?? (kind === "write" ? 0 : readTimeoutMs);
    const asJob = { leavesMin: jobsLeaveMin, waitMsMax: isSpare ? 0 : Number.POSITIVE_INFINITY };
    const connection = await pool.acquire(signal, isSpare || isJob ? asJob : {});
    const session = new Session(connection, signal, statementMs === 0 ? 0 : statementMs + clientGraceMs);
    const giveBack = (): void => {
      session.close();
      pool.release(connection);
    };
    let isHeld = true;
    try {
      const opening = [
        {
          sql: `BEGIN TRANSACTION ISOLATION LEVEL ${oneSnapshot ? "REPEATABLE READ" : "READ COMMITTED"} ${writable ? "READ WRITE" : "READ ONLY"}`,
          kept: isScratch,
        },
        settings(
          {
            // Where a path does not name them, temporary tables are found first: a trigger could have left a pg_class.
            ...(isScratch ? {} : { search_path: "pg_catalog, pg_temp" }),
            statement_timeout: String(statementMs),
            lock_timeout: String(lockTimeoutMs ?? (kind === "write" ? writeLockTimeoutMs : readLockTimeoutMs)),
          },
          { kept: isScratch },
        ),
        ...setup,
      ];
      if (isScratch) {
        if (connection.isWritten) await session.discard();
        if (writable) await session.keepTemporarySchema();
        session.startWithNext(opening);
      } else {
        connection.keepNothing();
        const before = connection.isWritten ? asAtFirst.map((sql) => ({ sql })) : [];
        if (kind === "write") connection.beginsToWrite();
        await session.start([...before, ...opening]);
      }
      const result = await work(session);
      signal.throwIfAborted();
      if (isScratch) {
        // An answer that was cut short by cutting the session off: see below.
        if (connection.broken && !(await connection.hasEnded().catch(() => false))) throw leftRunning(undefined);
        isHeld = false;
        // The answer does not wait for the session to be emptied; the next holder does.
        void session.empty().finally(giveBack);
        return result;
      }
      await session.finish(kind === "write" ? "COMMIT" : "ROLLBACK");
      return result;
    } catch (error) {
      await session.abandon();
      if (isScratch) {
        if (!connection.broken) await session.discard();
        // Nobody sees what a session does that is cut off: a foreign statement must not go on in it.
        else if (!(await connection.hasEnded().catch(() => false))) throw leftRunning(error);
      }
      // What the caller's own abort broke is told as the abort.
      throw signal.aborted ? signal.reason : error;
    } finally {
      if (isHeld) giveBack();
    }
  }

  return {
    read: (work, transaction) => run("read", work, transaction),
    write: (work, transaction) => run("write", work, transaction),
    scratch: (work, transaction) => run("scratch", work, transaction),
    async capabilities(transaction) {
      if (known === undefined || known.until < Date.now()) {
        const capabilities = await run("read", readCapabilities, transaction);
        known = { capabilities, until: Date.now() + capabilitiesMs };
      }
      return known.capabilities;
    },
    async serverVersion() {
      version ??= await run(
        "read",
        async (tx) => Number((await tx.query("SELECT current_setting('server_version_num')")).rows[0]?.[0]),
        { signal: AbortSignal.timeout(readTimeoutMs) },
      );
      return version;
    },
    pools: () => pools.map(({ name, pool }) => ({ name, ...pool.usage() })),
    async close() {
      await Promise.all(pools.map(({ pool }) => pool.close()));
    },
  };
}

/** What is the same in every transaction: values come and go as one text that no session's settings change. */
const settingsOfAll = {
  TimeZone: "UTC",
  DateStyle: "ISO, YMD",
  IntervalStyle: "iso_8601",
  standard_conforming_strings: "on",
  client_encoding: "UTF8",
  extra_float_digits: "1",
  bytea_output: "hex",
  idle_in_transaction_session_timeout: String(idleInTransactionMs),
};

/** Sets what holds for one transaction. */
function settings(own: Record<string, string>, { kept }: { kept: boolean }): BatchStatement {
  const all = Object.entries({ ...settingsOfAll, ...own });
  const set = all.map(([name], index) => `pg_catalog.set_config('${name}', $${index + 1}, true)`);
  return { sql: `SELECT ${set.join(", ")}`, params: all.map(([, value]) => value), kept };
}

function leftRunning(cause: unknown): ToolError {
  return new ToolError(
    "statement_left_running",
    "The statement was cancelled and its connection closed, and the server was not seen to end it.",
    { next: "Have an administrator look at pg_stat_activity for application_name pg-mcp.", cause },
  );
}
