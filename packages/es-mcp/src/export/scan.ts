import { decodeString, type FieldStatistics, type KeyNode, Profile } from "./profile.ts";

/** A page that is not what Elasticsearch documents: never guessed at, always an error of the export. */
export class ScanError extends Error {
  override readonly name = "ScanError";
  readonly position: number;
  /** `_id` of the document it happened in, if it happened in one. */
  readonly documentId: string | undefined;

  constructor(message: string, position: number, documentId?: string) {
    super(message);
    this.position = position;
    this.documentId = documentId;
  }
}

const QUOTE = 0x22;
const BACKSLASH = 0x5c;
const SLASH = 0x2f;
const STAR = 0x2a;
const LINE_FEED = 0x0a;
const CARRIAGE_RETURN = 0x0d;
const COMMA = 0x2c;
const COLON = 0x3a;
const MINUS = 0x2d;
const PLUS = 0x2b;
const ZERO = 0x30;
const NINE = 0x39;
const POINT = 0x2e;
const OPEN_BRACE = 0x7b;
const CLOSE_BRACE = 0x7d;
const OPEN_BRACKET = 0x5b;
const CLOSE_BRACKET = 0x5d;

const VALUE = 0;
const KEY = 1;
const AFTER = 2;

/**
 * Walks one JSON document by its bytes: finds its end whatever it holds, checks its grammar, and feeds the profile.
 * Between tokens it knows white space and the two comments that Elasticsearch accepts and keeps.
 */
export class DocumentScanner {
  /** True when the last document holds a comment, a byte order mark or a control byte: it has to be compacted. */
  unclean = false;
  /** The open containers, by depth from 1. */
  readonly #isArray: boolean[] = [false];
  readonly #fields: (FieldStatistics | undefined)[] = [undefined];
  readonly #nodes: (KeyNode | undefined)[] = [undefined];
  readonly #previous: (KeyNode | undefined)[] = [undefined];
  #escaped = false;
  #words: DataView = new DataView(new ArrayBuffer(0));

