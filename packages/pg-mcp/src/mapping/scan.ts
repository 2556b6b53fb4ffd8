/** How a value's bytes may be used: as they are, after simple escapes, or only when decoded. */
export const PLAIN = 0;
export const ESCAPED = 1;
export const DECODE = 2;
/** Of a path that one span cannot tell: all that is known stands in `several`. */
export const SEVERAL = 3;

/** One place of a document where a wanted path has a value. */
export interface Occurrence {
  start: number;
  end: number;
  flag: number;
  /** The rest of the path inside the value, where a dotted name passed through the wanted object. */
  inside: readonly string[];
}

/** A wanted object that a dotted name passes through, and the rest of the name inside of it. */
interface Passed {
  slot: number;
  inside: string[];
}

/** Shared, because nearly every name passes through nothing and every value is where its path ends. */
const NOWHERE: readonly Passed[] = [];
const NOTHING: readonly string[] = [];

/** What is known about one member name of one object: compiled at the first sight of the name, then compared as bytes. */
interface Member {
  /** The name with its quotes, as it stands in the document. */
  bytes: Buffer;
  node: Node | null;
  /** Wanted objects that a dotted name passes through. */
  passed: readonly Passed[];
  /** The member that followed last time: documents of one index repeat their order. */
  next: Member | null;
}

class Node {
  /** Index of the wanted path that ends here; -1: none. */
  slot = -1;
  readonly children = new Map<string, Node>();
  readonly members = new Map<string, Member>();
  first: Member | null = null;
}

/** Names beyond this number in one object are looked at anew each time; it bounds memory for objects used as maps. */
const MEMBERS_MAX = 4096;
const DEPTH_MAX = 1000;
const MALFORMED = -1;

/**
 * Finds the values of wanted paths in the bytes of JSON documents, without decoding anything else. A path met twice
 * (`{"a.b":1,"a":{"b":2}}`, arrays of objects) has several occurrences, in document order.
 */
export class Scanner {
  /** First occurrence per path; start is -1 where the document has none. */
  readonly starts: Int32Array;
  readonly ends: Int32Array;
  readonly flags: Uint8Array;
  /** All occurrences of paths that one span cannot tell. */
  readonly several = new Map<number, Occurrence[]>();
  readonly #root = new Node();
  #bytes: Buffer = Buffer.alloc(0);
  #end = 0;
  #flag = PLAIN;

  constructor(paths: readonly string[]) {
    this.starts = new Int32Array(paths.length);
    this.ends = new Int32Array(paths.length);
    this.flags = new Uint8Array(paths.length);
    for (const [slot, path] of paths.entries()) {
      let node = this.#root;
      for (const name of path.split(".")) {
        const child = node.children.get(name) ?? new Node();
        node.children.set(name, child);
        node = child;
      }
      node.slot = slot;
    }
  }

  /** Scans the object at `start`; answers the position after it, or -1 if the bytes are no JSON object. */
  scan(bytes: Buffer, start: number, end: number): number {
    this.starts.fill(-1);
    if (this.several.size > 0) this.several.clear();
    this.#bytes = bytes;
    this.#end = end;
    return this.#object(start, this.#root, 0);
  }

