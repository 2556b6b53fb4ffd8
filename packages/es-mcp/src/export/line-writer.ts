import { isUtf8 } from "node:buffer";
import { compactDocument, cutDocument, type FieldSelection } from "./rewrite.ts";
import type { Hit } from "./scan.ts";

const LINE_FEED = 0x0a;
const CLOSE_BRACE = 0x7d;

const INDEX_KEY = Buffer.from('{"_index":');
const ID_KEY = Buffer.from(',"_id":');
const ROUTING_KEY = Buffer.from(',"_routing":');
const SEQ_NO_KEY = Buffer.from(',"_seq_no":');
const PRIMARY_TERM_KEY = Buffer.from(',"_primary_term":');
const SOURCE_KEY = Buffer.from(',"_source":');

/** Bytes that a line may have beyond its hit's: the keys, if a page is nothing but the shortest hits. */
const LINE_BYTES_EXTRA = 64;

/** Whether a hit begins with the bytes that its line begins with: members of a known length between the values say so. */
function isHeadOfLine(hit: Hit): boolean {
  return (
    hit.idStart - hit.indexEnd === ID_KEY.length &&
    hit.seqNoStart - hit.idEnd === SEQ_NO_KEY.length &&
    hit.primaryTermStart - hit.seqNoEnd === PRIMARY_TERM_KEY.length &&
    hit.start + INDEX_KEY.length === hit.indexStart &&
    hit.routingStart < 0
  );
}

/** Turns the hits of a page into lines of a part, in two buffers by turns: one is written to disk while the other is filled. */
export class LineWriter {
  /** Documents rewritten because of comments or control bytes, over all pages. */
  compacted = 0;
  /** Documents with invalid UTF-8, over all pages. */
  invalidUtf8 = 0;
  readonly #selection: FieldSelection | undefined;
  #page: Buffer = Buffer.alloc(0);
  #lines: Buffer = Buffer.alloc(0);
  #spare: Buffer = Buffer.alloc(0);
  #at = 0;
  #checkUtf8 = false;

  constructor(selection: FieldSelection | undefined) {
    this.#selection = selection;
  }

  begin(page: Buffer): void {
    this.#page = page;
    this.#at = 0;
    // Each hit becomes shorter, because `_score` and `sort` go; room for one more keeps the copy loops in bounds.
    if (this.#lines.length < page.length + LINE_BYTES_EXTRA) {
      this.#lines = Buffer.allocUnsafeSlow(page.length + LINE_BYTES_EXTRA + (page.length >> 2));
    }
    this.#checkUtf8 = !isUtf8(page);
  }

  /** Appends the line of a hit and returns where its source lies in `lines`. */
  append(hit: Hit): { start: number; end: number } {
    const lineStart = this.#at;
    if (isHeadOfLine(hit)) this.#copy(hit.indexStart - INDEX_KEY.length, hit.primaryTermEnd);
    else this.#head(hit);
    this.#put(SOURCE_KEY);
    const start = this.#at;
    const { sourceStart, sourceEnd } = hit;
    if (hit.unclean) this.compacted++;
    if (this.#selection !== undefined) {
      this.#at = cutDocument(this.#page, sourceStart, sourceEnd, this.#selection, this.#lines, start);
    } else if (hit.unclean) {
      this.#at = compactDocument(this.#page, sourceStart, sourceEnd, this.#lines, start);
    } else {
      this.#at += this.#page.copy(this.#lines, start, sourceStart, sourceEnd);
    }
    const end = this.#at;
    this.#lines[this.#at++] = CLOSE_BRACE;
    this.#lines[this.#at++] = LINE_FEED;
    if (this.#checkUtf8 && !isUtf8(this.#lines.subarray(lineStart, this.#at))) this.invalidUtf8++;
    return { start, end };
  }

  #head(hit: Hit): void {
    this.#put(INDEX_KEY);
    this.#copy(hit.indexStart, hit.indexEnd);
    this.#put(ID_KEY);
    this.#copy(hit.idStart, hit.idEnd);
    if (hit.routingStart >= 0) {
      this.#put(ROUTING_KEY);
      this.#copy(hit.routingStart, hit.routingEnd);
    }
    if (hit.seqNoStart >= 0) {
      this.#put(SEQ_NO_KEY);
      this.#copy(hit.seqNoStart, hit.seqNoEnd);
    }
    if (hit.primaryTermStart >= 0) {
      this.#put(PRIMARY_TERM_KEY);
      this.#copy(hit.primaryTermStart, hit.primaryTermEnd);
    }
  }

  /** Hands over the lines of this page. They are valid until the next lines are handed over. */
  take(): Buffer {
    const lines = this.#lines.subarray(0, this.#at);
    [this.#lines, this.#spare] = [this.#spare, this.#lines];
    this.#at = 0;
    return lines;
  }

  /** The buffer that `append` answers positions of. */
  get buffer(): Buffer {
    return this.#lines;
  }

  #put(bytes: Buffer): void {
    const { length } = bytes;
    let to = this.#at;
    for (let at = 0; at < length; at++) this.#lines[to++] = bytes[at] ?? 0;
    this.#at = to;
  }

  /** A loop, because a call of `copy` costs more than the few bytes of a name or a number. */
  #copy(start: number, end: number): void {
    const page = this.#page;
    const lines = this.#lines;
    let to = this.#at;
    for (let at = start; at < end; at++) lines[to++] = page[at] ?? 0;
    this.#at = to;
  }
}