  /** Takes the buffer that the next documents lie in. */
  reset(bytes: Buffer): void {
    this.#words = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  }

  /** Scans the object at `start` and returns the position after its bracket. White space before it belongs to it. */
  scan(bytes: Buffer, start: number, end: number, profile?: Profile): number {
    this.unclean = false;
    const words = this.#words;
    let at = start;
    if (bytes[at] === 0xef && bytes[at + 1] === 0xbb && bytes[at + 2] === 0xbf) {
      this.unclean = true;
      at += 3;
    }
    at = this.space(bytes, at, end);
    if (bytes[at] !== OPEN_BRACE) throw new ScanError("the document is not an object", at);
    const sampled = profile === undefined ? false : profile.begin();
    const serial = profile === undefined ? 0 : profile.documents;
    let depth = 0;
    let arrayDepth = 0;
    let inArray = false;
    let field: FieldStatistics | undefined;
    let node: KeyNode | undefined;
    let valueNode: KeyNode | undefined = profile?.root;
    let previous: KeyNode | undefined;
    let mode = VALUE;
    for (;;) {
      let byte = bytes[at] ?? 0;
      if (byte <= 0x20 || byte === SLASH) {
        at = this.space(bytes, at, end);
        byte = bytes[at] ?? 0;
      }
      if (at >= end) throw new ScanError("the document does not end", at);

      if (mode === AFTER) {
        if (byte === COMMA) {
          at++;
          mode = inArray ? VALUE : KEY;
          continue;
        }
        if (byte !== (inArray ? CLOSE_BRACKET : CLOSE_BRACE)) {
          throw new ScanError("a value is followed by neither a comma nor its closing bracket", at);
        }
        at++;
        if (inArray) arrayDepth--;
        depth--;
        if (depth === 0) return at;
        inArray = this.#isArray[depth] === true;
        node = this.#nodes[depth];
        if (inArray) {
          field = this.#fields[depth];
          valueNode = node;
        } else {
          previous = this.#previous[depth];
        }
        continue;
      }

      if (mode === KEY) {
        if (byte !== QUOTE) throw new ScanError("a key is not a string", at);
        const keyStart = at + 1;
        let keyNode: KeyNode | undefined;
        if (node === undefined) {
          at = this.#string(bytes, keyStart, end);
        } else {
          const expected = previous === undefined ? node.first : previous.next;
          if (expected !== undefined) {
            if (isKeyAt(words, keyStart, end, expected)) keyNode = expected;
            else if (expected.next !== undefined && isKeyAt(words, keyStart, end, expected.next))
              keyNode = expected.next;
          }
          if (keyNode === undefined) {
            at = this.#string(bytes, keyStart, end);
            keyNode = node.child(bytes, keyStart, at - 1);
            if (previous === undefined) node.first = keyNode;
            else previous.next = keyNode;
          } else {
            at = keyStart + keyNode.keyBytes;
          }
          previous = keyNode;
          field = keyNode.field;
          if (field !== undefined) {
            if (field.document !== serial) {
              field.document = serial;
              field.present++;
              field.values = 0;
            }
            if (arrayDepth > 0 && field.arrayDocument !== serial) {
              field.arrayDocument = serial;
              field.arrays++;
            }
          }
          valueNode = keyNode;
        }
        if (bytes[at] !== COLON) {
          at = this.space(bytes, at, end);
          if (bytes[at] !== COLON) throw new ScanError("a key is not followed by a colon", at);
        }
        at++;
        mode = VALUE;
        continue;
      }

      if (byte === OPEN_BRACKET) {
        if (field !== undefined && field.arrayDocument !== serial) {
          field.arrayDocument = serial;
          field.arrays++;
        }
        this.#previous[depth] = previous;
        depth++;
        arrayDepth++;
        this.#isArray[depth] = true;
        this.#fields[depth] = field;
        this.#nodes[depth] = valueNode;
        inArray = true;
        at = this.space(bytes, at + 1, end);
        if (bytes[at] === CLOSE_BRACKET) mode = AFTER;
        continue;
      }
      if (field !== undefined && arrayDepth > 0 && ++field.values > field.arrayLengthMax) {
        field.arrayLengthMax = field.values;
      }
      if (byte === QUOTE) {
        const stringStart = at + 1;
        at = this.#string(bytes, stringStart, end);
        if (field !== undefined) field.addString(bytes, stringStart, at - 1, this.#escaped, sampled);
        mode = AFTER;
      } else if (byte === OPEN_BRACE) {
        if (field !== undefined) field.object++;
        this.#previous[depth] = previous;
        depth++;
        this.#isArray[depth] = false;
        this.#nodes[depth] = valueNode;
        inArray = false;
        node = valueNode;
        previous = undefined;
        at = this.space(bytes, at + 1, end);
        mode = bytes[at] === CLOSE_BRACE ? AFTER : KEY;
      } else if (byte === MINUS || (byte >= ZERO && byte <= NINE)) {
        at = scanNumber(bytes, at, field, sampled);
        mode = AFTER;
      } else {
        at = scanLiteral(bytes, at, field);
        mode = AFTER;
      }
    }
  }

  /** Skips white space and comments; marks the document unclean if there was more than blanks. */
  space(bytes: Buffer, start: number, end: number): number {
    let at = start;
    for (; at < end; ) {
      const byte = bytes[at];
      if (byte === 0x20) at++;
      else if (byte === LINE_FEED || byte === CARRIAGE_RETURN || byte === 0x09) {
        this.unclean = true;
        at++;
      } else if (byte === SLASH) {
        this.unclean = true;
        at = skipComment(bytes, at, end);
      } else return at;
    }
    return at;
  }

  /** Returns the position after the closing quote of the string whose text begins at `start`. */
  #string(bytes: Buffer, start: number, end: number): number {
    this.#escaped = false;
    const words = this.#words;
    for (let at = start; at < end; ) {
      if (at + 4 <= end) {
        const word = words.getInt32(at, true);
        // In the first of the four bytes that is no plain one, a subtraction borrows: `^ 2` brings the quote in line with
        // the control bytes, `^ 0x5c` makes the backslash 0, and `~word` leaves out what is no ASCII.
        const stops =
          (((word ^ 0x0202_0202) - 0x2121_2121) | ((word ^ 0x5c5c_5c5c) - 0x0101_0101)) & ~word & 0x8080_8080;
        if (stops === 0) {
          at += 4;
          continue;
        }
        at += (31 - Math.clz32(stops & -stops)) >> 3;
      }
      const byte = bytes[at] ?? 0;
      if (byte === QUOTE) return at + 1;
      if (byte < 0x20) throw new ScanError("a string holds a control byte", at);
      if (byte === BACKSLASH) {
        this.#escaped = true;
        at++;
      }
      at++;
    }
    throw new ScanError("a string does not end", end);
  }
}

/** Whether a key's bytes and its closing quote lie at `start`. */
function isKeyAt(words: DataView, start: number, end: number, { key, keyBytes: length }: KeyNode): boolean {
  if (start + length > end) return false;
  let index = 0;
  for (; index + 4 <= length; index += 4) {
    if (words.getInt32(start + index, true) !== key.getInt32(index, true)) return false;
  }
  for (; index < length; index++) if (words.getInt8(start + index) !== key.getInt8(index)) return false;
  return true;
}

/** Returns the position after the comment at `start`. A line comment includes its line's end. */
export function skipComment(bytes: Buffer, start: number, end: number): number {
  if (bytes[start + 1] === STAR) {
    const close = bytes.indexOf("*/", start + 2, "latin1");
    if (close < 0 || close + 2 > end) throw new ScanError("a comment does not end", start);
    return close + 2;
  }
  if (bytes[start + 1] !== SLASH) throw new ScanError("a slash stands outside a string", start);
  for (let at = start + 2; at < end; at++) {
    if (bytes[at] === LINE_FEED || bytes[at] === CARRIAGE_RETURN) return at + 1;
  }
  return end;
}

function scanLiteral(bytes: Buffer, at: number, field: FieldStatistics | undefined): number {
  if (bytes[at] === 0x74 && bytes[at + 1] === 0x72 && bytes[at + 2] === 0x75 && bytes[at + 3] === 0x65) {
    if (field !== undefined) field.boolean++;
    return at + 4;
  }
  if (bytes[at] === 0x6e && bytes[at + 1] === 0x75 && bytes[at + 2] === 0x6c && bytes[at + 3] === 0x6c) {
    if (field !== undefined) field.nulls++;
    return at + 4;
  }
  if (
    bytes[at] === 0x66 &&
    bytes[at + 1] === 0x61 &&
    bytes[at + 2] === 0x6c &&
    bytes[at + 3] === 0x73 &&
    bytes[at + 4] === 0x65
  ) {
    if (field !== undefined) field.boolean++;
    return at + 5;
  }
  throw new ScanError("a value is none of JSON's", at);
}

function scanNumber(bytes: Buffer, start: number, field: FieldStatistics | undefined, sampled: boolean): number {
  const digitsStart = bytes[start] === MINUS ? start + 1 : start;
  let at = digitsStart;
  let value = 0;
  let byte = bytes[at] ?? 0;
  while (byte >= ZERO && byte <= NINE) {
    value = value * 10 + (byte - ZERO);
    byte = bytes[++at] ?? 0;
  }
  const digits = at - digitsStart;
  if (digits === 0 || (digits > 1 && bytes[digitsStart] === ZERO)) throw new ScanError("a number is malformed", start);
  let scale = 0;
  let isDecimal = false;
  if (byte === POINT) {
    isDecimal = true;
    const fractionStart = ++at;
    let unit = 0.1;
    byte = bytes[at] ?? 0;
    while (byte >= ZERO && byte <= NINE) {
      value += (byte - ZERO) * unit;
      unit *= 0.1;
      byte = bytes[++at] ?? 0;
    }
    scale = at - fractionStart;
    if (scale === 0) throw new ScanError("a number is malformed", start);
  }
  const hasExponent = byte === 0x65 || byte === 0x45;
  if (hasExponent) {
    at++;
    if (bytes[at] === MINUS || bytes[at] === PLUS) at++;
    const exponentStart = at;
    while (isDigit(bytes[at])) at++;
    if (at === exponentStart) throw new ScanError("a number is malformed", start);
  }
  if (field !== undefined) {
    if (hasExponent) {
      field.addNumber(bytes, start, at, 0, 0, true, Number(bytes.toString("latin1", start, at)), sampled);
    } else {
      field.addNumber(bytes, start, at, digits, scale, isDecimal, digitsStart === start ? value : -value, sampled);
    }
  }
  return at;
}

function isDigit(byte: number | undefined): boolean {
  return byte !== undefined && byte >= ZERO && byte <= NINE;
}

/** Where the parts of one hit lie in its page. The object is reused: read it before the next hit. */
export interface Hit {
  /** Where its bracket opens. */
  start: number;
  /** JSON values, as [start, end) of the page; -1 where the hit has none. */
  indexStart: number;
  indexEnd: number;
  idStart: number;
  idEnd: number;
  routingStart: number;
  routingEnd: number;
  seqNoStart: number;
  seqNoEnd: number;
  primaryTermStart: number;
  primaryTermEnd: number;
  sourceStart: number;
  sourceEnd: number;
  sortStart: number;
  sortEnd: number;
  /** The source holds a comment, a byte order mark or a control byte between tokens. */
  unclean: boolean;
}

/** What a search response says besides its hits. */
export interface PageHead {
  pitId: string | undefined;
  scrollId: string | undefined;
  timedOut: boolean;
  shardsTotal: number;
  shardsFailed: number;
  total: number | undefined;
}

export interface ScannedPage extends PageHead {
  hits: number;
  /**
   * True when the scan stopped after `hits` hits, because a line comment follows the next document: its end cannot
   * be told from the text after it. A page of that hit alone can be read with `single`.
   */
  stoppedAtLineComment: boolean;
}

export interface ScanPageOptions {
  profile?: Profile;
  /** The page holds one hit at most, so that its end is found from the end of the page. */
  single?: boolean;
  /** Stop after so many hits. */
  hitsMax?: number;
  visit(hit: Hit): void;
}

const EMPTY_HIT: Hit = {
  start: -1,
  indexStart: -1,
  indexEnd: -1,
  idStart: -1,
  idEnd: -1,
  routingStart: -1,
  routingEnd: -1,
  seqNoStart: -1,
  seqNoEnd: -1,
  primaryTermStart: -1,
  primaryTermEnd: -1,
  sourceStart: -1,
  sourceEnd: -1,
  sortStart: -1,
  sortEnd: -1,
  unclean: false,
};

/** Reads raw search responses hit by hit. Exact for every document that Elasticsearch accepts. */
export class PageScanner {
  readonly #documents = new DocumentScanner();

