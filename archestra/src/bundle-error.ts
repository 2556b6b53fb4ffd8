/** A failure that whoever runs this program can do something about. `next` is what to do. */
export class BundleError extends Error {
  override readonly name = "BundleError";
  readonly code: string;
  readonly next: string;

  constructor(code: string, message: string, options: { next: string; cause?: unknown }) {
    super(message, { cause: options.cause });
    this.code = code;
    this.next = options.next;
  }
}
