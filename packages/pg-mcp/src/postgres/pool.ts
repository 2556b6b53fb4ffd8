import { ToolError } from "@es-to-pg/mcp-kit";
import type { Connection } from "./connection.ts";

/** How long a call waits for another to give its connection back. */
const waitMs = 15_000;
/** An idle session is given up after this, so that a quiet server holds no connections. */
const idleMs = 30_000;

interface Waiter {
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
  #closed = false;

  constructor(options: { open: () => Promise<Connection>; connectionsMax: number }) {
    this.#open = options.open;
    this.#connectionsMax = options.connectionsMax;
  }

  /** Connections by what they are doing, and who waits for one. */
  usage(): { used: number; idle: number; waiting: number; max: number } {
    return {
      used: this.#held.size,
      idle: this.#idle.length,
      waiting: this.#waiting.length,
      max: this.#connectionsMax,
    };
  }

  /** With `leavesMin` only if so many stay for others then, and without waiting for one. */
  async acquire(signal: AbortSignal, { leavesMin = 0 } = {}): Promise<Connection> {
    signal.throwIfAborted();
    if (this.#closed) throw new ToolError("shutting_down", "The server is shutting down.", { retryable: true });
    const free = this.#connectionsMax - this.#count + this.#idle.length;
    if (leavesMin > 0 && free - 1 < leavesMin) throw this.#busy();
    for (let idle = this.#idle.pop(); idle !== undefined; idle = this.#idle.pop()) {
      clearTimeout(idle.timer);
      if (!idle.connection.broken) {
        this.#held.add(idle.connection);
        return idle.connection;
      }
      this.#count--;
    }
    if (this.#count >= this.#connectionsMax) return await this.#wait(signal);
    this.#count++;
    try {
      const connection = await this.#open();
      this.#held.add(connection);
      return connection;
    } catch (error) {
      this.#count--;
      // The next in line may have more luck, or learns the same reason.
      this.#waiting.shift()?.fail(error);
      throw error;
    }
  }

  release(connection: Connection): void {
    this.#held.delete(connection);
    if (connection.broken || this.#closed) {
      this.#count--;
      void connection.end();
      this.#refill();
      return;
    }
    const waiter = this.#waiting.shift();
    if (waiter !== undefined) {
      this.#held.add(connection);
      waiter.take(connection);
      return;
    }
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

  /** Ends idle sessions politely and those in use at once. */
  async close(): Promise<void> {
    this.#closed = true;
    for (const connection of this.#held) connection.destroy();
    await Promise.all(
      this.#idle.splice(0).map(({ connection, timer }) => {
        clearTimeout(timer);
        return connection.end();
      }),
    );
  }

  /** A connection that was thrown away leaves room for one that somebody waits for. */
  #refill(): void {
    const waiter = this.#waiting.shift();
    if (waiter === undefined || this.#closed) return;
    this.#count++;
    void this.#openFor(waiter);
  }

  async #openFor(waiter: Waiter): Promise<void> {
    try {
      const connection = await this.#open();
      this.#held.add(connection);
      waiter.take(connection);
    } catch (error) {
      this.#count--;
      waiter.fail(error);
    }
  }

  #busy(): ToolError {
    return new ToolError("connections_busy", `All ${this.#connectionsMax} connections of this server are in use.`, {
      retryable: true,
      next: "Call again when running calls or loads have ended.",
    });
  }

  #wait(signal: AbortSignal): Promise<Connection> {
    return new Promise((resolve, reject) => {
      const leave = () => {
        clearTimeout(timer);
        signal.removeEventListener("abort", aborted);
        const position = this.#waiting.indexOf(waiter);
        if (position >= 0) this.#waiting.splice(position, 1);
      };
      const aborted = () => {
        leave();
        reject(signal.reason);
      };
      const timer = setTimeout(() => {
        leave();
        reject(this.#busy());
      }, waitMs);
      const waiter: Waiter = {
        take: (connection) => {
          leave();
          resolve(connection);
        },
        fail: (error) => {
          leave();
          reject(error);
        },
      };
      signal.addEventListener("abort", aborted, { once: true });
      this.#waiting.push(waiter);
    });
  }
}