  scan(page: Buffer, options: ScanPageOptions): ScannedPage {
    this.#documents.reset(page);
    const result: ScannedPage = {
      pitId: undefined,
      scrollId: undefined,
      timedOut: false,
      shardsTotal: 0,
      shardsFailed: 0,
      total: undefined,
      hits: 0,
      stoppedAtLineComment: false,
    };
    let at = expectByte(page, 0, OPEN_BRACE);
    for (let first = true; ; first = false) {
      if (page[at] === CLOSE_BRACE) break;
      if (!first) at = expectByte(page, at, COMMA);
      const keyEnd = skipString(page, at);
      const key = page.toString("latin1", at + 1, keyEnd - 1);
      at = expectByte(page, keyEnd, COLON);
      if (key === "hits") {
        at = this.#hits(page, at, result, options);
        if (at < 0) return result;
        continue;
      }
      const end = skipValue(page, at);
      const value = () => parseValue(page, at, end);
      if (key === "pit_id") result.pitId = stringOf(value());
      else if (key === "_scroll_id") result.scrollId = stringOf(value());
      else if (key === "timed_out") result.timedOut = value() === true;
      else if (key === "_shards") {
        result.shardsTotal = numberIn(value(), "total") ?? 0;
        result.shardsFailed = numberIn(value(), "failed") ?? 0;
      }
      at = end;
    }
    return result;
  }

