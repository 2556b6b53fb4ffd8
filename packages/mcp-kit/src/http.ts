import { createHash, timingSafeEqual } from "node:crypto";
import { createServer, type IncomingMessage, type Server as NodeServer, type ServerResponse } from "node:http";
import { isIP } from "node:net";
import { toNodeHandler } from "@modelcontextprotocol/node";
import { createMcpHandler, type Server } from "@modelcontextprotocol/server";
import { clip } from "./answer.ts";
import type { Logger } from "./log.ts";
import type { Page } from "./page.ts";
import { pageHandler } from "./page-http.ts";
import { withoutPasswords } from "./redact.ts";
import type { Settings } from "./settings.ts";
import { type kitSettings, SettingsError } from "./settings.ts";
import { MESSAGE_BYTES_MAX } from "./stdio.ts";
import { ToolError } from "./tool-error.ts";

/** What clients may take of the server before they have said anything sensible. */
export interface HttpLimits {
  /** How long a client may take to send a request's headers, and all of it. */
  headersTimeoutMs: number;
  requestTimeoutMs: number;
  /** How often connections are looked at for the two above. */
  checkIntervalMs: number;
  /** Most connections at a time: more are cut off, before they take memory. */
  connectionsMax: number;
  /** Headers of one request. */
  headerBytesMax: number;
  /** Bodies that are read at the same time, together: memory, several times over while they are parsed. */
  bodiesBytesMax: number;
}

/** Bodies up to this size count for nothing, so that slow senders of large ones are in nobody's way. */
const BODY_BYTES_SMALL = 256 * 1024;

const LIMITS: HttpLimits = {
  headersTimeoutMs: 10_000,
  requestTimeoutMs: 60_000,
  // Node's own is 30 s, which would make the first limit 40 s for who is unlucky, and for who tries.
  checkIntervalMs: 2_000,
  connectionsMax: 512,
  headerBytesMax: 16_384,
  bodiesBytesMax: 4 * MESSAGE_BYTES_MAX,
};

/** How long `/readyz` waits for a dependency, and how long its verdict stands: probes come often and from several sides. */
const READY_TIMEOUT_MS = 9000;
const READY_TTL_MS = 2000;

/** Who may call: what `MCP_HTTP_*` say, in the form that a request is checked by. */
export interface HttpAccess {
  /** SHA-256 of the bearer token; null serves everybody. */
  tokenDigest: Buffer | null;
  /** SHA-256 of the bearer token that opens `/metrics` alone; null where there is none. */
  metricsTokenDigest: Buffer | null;
  /** Host names in lower case; null accepts any. */
  hosts: ReadonlySet<string> | null;
  /** Origins in lower case, besides those on loopback; `*` accepts any. */
  origins: ReadonlySet<string>;
}

/** Reads who may call from the settings, or throws a `SettingsError`: nothing off loopback without a token, unless on purpose. */
export function httpAccess(settings: Settings<typeof kitSettings>): HttpAccess {
  const { MCP_HTTP_HOST: host, MCP_HTTP_TOKEN: token, MCP_METRICS_TOKEN: metricsToken } = settings;
  if (token === undefined && !isLoopback(host)) {
    throw new SettingsError([
      `MCP_HTTP_TOKEN: needed because MCP_HTTP_HOST=${clip(host, 80)} is reachable from outside; set a token, or none to serve everybody`,
    ]);
  }
  const tokenDigest = token === undefined || token === "none" ? null : sha256(token);
  const listed = settings.MCP_HTTP_ALLOWED_HOSTS.map((name) => name.toLowerCase());
  const anyHost = listed.includes("*") || (tokenDigest !== null && listed.length === 0);
  return {
    tokenDigest,
    metricsTokenDigest: metricsToken === undefined ? null : sha256(metricsToken),
    hosts: anyHost ? null : new Set([...listed, host.toLowerCase()]),
    origins: new Set(settings.MCP_HTTP_ALLOWED_ORIGINS.map((origin) => origin.toLowerCase().replace(/\/$/, ""))),
  };
}

