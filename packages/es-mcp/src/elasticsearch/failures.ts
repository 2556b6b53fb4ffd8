import { clip, ToolError } from "@es-to-pg/mcp-kit";
import { z } from "zod";
import { type EsSettings, nodesOf } from "../config.ts";
import type { WireAnswer } from "./client.ts";

/** Characters of Elasticsearch's own words in an error. They are data: a field's value can stand in them. */
const REASON_CHARACTERS_MAX = 400;

interface Cause {
  type?: string | undefined;
  reason?: string | null | undefined;
  line?: number | undefined;
  col?: number | undefined;
  index?: string | undefined;
  caused_by?: Cause | undefined;
  root_cause?: Cause[] | undefined;
  failed_shards?: { index?: string | undefined; reason?: Cause | undefined }[] | undefined;
}

const causeSchema: z.ZodType<Cause> = z.object({
  type: z.string().optional(),
  reason: z.string().nullish(),
  line: z.number().optional(),
  col: z.number().optional(),
  index: z.string().optional(),
  get caused_by() {
    return causeSchema.optional();
  },
  get root_cause() {
    return z.array(causeSchema).optional();
  },
  get failed_shards() {
    return z.array(z.object({ index: z.string().optional(), reason: causeSchema.optional() })).optional();
  },
});

const bodySchema = z.object({ error: z.union([causeSchema, z.string()]) });

/** How the connection is secured, in the words of the settings. */
function tlsMode(settings: EsSettings): string {
  if (!isEncrypted(settings)) return "plain HTTP";
  if (settings.ELASTICSEARCH_TLS_INSECURE) return "TLS without verification";
  if (settings.ELASTICSEARCH_TLS_FINGERPRINT !== undefined) return "TLS, verified by ELASTICSEARCH_TLS_FINGERPRINT";
  if (settings.ELASTICSEARCH_CA_CERT !== undefined) return "TLS, verified by ELASTICSEARCH_CA_CERT";
  return "TLS, verified by the system's authorities";
}

function isEncrypted(settings: EsSettings): boolean {
  return nodesOf(settings).some((url) => url.protocol === "https:");
}

/** Hosts without user information, path or query: what may be shown. */
export function hostsOf(settings: EsSettings): string {
  return nodesOf(settings)
    .map((url) => `${url.protocol}//${url.host}`)
    .join(", ");
}

const FIXES: [pattern: RegExp, code: string, fix: string][] = [
  [/ECONNREFUSED/, "unreachable", "Start Elasticsearch, or correct host and port in ELASTICSEARCH_URL."],
  [/ENOTFOUND|EAI_AGAIN/, "unreachable", "Correct the host name in ELASTICSEARCH_URL."],
  [
    /self[- ]signed|unable to get (local )?issuer|unable to verify/i,
    "tls_untrusted",
    "Set ELASTICSEARCH_CA_CERT to the authority's certificate, or ELASTICSEARCH_TLS_FINGERPRINT to its SHA-256.",
  ],
  [/altnames|ERR_TLS_CERT/i, "tls_untrusted", "Use a host name in ELASTICSEARCH_URL that the certificate names."],
  [
    /fingerprint/i,
    "tls_untrusted",
    "Correct ELASTICSEARCH_TLS_FINGERPRINT; where Elasticsearch does not send its authority's certificate along, set ELASTICSEARCH_CA_CERT instead.",
  ],
  [
    /signature failure/i,
    "tls_untrusted",
    "Find out who answers at this address: its certificate only claims to be signed by the trusted authority.",
  ],
  [/expired/i, "tls_untrusted", "Renew the certificate of Elasticsearch."],
  [/not yet valid/i, "tls_untrusted", "Correct the clock of this machine: the certificate begins later."],
  [
    /wrong version number|packet length too long/i,
    "tls_mismatch",
    "The port speaks plain HTTP: use http:// in ELASTICSEARCH_URL.",
  ],
  [
    /certificate required|bad certificate|handshake failure/i,
    "tls_refused",
    "Set ELASTICSEARCH_CLIENT_CERT and ELASTICSEARCH_CLIENT_KEY to a pair that Elasticsearch accepts.",
  ],
];

/** A server that wants something else than it gets says nothing: it closes the connection. */
const CLOSED = /other side closed|ECONNRESET|socket hang up|UND_ERR_SOCKET/i;

function closedFix(settings: EsSettings): string {
  if (!isEncrypted(settings)) {
    return "If the port speaks TLS, use https:// in ELASTICSEARCH_URL; else look whether Elasticsearch is stopping.";
  }
  return "If Elasticsearch asks for client certificates, set ELASTICSEARCH_CLIENT_CERT and ELASTICSEARCH_CLIENT_KEY; else look whether it is stopping.";
}

