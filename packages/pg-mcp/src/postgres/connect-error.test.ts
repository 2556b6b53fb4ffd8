import { describe, expect, it } from "vitest";
import type { ConnectionOptions } from "../config.ts";
import { connectError } from "./connect-error.ts";

const options: ConnectionOptions = {
  host: "db.internal",
  port: 5432,
  database: "shop",
  user: "etl",
  password: "hunter2",
  tls: { mode: "verify-full" },
};

function failure(code: string, message = "…") {
  return connectError(Object.assign(new Error(message), { code }), options);
}

describe("connectError", () => {
  it.each([
    ["28P01", "authentication_failed", false, /POSTGRES_PASSWORD/],
    ["28000", "authentication_failed", false, /pg_hba/],
    ["3D000", "database_not_found", false, /POSTGRES_DB/],
    ["53300", "database_unavailable", true, /max_connections/],
    ["57P03", "database_unavailable", true, /Wait/],
    ["ECONNREFUSED", "unreachable", true, /POSTGRES_HOST/],
    ["ENOTFOUND", "unreachable", true, /POSTGRES_HOST/],
    ["ETIMEDOUT", "unreachable", true, /firewall/],
    ["SELF_SIGNED_CERT_IN_CHAIN", "tls_untrusted", false, /POSTGRES_CA_CERT/],
    ["CERT_HAS_EXPIRED", "tls_untrusted", false, /POSTGRES_CA_CERT/],
    ["ERR_TLS_CERT_ALTNAME_INVALID", "tls_untrusted", false, /verify-ca/],
    ["ERR_SSL_WRONG_VERSION_NUMBER", "tls_failed", false, /POSTGRES_SSLMODE/],
  ])("makes %s of the driver %s with the fix", (cause, code, retryable, fix) => {
    const error = failure(cause);
    expect(error).toMatchObject({
      code,
      retryable,
      details: { host: "db.internal", port: 5432, tls: "verify-full" },
    });
    expect(error.message).toContain("db.internal:5432");
    expect(error.next).toMatch(fix);
  });

  it("knows the driver's sentences that have no code", () => {
    expect(failure("", "The server does not support SSL connections").code).toBe("tls_unavailable");
    expect(failure("", "SASL: SCRAM-SERVER-FIRST-MESSAGE: client password must be a string").code).toBe(
      "password_missing",
    );
  });

  it("never holds the password", () => {
    const error = failure("28P01");
    expect(JSON.stringify([error.message, error.next, error.details])).not.toContain("hunter2");
  });
});
