import { Agent, fetch } from "undici";
import { z } from "zod";
import { BundleError } from "../bundle-error.ts";
import type { Call } from "./calls.ts";

/** Names of `{…}` in a path. */
type PathParams<Path extends string> = Path extends `${string}{${infer Name}}${infer Rest}`
  ? { [Key in Name]: string } & PathParams<Rest>
  : unknown;

type Request<Path extends string, Body> = {
  query?: Record<string, string>;
  /** Milliseconds; null waits as long as it takes. */
  timeoutMs?: number | null;
} & (keyof PathParams<Path> extends never ? unknown : { params: PathParams<Path> }) &
  (unknown extends Body ? unknown : { body: Body });

/** The request may be left out where nothing in it is required. */
type Arguments<Path extends string, Body> =
  Partial<Request<Path, Body>> extends Request<Path, Body>
    ? [request?: Request<Path, Body>]
    : [request: Request<Path, Body>];

/** What the platform answered instead of a 2xx. */
export class ApiError extends Error {
  override readonly name = "ApiError";
  readonly status: number;
  readonly call: string;
  /** The platform's own sentence. */
  readonly reason: string;

  constructor(options: { status: number; call: string; reason: string }) {
    super(`${options.call} answered ${options.status}: ${options.reason}`);
    this.status = options.status;
    this.call = options.call;
    this.reason = options.reason;
  }
}

/** Who calls: an API key (sent without "Bearer": with it the platform refuses the key), a session, or a bearer token. */
export type Credentials = { authorization: string } | { cookie: string };

/** A call that only reads or changes rows is answered within this time; discovery and restarts take tens of seconds. */
const CALL_TIMEOUT_MS = 150_000;

/** Code of the error by which a call ends that takes longer than it may. */
export const CALL_TIMED_OUT = "call_timed_out";

/** An answer that large is no answer of this API; its description, the largest, has 3 MB. */
const ANSWER_BYTES_MAX = 64 * 1024 * 1024;

const errorBody = z.object({ error: z.object({ message: z.string() }) });
const authErrorBody = z.object({ message: z.string() });

/** The platform's REST interface: typed calls, and nothing about what they are for. */
export class ArchestraApi {
  readonly baseUrl: string;
  readonly #signal: AbortSignal;
  // Node's fetch gives up after five minutes without headers, and a conversation may take longer.
  readonly #dispatcher = new Agent({ headersTimeout: 0, bodyTimeout: 0 });
  #credentials: Credentials | undefined;

  constructor(options: { baseUrl: string; signal: AbortSignal; credentials?: Credentials }) {
    this.baseUrl = options.baseUrl.replace(/\/+$/, "");
    this.#signal = options.signal;
    this.#credentials = options.credentials;
  }

  use(credentials: Credentials | undefined): void {
    this.#credentials = credentials;
  }