  /** Returns the position after the hits, or -1 if the scan ended before. */
  #hits(page: Buffer, start: number, result: ScannedPage, options: ScanPageOptions): number {
    let at = expectByte(page, start, OPEN_BRACE);
    for (let first = true; ; first = false) {
      if (page[at] === CLOSE_BRACE) return at + 1;
      if (!first) at = expectByte(page, at, COMMA);
      const keyEnd = skipString(page, at);
      const key = page.toString("latin1", at + 1, keyEnd - 1);
      at = expectByte(page, keyEnd, COLON);
      if (key !== "hits") {
        const end = skipValue(page, at);
        if (key === "total") result.total = numberIn(parseValue(page, at, end), "value");
        at = end;
        continue;
      }
      at = expectByte(page, at, OPEN_BRACKET);
      const hit: Hit = { ...EMPTY_HIT };
      if (page[at] === CLOSE_BRACKET) at++;
      else {
        for (;;) {
          at = this.#hit(page, at, hit, options);
          if (at < 0) {
            result.stoppedAtLineComment = true;
            return at;
          }
          options.visit(hit);
          result.hits++;
          if (result.hits === options.hitsMax) return -1;
          if (page[at] === COMMA) {
            at++;
            continue;
          }
          at = expectByte(page, at, CLOSE_BRACKET);
          break;
        }
      }
    }
  }