/** Why a request may not pass, as status and sentence; undefined if it may. */
export function refusal(
  headers: { host?: string | undefined; origin?: string | undefined; authorization?: string | undefined },
  access: HttpAccess,
): { status: 401 | 403; message: string } | undefined {
  if (!isAllowedHost(headers.host, access)) {
    return { status: 403, message: "This Host is not allowed; MCP_HTTP_ALLOWED_HOSTS lists the names that are." };
  }
  if (!isAllowedOrigin(headers.origin, access)) {
    return { status: 403, message: "This Origin is not allowed; MCP_HTTP_ALLOWED_ORIGINS lists those that are." };
  }
  if (!isAuthorized(headers.authorization, access)) {
    return { status: 401, message: "Send the header Authorization: Bearer with the token of MCP_HTTP_TOKEN." };
  }
  return undefined;
}

/** Why a request may not read the metrics; their own token opens them, and so does the one that opens all. */
export function metricsRefusal(headers: Parameters<typeof refusal>[0], access: HttpAccess): ReturnType<typeof refusal> {
  const { tokenDigest, metricsTokenDigest } = access;
  if (metricsTokenDigest === null) return refusal(headers, access);
  // Who knows a token is no browser that was led here, whatever name it calls the server by.
  if (isAuthorized(headers.authorization, { ...access, tokenDigest: metricsTokenDigest })) return undefined;
  if (tokenDigest !== null && refusal(headers, access) === undefined) return undefined;
  return { status: 401, message: "Send the header Authorization: Bearer with the token of MCP_METRICS_TOKEN." };
}

function isAuthorized(authorization: string | undefined, access: HttpAccess): boolean {
  if (access.tokenDigest === null) return true;
  const sent = /^Bearer +(\S+) *$/i.exec(authorization ?? "")?.[1] ?? "";
  // Digests have one length, so that the time of the comparison tells nothing of the token, not even its length.
  return timingSafeEqual(sha256(sent), access.tokenDigest);
}

/**
 * A web page can make a browser call a server on its own network by a name that resolves there (DNS rebinding). Such a
 * call always carries a name, so addresses pass, and names only if they are known.
 */
function isAllowedHost(host: string | undefined, access: HttpAccess): boolean {
  if (access.hosts === null) return true;
  const name = hostName(`http://${host ?? ""}`);
  return name !== undefined && (isLoopback(name) || isIP(withoutBrackets(name)) !== 0 || access.hosts.has(name));
}

function isAllowedOrigin(origin: string | undefined, access: HttpAccess): boolean {
  if (origin === undefined || access.origins.has("*") || access.origins.has(origin.toLowerCase())) return true;
  const name = hostName(origin);
  return name !== undefined && isLoopback(name);
}

function hostName(url: string): string | undefined {
  return URL.canParse(url) ? new URL(url).hostname.toLowerCase() || undefined : undefined;
}

function isLoopback(name: string): boolean {
  const plain = withoutBrackets(name.toLowerCase());
  return plain === "localhost" || plain === "::1" || (isIP(plain) === 4 && plain.startsWith("127."));
}

function withoutBrackets(name: string): string {
  return name.replace(/^\[(.*)\]$/, "$1");
}

function sha256(text: string): Buffer {
  return createHash("sha256").update(text).digest();
}

/** A server that listens. */
export interface HttpServing {
  url: string;
  /** Takes no new request, and waits at most `durationMs` for those in flight to be answered. */
  answered(durationMs: number): Promise<void>;
  /** Cuts whatever is still open. */
  close(): Promise<void>;
}

/**
 * Serves both protocol generations over streamable HTTP, without sessions: any request may go to any process.
 * `/healthz` tells that the process runs, `/readyz` whether its dependencies do, and at `/` is the page.
 */
