export type StagingErrorCode =
  | "invalid_export_id"
  | "invalid_load_id"
  | "unknown_export"
  | "export_in_use"
  | "lease_held"
  | "lease_lost"
  | "manifest_invalid"
  | "staging_corrupt"
  | "staging_full"
  | "staging_unshared"
  | "staging_url_invalid";

/** An expected failure of the store, with a word a program can branch on and a sentence a caller can act on. */
export class StagingError extends Error {
  override readonly name = "StagingError";
  readonly code: StagingErrorCode;
  /** Whether the same call may succeed later with nothing changed. */
  readonly retryable: boolean;
  /** The call or change that can help, as one imperative sentence. */
  readonly next: string | undefined;
  readonly details: Record<string, unknown>;

  constructor(
    code: StagingErrorCode,
    message: string,
    options: { retryable?: boolean; next?: string; details?: Record<string, unknown>; cause?: unknown } = {},
  ) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    this.code = code;
    this.retryable = options.retryable ?? false;
    this.next = options.next;
    this.details = options.details ?? {};
  }
}
