import { Transform, type TransformCallback } from "node:stream";

const LINE_FEED = 0x0a;

/** Bytes kept from each end of a line that is too long: enough for the members of a message that name its id. */
const ENDS_BYTES = 256;

/**
 * Passes lines on, and drops each that is longer than `bytesMax`, saying so with the id of the request in it, if it has
 * one at either end. Without this, one message too large would end the pipe, and every job with it.
 */
export class LineLimit extends Transform {
  readonly #bytesMax: number;
  readonly #onDropped: (dropped: { bytes: number; id: string | number | null }) => void;
  /** The pieces of the line that is being read; none once it has grown too long. */
  #pieces: Buffer[] = [];
  #bytes = 0;
  #head = Buffer.alloc(0);
  #tail = Buffer.alloc(0);

  constructor(bytesMax: number, onDropped: (dropped: { bytes: number; id: string | number | null }) => void) {
    super();
    this.#bytesMax = bytesMax;
    this.#onDropped = onDropped;
  }

  override _transform(chunk: Buffer, _encoding: BufferEncoding, callback: TransformCallback): void {
    let start = 0;
    for (let end = chunk.indexOf(LINE_FEED); end !== -1; end = chunk.indexOf(LINE_FEED, start)) {
      this.#add(chunk.subarray(start, end + 1));
      this.#finishLine();
      start = end + 1;
    }
    this.#add(chunk.subarray(start));
    callback();
  }

  #add(piece: Buffer): void {
    if (piece.length === 0) return;
    this.#bytes += piece.length;
    if (this.#bytes <= this.#bytesMax) {
      this.#pieces.push(piece);
      return;
    }
    const kept = Buffer.concat([...this.#pieces, piece]);
    if (this.#pieces.length > 0) {
      this.#head = Buffer.from(kept.subarray(0, ENDS_BYTES));
      this.#pieces = [];
    } else if (this.#head.length === 0) {
      this.#head = Buffer.from(piece.subarray(0, ENDS_BYTES));
    }
    this.#tail = Buffer.concat([this.#tail, kept.subarray(-ENDS_BYTES)]).subarray(-ENDS_BYTES);
  }

  #finishLine(): void {
    if (this.#bytes > this.#bytesMax) {
      this.#onDropped({
        bytes: this.#bytes,
        id: idAtEnds(this.#head.toString("latin1"), this.#tail.toString("latin1")),
      });
    } else {
      // One piece a line: the SDK copies all that it holds for every piece it gets.
      this.push(Buffer.concat(this.#pieces));
    }
    this.#pieces = [];
    this.#bytes = 0;
    this.#head = Buffer.alloc(0);
    this.#tail = Buffer.alloc(0);
  }
}

/** The first and the last members of a message are its own: what is nested lies between them. */
function idAtEnds(head: string, tail: string): string | number | null {
  const id = String.raw`"id"\s*:\s*(\d{1,15}|"[\w-]{1,100}")`;
  const version = String.raw`"jsonrpc"\s*:\s*"2\.0"`;
  const found =
    new RegExp(String.raw`^\s*\{\s*(?:${version}\s*,\s*)?${id}`).exec(head) ??
    new RegExp(String.raw`${id}\s*(?:,\s*${version}\s*)?\}\s*$`).exec(tail);
  const text = found?.[1];
  return text === undefined ? null : text.startsWith('"') ? text.slice(1, -1) : Number(text);
}
