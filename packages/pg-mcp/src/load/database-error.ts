/** The SQLSTATE or the system's error word of a failure below, if it carries one. */
export function errorCode(error: unknown): string | undefined {
  return error instanceof Error && "code" in error && typeof error.code === "string" ? error.code : undefined;
}

/**
 * Classes of SQLSTATE that one row's values can cause: cardinality (two rows that a trigger gives one key), data,
 * integrity, raised by a trigger, WITH CHECK OPTION.
 */
export const ROW_ERROR_CLASSES = ["21", "22", "23", "P0", "44"] as const;

/** Whether a statement over many rows failed because of the values of some row. */
export function isRowError(error: unknown): boolean {
  const code = errorCode(error);
  return code !== undefined && code.length === 5 && ROW_ERROR_CLASSES.some((start) => code.startsWith(start));
}

const TRANSIENT = new Set(["40P01", "40001", "55P03"]);

/** Whether the same transaction can succeed when it is run again: deadlock, serialization failure, lock timeout. */
export function isTransient(error: unknown): boolean {
  const code = errorCode(error);
  return code !== undefined && TRANSIENT.has(code);
}

const CONNECTION_WORDS = new Set([
  "ECONNREFUSED",
  "ECONNRESET",
  "EPIPE",
  "ETIMEDOUT",
  "ENOTFOUND",
  "connection_lost",
  "unreachable",
  "database_unavailable",
]);

/** Whether the server or the way to it went away, so that nothing is known of the transaction's end. */
export function isConnectionLost(error: unknown): boolean {
  const code = errorCode(error);
  if (code === undefined) return error instanceof Error && /connection.*(terminated|closed|ended)/i.test(error.message);
  return CONNECTION_WORDS.has(code) || code.startsWith("08") || /^57P0[1-5]$/.test(code);
}