  #object(start: number, node: Node, depth: number): number {
    const b = this.#bytes;
    if (b[start] !== 123 || depth > DEPTH_MAX) return MALFORMED;
    let p = this.#space(start + 1);
    if (b[p] === 125) return p + 1;
    let previous: Member | null = null;
    for (;;) {
      if (b[p] !== 34) return MALFORMED;
      const guess: Member | null = previous === null ? node.first : previous.next;
      let member: Member;
      if (guess !== null && this.#matches(guess.bytes, p)) {
        member = guess;
        p += guess.bytes.length;
      } else {
        const end = this.#string(p);
        if (end < 0) return MALFORMED;
        member = this.#member(node, p, end);
        p = end;
        if (previous === null) node.first = member;
        else previous.next = member;
      }
      previous = member;
      if (b[p] !== 58) {
        p = this.#space(p);
        if (b[p] !== 58) return MALFORMED;
      }
      p = this.#space(p + 1);
      const end = this.#value(p, member.node, depth);
      if (end < 0) return MALFORMED;
      if (member.passed !== NOWHERE) {
        for (const { slot, inside } of member.passed) this.#record(slot, p, end, DECODE, inside);
      }
      p = this.#space(end);
      if (b[p] === 125) return p + 1;
      if (b[p] !== 44) return MALFORMED;
      p = this.#space(p + 1);
    }
  }

  #matches(name: Buffer, at: number): boolean {
    const b = this.#bytes;
    const { length } = name;
    for (let i = 1; i < length; i += 1) if (b[at + i] !== name[i]) return false;
    return true;
  }

  /** Reads one value and records it where a wanted path ends; answers the position after it. */
  #value(p: number, node: Node | null, depth: number): number {
    let end: number;
    let flag = PLAIN;
    switch (this.#bytes[p]) {
      case 34:
        end = this.#string(p);
        flag = this.#flag;
        break;
      case 123:
        end =
          node === null || node.children.size === 0
            ? skipBracketed(this.#bytes, p, this.#end)
            : this.#object(p, node, depth + 1);
        break;
      case 91:
        end =
          node === null || node.children.size === 0
            ? skipBracketed(this.#bytes, p, this.#end)
            : this.#array(p, node, depth + 1);
        break;
      default:
        end = this.#token(p);
    }
    if (end >= 0 && node !== null && node.slot >= 0) this.#record(node.slot, p, end, flag, NOTHING);
    return end;
  }

  /** An array on the way to deeper paths: its objects are searched one by one. */
  #array(start: number, node: Node, depth: number): number {
    const b = this.#bytes;
    if (depth > DEPTH_MAX) return MALFORMED;
    let p = this.#space(start + 1);
    if (b[p] === 93) return p + 1;
    for (;;) {
      const c = b[p];
      const end =
        c === 123
          ? this.#object(p, node, depth + 1)
          : c === 91
            ? this.#array(p, node, depth + 1)
            : this.#value(p, null, depth);
      if (end < 0) return MALFORMED;
      p = this.#space(end);
      if (b[p] === 93) return p + 1;
      if (b[p] !== 44) return MALFORMED;
      p = this.#space(p + 1);
    }
  }

  #record(slot: number, start: number, end: number, flag: number, inside: readonly string[]): void {
    if (this.starts[slot] === -1 && inside.length === 0) {
      this.starts[slot] = start;
      this.ends[slot] = end;
      this.flags[slot] = flag;
      return;
    }
    let list = this.several.get(slot);
    if (list === undefined) {
      list = [];
      const first = this.starts[slot] ?? -1;
      if (first !== -1) list.push({ start: first, end: this.ends[slot] ?? 0, flag: this.flags[slot] ?? 0, inside: [] });
      this.several.set(slot, list);
    }
    list.push({ start, end, flag, inside });
    if (this.starts[slot] === -1) {
      this.starts[slot] = start;
      this.ends[slot] = end;
    }
    this.flags[slot] = SEVERAL;
  }

  /** The position after the string at `start`; sets the flag of its content. */
  #string(start: number): number {
    const b = this.#bytes;
    const end = this.#end;
    let flag = PLAIN;
    let p = start + 1;
    for (;;) {
      const c = b[p];
      if (c === 34) break;
      if (c === 92) {
        const escaped = isSimpleEscape(b[p + 1] ?? 0) ? ESCAPED : DECODE;
        if (flag < escaped) flag = escaped;
        p += 1;
      } else if (c === undefined || c < 32) {
        if (c === undefined || p >= end) return MALFORMED;
        flag = DECODE;
      }
      p += 1;
    }
    if (p >= end) return MALFORMED;
    this.#flag = flag;
    return p + 1;
  }

  /** The position after a number or a literal; which of them it is, the converter judges. */
  #token(start: number): number {
    const b = this.#bytes;
    let p = start;
    for (;;) {
      const c = b[p] ?? 0;
      const isToken = (c >= 48 && c <= 57) || (c >= 97 && c <= 122) || c === 46 || c === 45 || c === 43 || c === 69;
      if (!isToken) break;
      p += 1;
    }
    return p === start || p > this.#end ? MALFORMED : p;
  }

  #space(start: number): number {
    const b = this.#bytes;
    let p = start;
    let c = b[p];
    while (c === 32 || c === 9 || c === 10 || c === 13) c = b[++p];
    return p;
  }

  #member(node: Node, start: number, end: number): Member {
    const key = this.#bytes.toString("latin1", start, end);
    const known = node.members.get(key);
    if (known !== undefined) return known;
    const member: Member = {
      bytes: Buffer.from(this.#bytes.subarray(start, end)),
      node: null,
      passed: NOWHERE,
      next: null,
    };
    const name = decodeName(this.#bytes.toString("utf8", start, end));
    if (name !== null) {
      const names = name.split(".");
      let at: Node | undefined = node;
      const passed: Passed[] = [];
      for (const [index, part] of names.entries()) {
        at = at.children.get(part);
        if (at === undefined) break;
        const inside = names.slice(index + 1);
        if (inside.length > 0 && at.slot >= 0) passed.push({ slot: at.slot, inside });
      }
      if (passed.length > 0) member.passed = passed;
      member.node = at ?? null;
    }
    if (node.members.size < MEMBERS_MAX) node.members.set(key, member);
    return member;
  }
}

/** The position after the array or object at `start`, which nobody wants to look into; -1 where it does not end. */
export function skipBracketed(bytes: Buffer, start: number, end: number): number {
  let depth = 0;
  for (let p = start; p < end; p += 1) {
    const c = bytes[p];
    if (c === 34) {
      for (p += 1; p < end && bytes[p] !== 34; p += 1) if (bytes[p] === 92) p += 1;
    } else if (c === 123 || c === 91) depth += 1;
    else if ((c === 125 || c === 93) && --depth === 0) return p + 1;
  }
  return MALFORMED;
}

/** One of `" \ / b f n r t`, which mean the same in JSON and in COPY text; `\u` does not, and others are no JSON. */
export function isSimpleEscape(c: number): boolean {
  return c === 34 || c === 92 || c === 47 || c === 98 || c === 102 || c === 110 || c === 114 || c === 116;
}

function decodeName(quoted: string): string | null {
  try {
    const name: unknown = JSON.parse(quoted);
    return typeof name === "string" ? name : null;
  } catch {
    return null;
  }
}