export async function serveHttp(options: {
  server: () => Server;
  settings: Settings<typeof kitSettings>;
  access: HttpAccess;
  ready: () => Promise<void>;
  logger: Logger;
  page?: Page | undefined;
  /** All metrics as text, where they are served. */
  metrics?: () => Promise<string>;
  limits?: HttpLimits;
}): Promise<HttpServing> {
  const { server, settings, access, logger, metrics, limits = LIMITS } = options;
  const onerror = (error: Error) => logger.warn("protocol_error", { message: error.message.slice(0, 500) });
  const mcp = createMcpHandler(server, { onerror, maxRequestBodySize: MESSAGE_BYTES_MAX });
  const handleMcp = toNodeHandler(mcp, { onerror, maxRequestBodySize: MESSAGE_BYTES_MAX });
  const readiness = cachedReadiness(options.ready);
  let readingBytes = 0;
  const showPage = options.page === undefined ? undefined : pageHandler(options.page, settings.MCP_HTTP_PATH);

  const handle = async (request: IncomingMessage, response: ServerResponse): Promise<void> => {
    const path = (request.url ?? "/").split("?")[0] ?? "/";
    const refused = refusal(request.headers, access);
    // Nothing else reads a body, and a kept connection would have to swallow one of any length.
    if (path !== settings.MCP_HTTP_PATH && bodyBytes(request) > 0) response.setHeader("Connection", "close");
    if (path === "/healthz") return answerJson(response, 200, { status: "ok" });
    if (path === "/readyz") return answerReadiness(response, await readiness(), refused === undefined);
    if (path === "/" && path !== settings.MCP_HTTP_PATH && showPage !== undefined && refused?.status !== 403) {
      // No data is in the page, so a browser may have it without the token that no address bar can send.
      return showPage(request, response);
    }
    if (path === METRICS_PATH && metrics !== undefined) {
      const unread = metricsRefusal(request.headers, access);
      return unread === undefined ? answerText(response, await metrics()) : answerRefusal(response, unread);
    }
    if (path !== settings.MCP_HTTP_PATH)
      return answerJson(response, 404, { error: `The MCP endpoint is ${settings.MCP_HTTP_PATH}.` });
    if (refused !== undefined) {
      if (refused.status === 401) response.setHeader("WWW-Authenticate", "Bearer");
      // The body was not read, and a kept connection would have to swallow it.
      response.setHeader("Connection", "close");
      return answerJson(response, refused.status, {
        jsonrpc: "2.0",
        id: null,
        error: { code: -32_000, message: refused.message },
      });
    }
    const bytes = bodyBytes(request);
    // One that is too large is refused before it is read.
    if (bytes > BODY_BYTES_SMALL && bytes <= MESSAGE_BYTES_MAX) {
      if (readingBytes + bytes > limits.bodiesBytesMax) {
        response.setHeader("Connection", "close").setHeader("Retry-After", "1");
        return answerJson(response, 503, {
          jsonrpc: "2.0",
          id: null,
          error: { code: -32_000, message: "Too many large requests are being read; send this one again in a moment." },
        });
      }
      readingBytes += bytes;
      request.once("close", () => {
        readingBytes -= bytes;
      });
    }
    // Node's own server sets both; its type leaves them open for the client's side.
    await handleMcp(Object.assign(request, { method: request.method ?? "GET", url: request.url ?? "/" }), response);
  };

  const { headersTimeoutMs, requestTimeoutMs, checkIntervalMs, headerBytesMax } = limits;
  const bounds = {
    headersTimeout: headersTimeoutMs,
    requestTimeout: requestTimeoutMs,
    connectionsCheckingInterval: checkIntervalMs,
    maxHeaderSize: headerBytesMax,
  };
  const http = createServer(bounds, (request, response) => {
    handle(request, response).catch((error: unknown) => {
      logger.error("http_failed", { error });
      if (response.headersSent) response.destroy();
      else answerJson(response, 500, { error: "internal_error" });
    });
  });
  http.maxConnections = limits.connectionsMax;
  await listen(http, settings.MCP_HTTP_PORT, settings.MCP_HTTP_HOST);
  const url = addressOf(http, settings.MCP_HTTP_PATH);
  logger.info("listening", { url, token: access.tokenDigest !== null });

  let closed: Promise<void> | undefined;
  const stopListening = () => {
    closed ??= new Promise<void>((resolve) => {
      http.close(() => resolve());
    });
    http.closeIdleConnections();
    return closed;
  };
  return {
    url,
    async answered(durationMs) {
      const { promise: late, resolve } = Promise.withResolvers<void>();
      const timer = setTimeout(resolve, durationMs);
      await Promise.race([stopListening(), late]);
      clearTimeout(timer);
    },
    async close() {
      const done = stopListening();
      await mcp.close();
      http.closeAllConnections();
      await done;
    },
  };
}