/** The failure of a request that got no answer. */
export function unreachable(error: unknown, settings: EsSettings, timeoutMs: number | undefined): ToolError {
  const details = { host: hostsOf(settings), tls: tlsMode(settings) };
  if (error instanceof Error && error.name === "ProductNotSupportedError") {
    return new ToolError("not_elasticsearch", "The server that answers is not Elasticsearch 7.14 or later.", {
      next: "Correct ELASTICSEARCH_URL, including its path prefix.",
      details,
    });
  }
  if (timeoutMs !== undefined) {
    return new ToolError("timeout", `Elasticsearch did not answer within ${timeoutMs / 1000} s.`, {
      retryable: true,
      next: "Look whether Elasticsearch is overloaded or a firewall drops the connection, then call again.",
      details,
      cause: error,
    });
  }
  const message = error instanceof Error ? error.message : String(error);
  const known = FIXES.find(([pattern]) => pattern.test(message));
  return new ToolError(known?.[1] ?? "unreachable", "Elasticsearch cannot be reached.", {
    retryable: known === undefined || known[1] === "unreachable",
    next: CLOSED.test(message)
      ? closedFix(settings)
      : (known?.[2] ?? "Check ELASTICSEARCH_URL and the network between this server and Elasticsearch."),
    details: { ...details, reason: quote(message) },
    cause: error,
  });
}

/** How Elasticsearch says that a search took longer than its `timeout`: versions differ in type and status (500, 504, 429). */
const TIMED_OUT = /"search_timeout_exception"|"query_phase_execution_exception","reason":"Time exceeded"/;

/** Whether an answer says that the search took too long: asking for the same again would take as long again. */
export function isSearchTimeout({ status, body }: WireAnswer): boolean {
  return status >= 400 && TIMED_OUT.test(body.toString("latin1", 0, TIMED_OUT_BYTES));
}

/** Bytes of an answer in which its error is looked for. */
const TIMED_OUT_BYTES = 4_096;

/** The failure of a search that Elasticsearch ended because of its `timeout`: no part of its answer is given out. */
export function searchTimedOut({ status }: { status: number }): ToolError {
  return new ToolError(
    "timeout",
    "Elasticsearch ended the search because it took too long; nothing of it is given out.",
    {
      retryable: true,
      next: "Narrow the query by a filter, ask for fewer or simpler aggregations, or raise ES_MCP_REQUEST_TIMEOUT_SECONDS.",
      details: { status },
    },
  );
}

/** The failure that an answer with a status of 400 or more stands for. */
export function refused(answer: WireAnswer, settings: EsSettings): ToolError {
  const { status } = answer;
  if (isSearchTimeout(answer)) return searchTimedOut({ status });
  const cause = causeOf(answer);
  const deepest = cause === undefined ? undefined : root(cause);
  const details: Record<string, unknown> = {
    status,
    ...(deepest?.type === undefined ? {} : { type: quote(deepest.type) }),
    ...(deepest?.reason == null ? {} : { reason: quote(deepest.reason) }),
    ...(deepest?.line === undefined ? {} : { position: { line: deepest.line, column: deepest.col } }),
  };
  const type = deepest?.type ?? "";
  const types = new Set([type, cause?.type]);

  if (status === 401) {
    return new ToolError("unauthorized", "Elasticsearch refuses the credentials of this server.", {
      next: "Correct ELASTICSEARCH_API_KEY, or ELASTICSEARCH_USERNAME and ELASTICSEARCH_PASSWORD, or ELASTICSEARCH_BEARER.",
      details: { status, host: hostsOf(settings) },
    });
  }
  if (status === 403) {
    return new ToolError("forbidden", "The credentials of this server do not permit this request.", {
      next: "Grant the privileges read and view_index_metadata on the index (monitor on the cluster is optional).",
      details,
    });
  }
  if (cause === undefined) {
    return new ToolError(
      status >= 500 ? "elasticsearch_failed" : "not_elasticsearch",
      `The server answered with status ${status} and no error that Elasticsearch would write.`,
      {
        retryable: status >= 500,
        next: "Correct ELASTICSEARCH_URL, including its path prefix, or look at the proxy before Elasticsearch.",
        details: { status, host: hostsOf(settings) },
      },
    );
  }
  if (types.has("index_not_found_exception")) {
    const index = deepest?.index ?? cause.index;
    return new ToolError("index_not_found", `There is no index ${JSON.stringify(quote(index ?? "of this name"))}.`, {
      next: "Use list_indices to see the names there are.",
      details: { ...details, ...(index === undefined ? {} : { index: quote(index) }) },
    });
  }
  if (types.has("index_closed_exception")) {
    return new ToolError("index_closed", "The index is closed, so nothing in it can be read.", {
      next: "Open the index in Elasticsearch, or use another one.",
      details: { ...details, index: deepest?.index ?? cause.index },
    });
  }
  if (types.has("search_context_missing_exception")) {
    return new ToolError("search_context_missing", "The snapshot of the search is gone.", {
      next: "Start again without a cursor.",
      details,
    });
  }
  if (status === 429 || types.has("circuit_breaking_exception") || types.has("es_rejected_execution_exception")) {
    return new ToolError("busy", "Elasticsearch has too much to do at the moment.", {
      retryable: true,
      next: "Wait some seconds and call again, or ask for less at once.",
      details,
    });
  }
  if (status === 413) {
    return new ToolError("request_too_large", "The request is larger than Elasticsearch takes.", {
      next: "Make the query smaller.",
      details,
    });
  }
  if (status === 400 && cause.type === undefined) {
    return new ToolError("not_elasticsearch", "Elasticsearch knows no such path.", {
      next: "Correct the path prefix in ELASTICSEARCH_URL.",
      details: { status, host: hostsOf(settings) },
    });
  }
  if (types.has("routing_missing_exception")) {
    return new ToolError("routing_missing", "Documents of this index are found by their routing value only.", {
      next: "Give routing.",
      details,
    });
  }
  if (status === 400) {
    return new ToolError("query_invalid", "Elasticsearch refuses the request.", {
      next: correctionOf(deepest?.reason ?? ""),
      details,
    });
  }
  return new ToolError("elasticsearch_failed", `Elasticsearch answered with status ${status}.`, {
    retryable: status >= 500,
    details,
  });
}