  /** Returns the position after the hit, or -1 if a line comment hides its end. */
  #hit(page: Buffer, start: number, hit: Hit, options: ScanPageOptions): number {
    let at = expectByte(page, start, OPEN_BRACE);
    hit.indexStart = hit.idStart = hit.routingStart = hit.seqNoStart = hit.primaryTermStart = -1;
    hit.sourceStart = hit.sortStart = -1;
    hit.start = start;
    hit.unclean = false;
    for (;;) {
      if (page[at] !== QUOTE) throw new ScanError("a hit is not as expected", at);
      const keyStart = at + 1;
      let keyEnd = keyStart;
      while (page[keyEnd] !== QUOTE) {
        if (keyEnd++ > page.length) throw new ScanError("the page ends in a hit", at);
      }
      at = keyEnd + 1;
      if (page[at] !== COLON) throw new ScanError("a hit is not as expected", at);
      at++;
      const valueStart = at;
      const length = keyEnd - keyStart;
      const third = page[keyStart + 2];
      if (length === 7 && third === 0x6f) {
        // _source
        at = this.#source(page, valueStart, hit, options);
        if (at < 0) return at;
      } else {
        at = skipMember(page, at);
        if (length === 6 && third === 0x6e) {
          // _index
          hit.indexStart = valueStart;
          hit.indexEnd = at;
        } else if (length === 3) {
          // _id
          hit.idStart = valueStart;
          hit.idEnd = at;
        } else if (length === 8 && third === 0x6f) {
          // _routing
          hit.routingStart = valueStart;
          hit.routingEnd = at;
        } else if (length === 7 && third === 0x65) {
          // _seq_no
          hit.seqNoStart = valueStart;
          hit.seqNoEnd = at;
        } else if (length === 13 && third === 0x72) {
          // _primary_term
          hit.primaryTermStart = valueStart;
          hit.primaryTermEnd = at;
        } else if (length === 4 && third === 0x72) {
          // sort
          hit.sortStart = valueStart;
          hit.sortEnd = at;
        }
      }
      if (page[at] === COMMA) {
        at++;
        continue;
      }
      if (page[at] !== CLOSE_BRACE)
        throw new ScanError("a document is not followed by the rest of its hit", at, idOf(page, hit));
      if (hit.indexStart < 0 || hit.idStart < 0) throw new ScanError("a hit has no _index or no _id", at);
      if (hit.sourceStart < 0) {
        throw new ScanError("the document has no _source", at, idOf(page, hit));
      }
      return at + 1;
    }
  }

  #source(page: Buffer, start: number, hit: Hit, options: ScanPageOptions): number {
    try {
      const limit = options.single === true ? singleSourceEnd(page) : page.length;
      const objectEnd = this.#documents.scan(page, start, limit, options.profile);
      let at = objectEnd;
      if (options.single === true) {
        at = this.#documents.space(page, at, limit);
        if (at !== limit) throw new ScanError("the document is followed by something else", at);
      } else if (page[at] !== COMMA && page[at] !== CLOSE_BRACE) {
        at = this.#spaceAfter(page, at);
        if (at < 0) {
          if (options.profile !== undefined) this.#takeBack(page, start, objectEnd, options.profile);
          return at;
        }
      }
      hit.sourceStart = start;
      hit.sourceEnd = objectEnd;
      hit.unclean = this.#documents.unclean || page[start] !== OPEN_BRACE;
      return at;
    } catch (error) {
      if (error instanceof ScanError && error.documentId === undefined) {
        throw new ScanError(error.message, error.position, idOf(page, hit));
      }
      throw error;
    }
  }

  /** The document at [start, end) is not of this page after all: it will be scanned again. */
  #takeBack(page: Buffer, start: number, end: number, profile: Profile): void {
    const alone = new Profile();
    this.#documents.scan(page, start, end, alone);
    profile.subtract(alone);
  }

  /** White space and block comments may follow a document; a line comment has no end that can be seen. */
  #spaceAfter(page: Buffer, start: number): number {
    let at = start;
    for (;;) {
      const byte = page[at];
      if (byte === 0x20 || byte === LINE_FEED || byte === CARRIAGE_RETURN || byte === 0x09) at++;
      else if (byte === SLASH && page[at + 1] === SLASH) return -1;
      else if (byte === SLASH) at = skipComment(page, at, page.length);
      else return at;
    }
  }
}

