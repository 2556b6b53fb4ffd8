import type { Readable } from "node:stream";
import { setTimeout as delay } from "node:timers/promises";
import type { Client, ClientOptions } from "@elastic/elasticsearch";
import { ToolError } from "@es-to-pg/mcp-kit";
import { type EsSettings, nodesOf } from "../config.ts";
import { isSearchTimeout, unreachable } from "./failures.ts";
import { pinnedAuthority } from "./pinned.ts";
import { ResponseBuffer } from "./response-buffer.ts";

/** Time in which a first answer of any kind must come, whichever way the connection fails. */
const CONNECT_TIMEOUT_MS = 8_000;

/** Sockets to one node. Tools ask for little at once; an export reads one page after the other. */
const SOCKETS_MAX = 8;

/** A node that restarts or a proxy that loses its upstream answers 502 to 504 for a moment. Every request can be repeated, unless it says `once`. */
const RETRY_DELAYS_MS = [200, 1_000];
const RETRIED_STATUS = new Set([502, 503, 504]);

/** Memory for one answer, if the caller names no other limit. */
const RESPONSE_BYTES_MAX = 256 * 1024 * 1024;

export interface WireRequest {
  method: string;
  path: string;
  query?: Record<string, string> | undefined;
  /** A JSON text, or lines of them. */
  body?: string | undefined;
  contentType?: string;
}

export interface WireAnswer {
  status: number;
  body: Buffer;
}

export interface WireOptions {
  signal: AbortSignal;
  timeoutMs: number;
  bytesMax?: number | undefined;
  into?: ResponseBuffer | undefined;
  /** Sent once, whatever happens. */
  once?: boolean | undefined;
}

/** The connection to Elasticsearch, opened at the first request. Statuses of 400 and more are answers here, not failures. */
export class EsConnection {
  readonly #settings: EsSettings;
  #client: Promise<Client> | undefined;
  /** Settled once any node has answered; forgotten when the connection is lost, so that the next call is bounded again. */
  #reached: Promise<void> | undefined;

  constructor(settings: EsSettings) {
    this.#settings = settings;
  }

  async send(request: WireRequest, options: WireOptions): Promise<WireAnswer> {
    options.signal.throwIfAborted();
    this.#reached ??= this.#reach();
    await abortable(this.#reached, options.signal);
    for (let attempt = 0; ; attempt += 1) {
      const answer = await this.#attempt(request, options);
      const delayMs = RETRY_DELAYS_MS[attempt];
      if (options.once === true || delayMs === undefined || !RETRIED_STATUS.has(answer.status)) return answer;
      if (isSearchTimeout(answer)) return answer;
      await delay(delayMs * (0.5 + Math.random()), undefined, { signal: options.signal }).catch(() => {});
      options.signal.throwIfAborted();
    }
  }

  async close(): Promise<void> {
    const client = await this.#client?.catch(() => undefined);
    this.#client = undefined;
    this.#reached = undefined;
    await client?.close();
  }

  /** Any status proves that the address is right: a 401 or 405 here is left to the request that follows. */
  async #reach(): Promise<void> {
    const never = new AbortController().signal;
    try {
      await this.#attempt({ method: "HEAD", path: "/" }, { signal: never, timeoutMs: CONNECT_TIMEOUT_MS });
    } catch (error) {
      this.#reached = undefined;
      throw error;
    }
  }

  async #attempt(request: WireRequest, options: WireOptions): Promise<WireAnswer> {
    const timeout = AbortSignal.timeout(options.timeoutMs);
    const signal = AbortSignal.any([options.signal, timeout]);
    const headers: Record<string, string> = { accept: "application/json" };
    if (request.body !== undefined) headers["content-type"] = request.contentType ?? "application/json";
    try {
      const client = await this.#open(signal);
      const { statusCode, body } = await client.transport.request<Readable>(
        {
          method: request.method,
          path: request.path,
          ...(request.query === undefined ? {} : { querystring: request.query }),
          ...(request.body === undefined ? {} : { body: request.body }),
        },
        // As a stream, because otherwise the transport decodes the body to a string and parses it: numbers and bytes would be lost.
        { asStream: true, meta: true, signal, headers, ...(options.once === true ? { maxRetries: 0 } : {}) },
      );
      const into = options.into ?? new ResponseBuffer(0);
      await readAll(body, into, options.bytesMax ?? RESPONSE_BYTES_MAX);
      return { status: statusCode ?? 0, body: into.bytes };
    } catch (error) {
      options.signal.throwIfAborted();
      if (error instanceof ToolError) throw error;
      this.#reached = undefined;
      throw unreachable(error, this.#settings, timeout.aborted ? options.timeoutMs : undefined);
    }
  }

