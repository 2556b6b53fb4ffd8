import { ToolError } from "@es-to-pg/mcp-kit";
import type { ConnectionOptions } from "../config.ts";
import { quoteLiteral } from "./identifiers.ts";

/** Nobody who waits for an answer within ten seconds gains from a longer attempt. */
export const connectTimeoutMs = 8_000;

function codeOf(error: unknown): string {
  return error instanceof Error && "code" in error && typeof error.code === "string" ? error.code : "";
}

export function isTlsRefusal(error: unknown): boolean {
  if (!(error instanceof Error)) return false;
  // 28000 is pg_hba.conf refusing encrypted sessions; the others are the server's "N" to the TLS request, and no answer to it.
  return /does not support SSL|error establishing an SSL/.test(error.message) || codeOf(error) === "28000";
}

export function isConnectionEnd(error: unknown): boolean {
  if (!(error instanceof Error)) return false;
  return (
    /^Connection terminated|not queryable|Client was closed/.test(error.message) ||
    ["ECONNRESET", "EPIPE", "ETIMEDOUT"].includes(codeOf(error))
  );
}

export function connectionLost(cause?: unknown): ToolError {
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
