import type { Readable, Writable } from "node:stream";
import { finished } from "node:stream/promises";
import { type JSONRPCMessage, ProtocolErrorCode, type Server, type Transport } from "@modelcontextprotocol/server";
import { StdioServerTransport, serveStdio as serveEra } from "@modelcontextprotocol/server/stdio";
import { LineLimit } from "./line-limit.ts";
import type { Logger } from "./log.ts";

/** Largest message in bytes, over either transport: rows that come inline in a call, and not a memory full of them. */
export const MESSAGE_BYTES_MAX = 16 * 1024 * 1024;

/** What the SDK may hold unparsed: a message, and the beginning of the next. Past it the SDK ends the pipe. */
const READ_BUFFER_BYTES_MAX = 2 * MESSAGE_BYTES_MAX;

/** The key in `_meta` by which a request of the 2026 generation names its protocol version. */
const VERSION_KEY = "io.modelcontextprotocol/protocolVersion";

/** A server on a pipe. */
export interface StdioServing {
  /** Waits until every request read so far is answered, at most `durationMs`. */
  answered(durationMs: number): Promise<void>;
  /** Ends both generations' instances: calls still in flight are aborted and not answered. */
  close(): Promise<void>;
}

/**
 * Serves both protocol generations on one pair of streams. The SDK pins a pipe to the generation of its first message,
 * but one pipe may carry clients of both (a host that probes by `server/discover`, a container several clients attach
 * to), so each message goes to the instance of its own generation. `onEnd` is called once, when the input has ended or
 * a stream has failed; the caller closes.
 */
export async function serveStdio(options: {
  server: () => Server;
  input: Readable;
  output: Writable;
  logger: Logger;
  onEnd: () => void;
}): Promise<StdioServing> {
  const { server, input, output, logger, onEnd } = options;
  // The inlet keeps two things from the SDK that would end the pipe: a message that is too large, and the end of the
  // input before what was read just ahead of it is answered.
  const inlet = new LineLimit(MESSAGE_BYTES_MAX, ({ bytes, id }) => {
    logger.warn("message_too_large", { bytes });
    const message = `The message has ${bytes} bytes; at most ${MESSAGE_BYTES_MAX} are read. Send less at once.`;
    // An answer without an id is legal JSON-RPC, which the SDK's type leaves out.
    const answer = { jsonrpc: "2.0", id, error: { code: ProtocolErrorCode.InvalidRequest, message } };
    output.write(`${JSON.stringify(answer)}\n`);
  });
  const pipe = new StdioServerTransport(inlet, output, { maxBufferSize: READ_BUFFER_BYTES_MAX });
  const pending = new PendingRequests();
  const legacy = new Lane(pipe, pending);
  const modern = new Lane(pipe, pending);

  pipe.onmessage = (message) => {
    const lane = laneOf(message, pending) ?? (isModern(message) ? modern : legacy);
    pending.received(message, lane);
    lane.onmessage?.(message);
  };
  const onerror = (error: Error) => logger.warn("protocol_error", { message: error.message.slice(0, 500) });
  pipe.onerror = onerror;
  pipe.onclose = () => {
    legacy.onclose?.();
    modern.onclose?.();
    onEnd();
  };
  const instances = [legacy, modern].map((transport) => serveEra(server, { transport, onerror }));
  await pipe.start();

  input.on("error", (error) => logger.warn("stdin_failed", { message: error.message }));
  input.once("close", onEnd);
  input.once("end", onEnd);
  input.pipe(inlet, { end: false });

  return {
    answered: (durationMs) => pending.settled(durationMs),
    async close() {
      input.unpipe(inlet);
      input.pause();
      await Promise.all(instances.map((instance) => instance.close()));
      await pipe.close();
      // The last answers may still be queued in this process, and ending it would lose them.
      if (!output.destroyed) await finished(output.end());
    },
  };
}

/** One generation's half of the pipe. */
class Lane implements Transport {
  onclose?: () => void;
  onerror?: (error: Error) => void;
  onmessage?: NonNullable<Transport["onmessage"]>;
  readonly #pipe: StdioServerTransport;
  readonly #pending: PendingRequests;

  constructor(pipe: StdioServerTransport, pending: PendingRequests) {
    this.#pipe = pipe;
    this.#pending = pending;
  }

  /** The pipe is started once, for both. */
  async start(): Promise<void> {}

  async send(message: JSONRPCMessage): Promise<void> {
    await this.#pipe.send(message);
    this.#pending.sent(message);
  }

  async close(): Promise<void> {
    this.onclose?.();
  }
}

/** A subscription: a request that stays open for as long as the client likes. */
const LISTEN_METHOD = "subscriptions/listen";

/** Requests that were read and not answered, and whose they are. */
class PendingRequests {
  readonly #requests = new Map<string | number, { lane: Lane; awaited: boolean }>();
  readonly #waiting = new Set<() => void>();

  received(message: JSONRPCMessage, lane: Lane): void {
    if (!("method" in message) || !("id" in message)) return;
    this.#requests.set(message.id, { lane, awaited: message.method !== LISTEN_METHOD });
  }

  sent(message: JSONRPCMessage): void {
    if ("method" in message || message.id === undefined) return;
    this.forget(message.id);
  }

  laneOf(id: string | number): Lane | undefined {
    return this.#requests.get(id)?.lane;
  }

  /** For a request that is cancelled: the protocol leaves it without an answer. */
  forget(id: string | number): void {
    this.#requests.delete(id);
    if (!this.#isAwaiting()) for (const resolve of this.#waiting) resolve();
  }

  async settled(durationMs: number): Promise<void> {
    // A turn of the loop, so that input which has been read but not parsed yet counts.
    await new Promise((resolve) => setImmediate(resolve));
    if (!this.#isAwaiting()) return;
    const { promise, resolve } = Promise.withResolvers<void>();
    this.#waiting.add(resolve);
    const timer = setTimeout(resolve, durationMs);
    await promise;
    clearTimeout(timer);
    this.#waiting.delete(resolve);
  }

  #isAwaiting(): boolean {
    return [...this.#requests.values()].some(({ awaited }) => awaited);
  }
}

/** A cancellation belongs to the request it names, in whatever generation that came. */
function laneOf(message: JSONRPCMessage, pending: PendingRequests): Lane | undefined {
  if (!("method" in message) || message.method !== "notifications/cancelled") return undefined;
  const id = message.params?.["requestId"];
  if (typeof id !== "string" && typeof id !== "number") return undefined;
  const lane = pending.laneOf(id);
  pending.forget(id);
  return lane;
}

function isModern(message: JSONRPCMessage): boolean {
  if (!("method" in message)) return false;
  const meta = message.params?.["_meta"];
  return typeof meta === "object" && meta !== null && VERSION_KEY in meta;
}
