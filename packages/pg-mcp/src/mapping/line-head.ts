import { DECODE, ESCAPED, isSimpleEscape, PLAIN } from "./scan.ts";

/** One value of a line's head as it stands in the bytes; start is -1 where the line has none. */
export interface Span {
  start: number;
  end: number;
  /** As the scanner flags strings. */
  flag: number;
}

/** The head of a staged line, everything before `_source`, as spans. Reused from line to line. */
export interface LineHead {
  index: Span;
  id: Span;
  routing: Span;
  seqNo: Span;
  /** Position of `_source`'s value. */
  source: number;
}

function emptySpan(): Span {
  return { start: -1, end: -1, flag: PLAIN };
}

export function emptyHead(): LineHead {
  return { index: emptySpan(), id: emptySpan(), routing: emptySpan(), seqNo: emptySpan(), source: -1 };
}

const INDEX = Buffer.from('{"_index":');
const ID = Buffer.from(',"_id":');
const ROUTING = Buffer.from(',"_routing":');
const SEQ_NO = Buffer.from(',"_seq_no":');
const PRIMARY_TERM = Buffer.from(',"_primary_term":');
const SOURCE = Buffer.from(',"_source":');

/**
 * Reads the head at `start` in the one order in which staging writes it; false for anything else. The line ends where
 * the buffer does, or in LF.
 */
export function readHead(line: Buffer, head: LineHead, start = 0): boolean {
  let p = skip(line, start, INDEX);
  if (p < 0) return false;
  p = string(line, p, head.index);
  if (p < 0) return false;
  p = skip(line, p, ID);
  if (p < 0) return false;
  p = string(line, p, head.id);
  if (p < 0) return false;
  head.routing.start = -1;
  const routing = skip(line, p, ROUTING);
  if (routing >= 0) {
    p = string(line, routing, head.routing);
    if (p < 0) return false;
  }
  head.seqNo.start = -1;
  const seqNo = skip(line, p, SEQ_NO);
  if (seqNo >= 0) {
    p = integer(line, seqNo);
    if (p < 0) return false;
    head.seqNo.start = seqNo;
    head.seqNo.end = p;
  }
  const term = skip(line, p, PRIMARY_TERM);
  if (term >= 0) {
    p = integer(line, term);
    if (p < 0) return false;
  }
  head.source = skip(line, p, SOURCE);
  return head.source >= 0;
}

function skip(line: Buffer, at: number, expected: Buffer): number {
  const { length } = expected;
  for (let i = 0; i < length; i += 1) if (line[at + i] !== expected[i]) return -1;
  return at + length;
}

function string(line: Buffer, start: number, span: Span): number {
  if (line[start] !== 34) return -1;
  let flag = PLAIN;
  let p = start + 1;
  for (;;) {
    const c = line[p];
    if (c === 34) break;
    if (c === undefined || c < 32) return -1;
    if (c === 92) {
      flag = Math.max(flag, isSimpleEscape(line[p + 1] ?? 0) ? ESCAPED : DECODE);
      p += 1;
    }
    p += 1;
  }
  span.start = start;
  span.end = p + 1;
  span.flag = flag;
  return p + 1;
}

function integer(line: Buffer, start: number): number {
  let p = line[start] === 45 ? start + 1 : start;
  const first = p;
  for (let c = line[p] ?? 0; c >= 48 && c <= 57; c = line[p] ?? 0) p += 1;
  return p === first || p - first > 19 ? -1 : p;
}