/** How large a body may become: what it says, or as much as is read of any. */
function bodyBytes({ headers }: IncomingMessage): number {
  if (headers["transfer-encoding"] !== undefined) return MESSAGE_BYTES_MAX;
  return Number(headers["content-length"] ?? 0);
}

async function listen(http: NodeServer, port: number, host: string): Promise<void> {
  const { promise, resolve, reject } = Promise.withResolvers<void>();
  http.once("error", reject);
  http.listen(port, host, resolve);
  await promise;
  http.off("error", reject);
}

function addressOf(http: NodeServer, path: string): string {
  const address = http.address();
  if (address === null || typeof address === "string") throw new Error("the HTTP server has no address");
  const host = address.family === "IPv6" ? `[${address.address}]` : address.address;
  return `http://${host}:${address.port}${path}`;
}

type Readiness = { ready: true } | { ready: false; code: string; message: string };

/** `ready` as a verdict: bounded in time, and asked once for all probes that come close together. */
function cachedReadiness(ready: () => Promise<void>): () => Promise<Readiness> {
  let current: { verdict: Promise<Readiness>; until: number } | undefined;
  return () => {
    const now = performance.now();
    if (current === undefined || now > current.until) {
      const asked = { verdict: judge(ready), until: Number.POSITIVE_INFINITY };
      current = asked;
      void asked.verdict.finally(() => {
        asked.until = performance.now() + READY_TTL_MS;
      });
    }
    return current.verdict;
  };
}

async function judge(ready: () => Promise<void>): Promise<Readiness> {
  const { promise: late, reject } = Promise.withResolvers<never>();
  const timer = setTimeout(
    () => reject(new ToolError("not_ready", "A dependency did not answer in time.")),
    READY_TIMEOUT_MS,
  );
  try {
    await Promise.race([ready(), late]);
    return { ready: true };
  } catch (error) {
    if (error instanceof ToolError) return { ready: false, code: error.code, message: withoutPasswords(error.message) };
    return { ready: false, code: "not_ready", message: "A dependency failed; the server's log may say why." };
  } finally {
    clearTimeout(timer);
  }
}

/** A probe without the token learns that the server is not ready; why, with its names of hosts, is for those who may call. */
function answerReadiness(response: ServerResponse, verdict: Readiness, mayKnow: boolean): void {
  if (verdict.ready) return answerJson(response, 200, { status: "ready" });
  const { code, message } = verdict;
  answerJson(response, 503, { status: "not_ready", code, ...(mayKnow ? { message } : {}) });
}

/** Where Prometheus looks for metrics. */
const METRICS_PATH = "/metrics";

function answerText(response: ServerResponse, text: string): void {
  response.writeHead(200, {
    "Content-Type": "text/plain; version=0.0.4; charset=utf-8",
    "Cache-Control": "no-store",
  });
  response.end(text);
}

function answerRefusal(response: ServerResponse, { status, message }: { status: 401 | 403; message: string }): void {
  if (status === 401) response.setHeader("WWW-Authenticate", "Bearer");
  answerJson(response, status, { error: message });
}

function answerJson(response: ServerResponse, status: number, body: unknown): void {
  response.writeHead(status, { "Content-Type": "application/json", "Cache-Control": "no-store" });
  response.end(JSON.stringify(body));
}