  /** The same platform for another caller. */
  as(credentials: Credentials): ArchestraApi {
    return new ArchestraApi({ baseUrl: this.baseUrl, signal: this.#signal, credentials });
  }

  async call<Path extends string, Body, Answer>(
    call: Call<Path, Body, Answer>,
    ...[request]: Arguments<Path, Body>
  ): Promise<Answer> {
    const { response, text } = await this.#send(call, request);
    if (!response.ok) throw refused(call, response.status, text);
    const parsed = call.answer.safeParse(parseJson(text));
    if (parsed.success) return parsed.data;
    throw new BundleError(
      "unexpected_answer",
      `${nameOf(call)} answered something else than this program knows:\n${z.prettifyError(parsed.error)}`,
      { next: "Compare the versions: npm run check:archestra -- FILE, with the platform's /openapi.json as FILE." },
    );
  }

  /** Makes a call whose answer's headers matter: signing in. */
  async headers<Path extends string, Body, Answer>(
    call: Call<Path, Body, Answer>,
    request: Request<Path, Body>,
  ): Promise<{ setCookie: string[] }> {
    const { response, text } = await this.#send(call, request);
    if (!response.ok) throw refused(call, response.status, text);
    return { setCookie: response.headers.getSetCookie() };
  }

  /** Reads a public document, such as `/openapi.json`. */
  async document(path: string): Promise<unknown> {
    const { text } = await this.#send({ method: "GET", path, answer: z.unknown() }, {});
    return parseJson(text);
  }

  /** Sends a message and yields the server-sent events of the answer. */
  async *events<Path extends string, Body, Answer>(
    call: Call<Path, Body, Answer>,
    request: Request<Path, Body>,
    headers: Record<string, string>,
  ): AsyncGenerator {
    const response = await this.#fetch(call, { ...request, timeoutMs: null }, headers);
    if (!response.ok || response.body === null) throw refused(call, response.status, await response.text());
    let rest = "";
    const decoder = new TextDecoder();
    for await (const chunk of response.body) {
      rest += decoder.decode(chunk, { stream: true });
      const events = rest.split(/\r?\n\r?\n/);
      rest = events.pop() ?? "";
      for (const event of events) {
        const data = event
          .split(/\r?\n/)
          .filter((line) => line.startsWith("data:"))
          .map((line) => line.slice(5).trim())
          .join("\n");
        if (data !== "") yield parseJson(data);
      }
    }
  }

  async #send(
    call: Call,
    request: object = {},
  ): Promise<{ response: Awaited<ReturnType<typeof fetch>>; text: string }> {
    const response = await this.#fetch(call, request, {});
    const text = await response.text();
    if (text.length > ANSWER_BYTES_MAX) throw new Error(`${nameOf(call)} answered ${text.length} characters`);
    return { response, text };
  }

  async #fetch(
    call: Call,
    request: {
      params?: Record<string, string>;
      query?: Record<string, string>;
      body?: unknown;
      timeoutMs?: number | null;
    },
    headers: Record<string, string>,
  ): ReturnType<typeof fetch> {
    const path = call.path.replaceAll(/\{(\w+)\}/g, (_, name: string) =>
      encodeURIComponent(request.params?.[name] ?? ""),
    );
    const url = new URL(this.baseUrl + path);
    for (const [name, value] of Object.entries(request.query ?? {})) url.searchParams.set(name, value);
    // Posts without a body still need one: the platform's parser refuses an empty text that says it is JSON.
    const body = call.method === "POST" ? (request.body ?? {}) : request.body;
    const timeoutMs = request.timeoutMs === undefined ? CALL_TIMEOUT_MS : request.timeoutMs;
    try {
      return await fetch(url, {
        method: call.method,
        dispatcher: this.#dispatcher,
        headers: {
          ...(body === undefined ? {} : { "content-type": "application/json" }),
          ...this.#credentials,
          ...headers,
        },
        ...(body === undefined ? {} : { body: JSON.stringify(body) }),
        signal: timeoutMs === null ? this.#signal : AbortSignal.any([this.#signal, AbortSignal.timeout(timeoutMs)]),
      });
    } catch (error) {
      this.#signal.throwIfAborted();
      if (error instanceof Error && error.name === "TimeoutError") {
        const seconds = Math.round((timeoutMs ?? 0) / 1000);
        throw new BundleError(CALL_TIMED_OUT, `${nameOf(call)} was not answered within ${seconds} s.`, {
          next: "See `docker compose logs archestra`, then run the same command again.",
          cause: error,
        });
      }
      throw new BundleError("api_unreachable", `Archestra does not answer at ${this.baseUrl} (${causeOf(error)}).`, {
        next: "Start it with `docker compose up -d archestra` and wait for `docker compose ps` to say healthy, or set ARCHESTRA_URL.",
        cause: error,
      });
    }
  }
}

export function nameOf(call: Call): string {
  return `${call.method} ${call.path}`;
}

function refused(call: Call, status: number, text: string): ApiError {
  const body = parseJson(text);
  const reason = errorBody.safeParse(body).data?.error.message ?? authErrorBody.safeParse(body).data?.message ?? text;
  return new ApiError({ status, call: nameOf(call), reason: reason.slice(0, 2000) });
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

function causeOf(error: unknown): string {
  const cause = error instanceof Error ? (error.cause ?? error) : error;
  return cause instanceof Error ? cause.message || cause.name : String(cause);
}
