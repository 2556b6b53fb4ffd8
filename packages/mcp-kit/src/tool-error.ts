/** What a failed call tells the model besides its sentence. */
export interface ToolErrorOptions {
  /** Whether the same call may succeed later with nothing changed. Default false. */
  retryable?: boolean;
  /** The next call or change that can help, as one imperative sentence. */
  next?: string;
  /** Names and figures as data: `nearest`, `allowed`, `sqlstate`, `position` … Never row values, never secrets. */
  details?: Record<string, unknown>;
  /** The call that would have been right, as far as it can be told. The answer shows it whole, as `example`. */
  instead?: Instead;
  cause?: unknown;
}

/** A call in place of the one that failed: of another tool, or of the same with some arguments changed. */
export interface Instead {
  /** Another tool, called with these arguments alone. Default: the same tool and the same arguments with these on top. */
  tool?: string;
  /** An argument that is undefined here is left out. */
  arguments: Record<string, unknown>;
}

/**
 * An expected failure of a tool call. `code` is a snake_case word that a program can branch on; the message is a
 * sentence a model can act on. Everything else that is thrown counts as a programmer's error.
 */
export class ToolError extends Error {
  override readonly name = "ToolError";
  readonly code: string;
  readonly retryable: boolean;
  readonly next: string | undefined;
  readonly details: Record<string, unknown>;
  readonly instead: Instead | undefined;

  constructor(code: string, message: string, options: ToolErrorOptions = {}) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    this.code = code;
    this.retryable = options.retryable ?? false;
    this.next = options.next;
    this.details = options.details ?? {};
    this.instead = options.instead;
  }
}