  #open(signal: AbortSignal): Promise<Client> {
    this.#client ??= openClient(this.#settings, signal).catch((error: unknown) => {
      this.#client = undefined;
      throw error;
    });
    return this.#client;
  }
}

async function openClient(settings: EsSettings, signal: AbortSignal): Promise<Client> {
  // Importing the client takes longer than the whole start of the server may.
  const library = import("@elastic/elasticsearch");
  const isPinned = settings.ELASTICSEARCH_TLS_FINGERPRINT !== undefined && !settings.ELASTICSEARCH_TLS_INSECURE;
  const authority = isPinned ? await pinnedAuthority(nodesOf(settings), settings, signal) : undefined;
  const { Client } = await library;
  return new Client(clientOptions(settings, authority));
}

function clientOptions(settings: EsSettings, pinned: string | undefined): ClientOptions {
  const nodes = nodesOf(settings).map(String);
  const auth = authOf(settings);
  const authority = pinned ?? settings.ELASTICSEARCH_CA_CERT;
  return {
    nodes,
    ...(auth === undefined ? {} : { auth }),
    tls: {
      timeout: CONNECT_TIMEOUT_MS,
      rejectUnauthorized: !settings.ELASTICSEARCH_TLS_INSECURE,
      ...(authority === undefined ? {} : { ca: authority }),
      // Who holds the pinned key, or a certificate signed with it, is the cluster by whatever name it is reached.
      ...(pinned === undefined ? {} : { allowPartialTrustChain: true, checkServerIdentity: () => undefined }),
      ...(settings.ELASTICSEARCH_CLIENT_CERT === undefined ? {} : { cert: settings.ELASTICSEARCH_CLIENT_CERT }),
      ...(settings.ELASTICSEARCH_CLIENT_KEY === undefined ? {} : { key: settings.ELASTICSEARCH_CLIENT_KEY }),
    },
    agent: { connections: SOCKETS_MAX },
    // Each node is asked once; what is retried beyond that, `send` decides.
    maxRetries: Math.max(1, nodes.length - 1),
    // Time is kept by signals: the transport would end a request by dispatching `abort` on a signal that is not its own.
    requestTimeout: 3_600_000,
    compression: false,
    enableMetaHeader: false,
    sniffOnStart: false,
  };
}

function authOf(settings: EsSettings): ClientOptions["auth"] {
  if (settings.ELASTICSEARCH_API_KEY !== undefined) return { apiKey: settings.ELASTICSEARCH_API_KEY };
  if (settings.ELASTICSEARCH_BEARER !== undefined) return { bearer: settings.ELASTICSEARCH_BEARER };
  if (settings.ELASTICSEARCH_USERNAME === undefined) return undefined;
  return { username: settings.ELASTICSEARCH_USERNAME, password: settings.ELASTICSEARCH_PASSWORD ?? "" };
}

/** By events, because an iterator makes one buffer of all that waits before it hands it out. */
async function readAll(body: Readable, into: ResponseBuffer, bytesMax: number): Promise<void> {
  into.clear();
  let bytes = 0;
  const { promise, resolve, reject } = Promise.withResolvers<void>();
  const take = (chunk: Buffer): void => {
    bytes += chunk.length;
    if (bytes <= bytesMax) into.append(chunk);
    else reject(responseTooLarge(bytesMax));
  };
  body
    .on("data", take)
    .once("end", resolve)
    .on("error", reject)
    .once("close", () => {
      // Every answer's stream closes after its end, and an error is costly to make.
      if (!body.readableEnded) reject(new Error("other side closed"));
    });
  try {
    await promise;
  } catch (error) {
    // The memory may serve another answer by now, and a stream that is destroyed frees its socket.
    body.off("data", take).destroy();
    throw error;
  }
}

function responseTooLarge(bytesMax: number): ToolError {
  return new ToolError("response_too_large", `Elasticsearch's answer is larger than ${bytesMax} bytes.`, {
    next: "Ask for fewer documents at once, or for fewer fields.",
    details: { bytes_max: bytesMax },
  });
}

async function abortable<T>(promise: Promise<T>, signal: AbortSignal): Promise<T> {
  const { promise: aborted, reject } = Promise.withResolvers<never>();
  const onAbort = (): void => reject(signal.reason);
  signal.addEventListener("abort", onAbort, { once: true });
  try {
    return await Promise.race([promise, aborted]);
  } finally {
    signal.removeEventListener("abort", onAbort);
  }
}