/** What to do about a request that is refused, by the words in which Elasticsearch refuses it. */
const CORRECTIONS: readonly (readonly [pattern: RegExp, next: string])[] = [
  // The kind of a query is missing, because the field stands in its place, or misspelt.
  [
    /^unknown query \[|query malformed, no start_object after query name|malformed query, expected \[END_OBJECT\]/,
    'A query names its kind first: {"term":{"brand":"acme"}}, {"match":{"name":"chair"}}, {"range":{"price":{"gte":10}}}, several in {"bool":{"filter":[…]}}.',
  ],
  [
    /failed to parse date field|Text '.*' could not be parsed/,
    "Write dates as ISO 8601 (2025-01-31, 2025-01-31T10:00:00Z) or as date math: now-1M/M is the beginning of last month, now-7d/d a week ago.",
  ],
  [
    /\[range\] query (?:does not support|malformed)/,
    'A range names its bounds: {"range":{"price":{"gte":10,"lt":20}}}.',
  ],
  [
    /^Unknown aggregation type|Expected \[START_OBJECT\] under \[/,
    'An aggregation names its kind: {"average":{"avg":{"field":"price"}}}. Kinds are terms, avg, sum, min, max, stats, cardinality, percentiles, histogram, date_histogram.',
  ],
  [/sort\.SortOrder/, 'A sort says asc or desc: "price:desc".'],
  [
    /\[date_histogram\] unknown field \[interval\]/,
    'Say "calendar_interval":"day" (or week, month, year), or "fixed_interval":"12h".',
  ],
  [
    /For input string: |failed to create query: .*(?:NumberFormat|number)/,
    "The field is of a numeric type: give a number, or search a text field instead. get_mapping shows the types.",
  ],
];

function correctionOf(reason: string): string {
  const known = CORRECTIONS.find(([pattern]) => pattern.test(reason));
  return known?.[1] ?? "Correct what the reason names. get_mapping shows the fields and their types.";
}

function causeOf(answer: WireAnswer): Cause | undefined {
  try {
    const body = bodySchema.safeParse(JSON.parse(answer.body.toString("utf8")));
    if (!body.success) return undefined;
    return typeof body.data.error === "string" ? { reason: body.data.error } : body.data.error;
  } catch {
    return undefined;
  }
}

/** The cause that says most: where it happened (of the first failed shard, else the root), and what caused that. */
function root(cause: Cause): Cause {
  const outer = cause.failed_shards?.[0]?.reason ?? cause.root_cause?.[0] ?? cause;
  let inner = outer;
  while (inner.caused_by?.reason != null) inner = inner.caused_by;
  if (inner === outer || outer.reason?.includes(inner.reason ?? "") === true) return outer;
  return { ...outer, reason: [outer.reason, inner.reason].filter((reason) => reason != null).join(": ") };
}

function quote(text: string): string {
  return clip(text, REASON_CHARACTERS_MAX);
}
