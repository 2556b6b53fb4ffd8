import { ToolError } from "@es-to-pg/mcp-kit";
import type { Connection } from "./connection.ts";

/** How long a call waits for another to give its connection back. */
const waitMs = 15_000;
/** An idle session is given up after this, so that a quiet server holds no connections. */
const idleMs = 30_000;

/** How long no further session is asked for after the server had none to give. */
const noneLeftMs = 1_000;

/** Whether the server, or a pooler before it, has no session left for the role, the database or at all. */
function isTooMany(error: unknown): boolean {
  return error instanceof ToolError && error.details?.["sqlstate"] === "53300";
}

interface Waiter {
  /** Connections that stay for others when this one takes one. */
  leavesMin: number;
  isOver(): boolean;
  take(connection: Connection): void;
  fail(error: unknown): void;
}

/** A few connections opened on demand, given to one holder at a time. */
export class Pool {
  readonly #open: () => Promise<Connection>;
  readonly #connectionsMax: number;
  readonly #idle: { connection: Connection; timer: NodeJS.Timeout }[] = [];
  readonly #waiting: Waiter[] = [];
  readonly #held = new Set<Connection>();
  #count = 0;
  /** How many the server gives, as far as that is known. */
  #givenMax = Number.POSITIVE_INFINITY;
  #closed = false;

  constructor(options: { open: () => Promise<Connection>; connectionsMax: number }) {
    this.#open = options.open;
    this.#connectionsMax = options.connectionsMax;
  }

  /** Connections by what they are doing, and calls that wait for one: a job that waits for its turn is none. */
  usage(): { used: number; idle: number; waiting: number; max: number } {
    return {
      used: this.#held.size,
      idle: this.#idle.length,
      waiting: this.#waiting.filter(({ leavesMin }) => leavesMin === 0).length,
      max: this.#connectionsMax,
    };
  }

  /**
   * With `leavesMin` only while so many stay for others then; whoever leaves less goes first. Waits for one no longer than
   * `waitMsMax`: 0 does not wait at all, Infinity is bounded by the signal alone.
   */
  async acquire(signal: AbortSignal, { leavesMin = 0, waitMsMax = waitMs } = {}): Promise<Connection> {
    signal.throwIfAborted();
    if (this.#closed) throw shuttingDown();
    const isNext = !this.#waiting.some((waiter) => waiter.leavesMin <= leavesMin);
    if (isNext && this.#isFree(leavesMin)) {
      try {
        return await this.#take();
      } catch (error) {
        if (!this.#isShared(error)) throw error;
      }
    }
    if (waitMsMax === 0) throw this.#busy();
    return await this.#wait(signal, { leavesMin, waitMsMax });
  }

  release(connection: Connection): void {
    this.#held.delete(connection);
    if (connection.broken || this.#closed) {
      this.#count--;
      void connection.end();
    } else {
      const entry = {
        connection,
        timer: setTimeout(() => {
          this.#idle.splice(this.#idle.indexOf(entry), 1);
          this.#count--;
          void connection.end();
        }, idleMs),
      };
      entry.timer.unref();
      this.#idle.push(entry);
    }
    this.#serve();
  }

  /** Ends idle sessions politely and those in use at once. */
  async close(): Promise<void> {
    this.#closed = true;
    for (const waiter of this.#waiting.splice(0)) waiter.fail(shuttingDown());
    for (const connection of this.#held) connection.destroy();
    await Promise.all(
      this.#idle.splice(0).map(({ connection, timer }) => {
        clearTimeout(timer);
        return connection.end();
      }),
    );
  }

  /** Whether one can be taken now so that as many stay. */
  #isFree(leavesMin: number): boolean {
    if (this.#idle.length === 0 && this.#count >= this.#givenMax) return false;
    return this.#connectionsMax - this.#count + this.#idle.length > leavesMin;
  }

  /** Whether it was the server that had no session left, so that those which it has given are waited for. */
  #isShared(error: unknown): boolean {
    return isTooMany(error) && this.#count > 0;
  }

  /** An idle connection or a new one. It counts as taken from the first moment on. */
  async #take(): Promise<Connection> {
    for (let idle = this.#idle.pop(); idle !== undefined; idle = this.#idle.pop()) {
      clearTimeout(idle.timer);
      if (!idle.connection.broken) {
        this.#held.add(idle.connection);
        return idle.connection;
      }
      this.#count--;
    }
    this.#count++;
    try {
      const connection = await this.#open();
      this.#held.add(connection);
      return connection;
    } catch (error) {
      this.#count--;
      if (this.#isShared(error)) this.#askNoMore();
      // Those in line may have more luck, or learn the same reason.
      this.#serve();
      throw error;
    }
  }

  #askNoMore(): void {
    this.#givenMax = this.#count;
    const timer = setTimeout(() => {
      this.#givenMax = Number.POSITIVE_INFINITY;
      this.#serve();
    }, noneLeftMs);
    timer.unref();
  }

  /** Gives what is free to those who wait, the first who may have it first. */
  #serve(): void {
    for (;;) {
      const waiter = this.#closed ? undefined : this.#waiting.find(({ leavesMin }) => this.#isFree(leavesMin));
      if (waiter === undefined) return;
      this.#waiting.splice(this.#waiting.indexOf(waiter), 1);
      this.#take().then(
        (connection) => waiter.take(connection),
        (error: unknown) => {
          if (this.#isShared(error) && !waiter.isOver()) this.#waiting.unshift(waiter);
          else waiter.fail(error);
        },
      );
    }
  }

  #busy(): ToolError {
    return new ToolError("connections_busy", `All ${this.#connectionsMax} connections of this server are in use.`, {
      retryable: true,
      next: "Call again when running calls or loads have ended.",
    });
  }

  #wait(signal: AbortSignal, { leavesMin, waitMsMax }: { leavesMin: number; waitMsMax: number }): Promise<Connection> {
    return new Promise((resolve, reject) => {
      let isOver = false;
      const leave = () => {
        isOver = true;
        clearTimeout(timer);
        signal.removeEventListener("abort", aborted);
        const position = this.#waiting.indexOf(waiter);
        if (position >= 0) this.#waiting.splice(position, 1);
      };
      const fail = (error: unknown) => {
        leave();
        reject(error);
      };
      const aborted = () => fail(signal.reason);
      const timer = Number.isFinite(waitMsMax) ? setTimeout(() => fail(this.#busy()), waitMsMax) : undefined;
      const waiter: Waiter = {
        leavesMin,
        isOver: () => isOver,
        take: (connection) => {
          // It was opened for somebody who is gone by now.
          if (isOver) return this.release(connection);
          leave();
          resolve(connection);
        },
        fail,
      };
      signal.addEventListener("abort", aborted, { once: true });
      this.#waiting.push(waiter);
    });
  }
}

function shuttingDown(): ToolError {
  return new ToolError("shutting_down", "The server is shutting down.", { retryable: true });
}
