import { readSettings } from "@es-to-pg/mcp-kit";
import { expect, test } from "vitest";
import { esSettings } from "../config.ts";
import { isSearchTimeout, refused, unreachable } from "./failures.ts";

const settings = readSettings(esSettings, {
  ELASTICSEARCH_URL: "https://user:hunter2@es.internal:9200/prefix?".replace("?", ""),
});

function answer(status: number, body: unknown) {
  return { status, body: Buffer.from(typeof body === "string" ? body : JSON.stringify(body)) };
}

test.each([
  ["connect ECONNREFUSED 10.0.0.1:9200", "unreachable", /Start Elasticsearch/],
  ["getaddrinfo ENOTFOUND es.internal", "unreachable", /host name/],
  ["self-signed certificate in certificate chain", "tls_untrusted", /ELASTICSEARCH_CA_CERT/],
  ["Hostname/IP does not match certificate's altnames", "tls_untrusted", /host name/],
  ["error:0A00010B:SSL routines::wrong version number", "tls_mismatch", /http:\/\//],
  ["other side closed - Local: a, Remote: b", "unreachable", /client certificates/],
  ["Server certificate CA fingerprint does not match", "tls_untrusted", /FINGERPRINT/],
  ["tlsv13 alert certificate required", "tls_refused", /ELASTICSEARCH_CLIENT_CERT/],
])("%s becomes %s with the fix, the host and the TLS mode", (message, code, fix) => {
  const failure = unreachable(new Error(message), settings, undefined);
  expect(failure.code).toBe(code);
  expect(failure.next).toMatch(fix);
  expect(failure.details).toMatchObject({
    host: "https://es.internal:9200",
    tls: "TLS, verified by the system's authorities",
  });
  expect(JSON.stringify([failure.message, failure.next, failure.details])).not.toContain("hunter2");
});

test("a query's error carries Elasticsearch's reason and position as data", () => {
  const error = { type: "parsing_exception", reason: "unknown query [mtch]", line: 1, col: 18 };
  const failure = refused(answer(400, { error: { root_cause: [error], ...error }, status: 400 }), settings);
  expect(failure.code).toBe("query_invalid");
  expect(failure.details).toEqual({
    status: 400,
    type: "parsing_exception",
    reason: "unknown query [mtch]",
    position: { line: 1, column: 18 },
  });
  expect(failure.message).not.toContain("mtch");
});

test("the shard's reason and its cause are put together and clipped", () => {
  const failure = refused(
    answer(400, {
      error: {
        type: "search_phase_execution_exception",
        reason: "all shards failed",
        failed_shards: [
          {
            reason: {
              type: "query_shard_exception",
              reason: "failed to create query",
              caused_by: { type: "number_format_exception", reason: `For input "${"x".repeat(5_000)}"` },
            },
          },
        ],
      },
    }),
    settings,
  );
  expect(failure.details["reason"]).toMatch(/^failed to create query: For input "x+… \(5036 characters\)$/);
});

test.each([
  [401, { error: { type: "security_exception", reason: "bad" } }, "unauthorized", false],
  [403, { error: { type: "security_exception", reason: "action is unauthorized" } }, "forbidden", false],
  [
    404,
    { error: { type: "index_not_found_exception", reason: "no such index [a]", index: "a" } },
    "index_not_found",
    false,
  ],
  [400, { error: { type: "index_closed_exception", reason: "closed", index: "a" } }, "index_closed", false],
  [
    404,
    { error: { type: "search_context_missing_exception", reason: "No search context" } },
    "search_context_missing",
    false,
  ],
  [429, { error: { type: "es_rejected_execution_exception", reason: "queue" } }, "busy", true],
  [500, { error: { type: "circuit_breaking_exception", reason: "Data too large" } }, "busy", true],
  [503, { error: { type: "no_shard_available_action_exception", reason: "no shard" } }, "elasticsearch_failed", true],
  [400, { error: "no handler found for uri [/x]" }, "not_elasticsearch", false],
  [404, "<html>nginx</html>", "not_elasticsearch", false],
  [502, "<html>Bad Gateway</html>", "elasticsearch_failed", true],
])("status %i with %j becomes %s", (status, body, code, retryable) => {
  const failure = refused(answer(status, body), settings);
  expect(failure).toMatchObject({ code, retryable });
});

test.each([
  "unknown query [price]",
  "[brand] query malformed, no start_object after query name",
  "[match] malformed query, expected [END_OBJECT] but found [FIELD_NAME]",
])("shows how a query is written after: %s", (reason) => {
  const error = { type: "parsing_exception", reason };
  const failure = refused(answer(400, { error: { root_cause: [error], ...error }, status: 400 }), settings);
  expect(failure.next).toContain('{"term":{"brand":"acme"}}');
});

test.each([
  ["8.11", 500, { type: "query_phase_execution_exception", reason: "Time exceeded" }],
  ["8.14", 504, { type: "search_timeout_exception", reason: "Time exceeded" }],
  ["9", 429, { type: "search_timeout_exception", reason: "Time exceeded" }],
])(
  "a search that Elasticsearch %s ended for its time is told so, and not asked for again",
  (_version, status, cause) => {
    const given = answer(status, { error: { root_cause: [cause], type: "search_phase_execution_exception" }, status });
    expect(isSearchTimeout(given)).toBe(true);
    const failure = refused(given, settings);
    expect(failure).toMatchObject({ code: "timeout", retryable: true });
    expect(failure.next).toContain("ES_MCP_REQUEST_TIMEOUT_SECONDS");
  },
);

test("an error that quotes the words of a time-out is none", () => {
  const cause = {
    type: "x",
    reason: '"search_timeout_exception" "query_phase_execution_exception","reason":"Time exceeded"',
  };
  expect(isSearchTimeout(answer(500, { error: { root_cause: [cause], ...cause } }))).toBe(false);
});