/** Where the `_source` of a page's only hit ends: before the sort value, which is the last thing in the page. */
function singleSourceEnd(page: Buffer): number {
  const tailStart = Math.max(0, page.length - 200);
  const tail = /,"sort":\[-?\d+\]\}\]\}\}\s*$/.exec(page.toString("latin1", tailStart, page.length));
  if (tail === null) throw new ScanError("the page of a single hit does not end with its sort value", page.length);
  return tailStart + tail.index;
}

function idOf(page: Buffer, hit: Hit): string | undefined {
  return hit.idStart < 0 ? undefined : decodeString(page, hit.idStart + 1, hit.idEnd - 1, true);
}

function expectByte(page: Buffer, at: number, byte: number): number {
  if (page[at] !== byte) throw new ScanError("the response is not that of a search", at);
  return at + 1;
}

/** Returns the position after the string whose quote is at `start`. For what Elasticsearch wrote itself. */
function skipString(page: Buffer, start: number): number {
  if (page[start] !== QUOTE) throw new ScanError("the response is not that of a search", start);
  for (let at = start + 1; at < page.length; at++) {
    const byte = page[at];
    if (byte === QUOTE) return at + 1;
    if (byte === BACKSLASH) at++;
  }
  throw new ScanError("the response ends inside a string", page.length);
}

/** `skipValue` for what most members of a hit are: a string, or a number at whose end a comma or a bracket stands. */
function skipMember(page: Buffer, start: number): number {
  const first = page[start] ?? 0;
  if (first === QUOTE) return skipString(page, start);
  if (first < ZERO || first > NINE) return skipValue(page, start);
  let at = start + 1;
  while (isDigit(page[at])) at++;
  return page[at] === COMMA || page[at] === CLOSE_BRACE ? at : skipValue(page, start);
}

/** Returns the position after the value at `start`, written by Elasticsearch without white space. */
function skipValue(page: Buffer, start: number): number {
  let depth = 0;
  let at = start;
  while (at < page.length) {
    const byte = page[at];
    if (byte === QUOTE) at = skipString(page, at);
    else if (byte === OPEN_BRACE || byte === OPEN_BRACKET) {
      depth++;
      at++;
    } else if (byte === CLOSE_BRACE || byte === CLOSE_BRACKET) {
      if (depth === 0) return at;
      depth--;
      at++;
    } else if (byte === COMMA && depth === 0) return at;
    else at++;
    if (depth === 0 && (page[at] === COMMA || page[at] === CLOSE_BRACE || page[at] === CLOSE_BRACKET)) return at;
  }
  throw new ScanError("the response ends inside a value", at);
}

function parseValue(page: Buffer, start: number, end: number): unknown {
  try {
    return JSON.parse(page.toString("utf8", start, end));
  } catch {
    throw new ScanError("a value of the response is no JSON", start);
  }
}

function stringOf(value: unknown): string | undefined {
  return typeof value === "string" ? value : undefined;
}

function numberIn(value: unknown, key: string): number | undefined {
  if (typeof value !== "object" || value === null) return undefined;
  const found: unknown = Reflect.get(value, key);
  return typeof found === "number" ? found : undefined;
}
