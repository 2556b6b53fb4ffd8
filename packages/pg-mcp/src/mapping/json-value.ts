/** A JSON value with its exact text: what JSON.parse would round, reorder or drop is still there. */
export type JsonValue =
  | { kind: "string"; text: string; raw: string }
  | { kind: "number"; raw: string }
  | { kind: "boolean"; raw: string }
  | { kind: "null"; raw: string }
  | { kind: "array"; items: JsonValue[]; raw: string }
  | { kind: "object"; entries: [name: string, value: JsonValue][]; raw: string };

export type JsonErrorReason = "invalid_json" | "too_deep";

export class JsonError extends Error {
  override readonly name = "JsonError";
  readonly reason: JsonErrorReason;

  constructor(reason: JsonErrorReason, message: string) {
    super(message);
    this.reason = reason;
  }
}

/** Elasticsearch refuses documents that nest deeper, and PostgreSQL's parser needs stack for every level. */
const DEPTH_MAX = 1000;

const NUMBER = /-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][+-]?\d+)?/y;
const WHITESPACE = /[ \t\n\r]*/y;
const ESCAPES: Record<string, string> = { b: "\b", f: "\f", n: "\n", r: "\r", t: "\t", '"': '"', "\\": "\\", "/": "/" };

/** Parses one whole JSON text, strictly; throws `JsonError`. Names that come twice are all kept, in order. */
export function parseJsonValue(text: string): JsonValue {
  let position = 0;
  const value = parse(0);
  skipWhitespace();
  if (position !== text.length) throw malformed();
  return value;

  function parse(depth: number): JsonValue {
    if (depth > DEPTH_MAX) throw new JsonError("too_deep", `The value nests deeper than ${DEPTH_MAX} levels.`);
    skipWhitespace();
    const start = position;
    switch (text[position]) {
      case '"': {
        const string = parseString();
        return { kind: "string", text: string, raw: text.slice(start, position) };
      }
      case "{": {
        const entries: [string, JsonValue][] = [];
        position += 1;
        skipWhitespace();
        if (text[position] === "}") position += 1;
        else {
          for (;;) {
            skipWhitespace();
            if (text[position] !== '"') throw malformed();
            const name = parseString();
            skipWhitespace();
            if (text[position] !== ":") throw malformed();
            position += 1;
            entries.push([name, parse(depth + 1)]);
            if (!separator("}")) break;
          }
        }
        return { kind: "object", entries, raw: text.slice(start, position) };
      }
      case "[": {
        const items: JsonValue[] = [];
        position += 1;
        skipWhitespace();
        if (text[position] === "]") position += 1;
        else {
          for (;;) {
            items.push(parse(depth + 1));
            if (!separator("]")) break;
          }
        }
        return { kind: "array", items, raw: text.slice(start, position) };
      }
      case "t":
        return literal("true", "boolean");
      case "f":
        return literal("false", "boolean");
      case "n":
        return literal("null", "null");
      default: {
        NUMBER.lastIndex = position;
        const raw = NUMBER.exec(text)?.[0];
        if (raw === undefined) throw malformed();
        position += raw.length;
        return { kind: "number", raw };
      }
    }
  }

  function literal(word: string, kind: "boolean" | "null"): JsonValue {
    if (!text.startsWith(word, position)) throw malformed();
    position += word.length;
    return { kind, raw: word };
  }

  /** After an item: true when another follows, false after the closing bracket. */
  function separator(close: string): boolean {
    skipWhitespace();
    const character = text[position];
    if (character !== "," && character !== close) throw malformed();
    position += 1;
    return character === ",";
  }

  function parseString(): string {
    let decoded = "";
    let from = position + 1;
    for (let at = from; ; at += 1) {
      const code = text.charCodeAt(at);
      // NaN past the end, and control characters, which JSON wants escaped.
      if (!(code >= 0x20)) throw malformed();
      if (code === 0x22) {
        position = at + 1;
        return decoded + text.slice(from, at);
      }
      if (code === 0x5c) {
        decoded += text.slice(from, at);
        const letter = text[at + 1] ?? "";
        if (letter === "u") {
          const digits = text.slice(at + 2, at + 6);
          if (!/^[0-9a-fA-F]{4}$/.test(digits)) throw malformed();
          decoded += String.fromCharCode(Number.parseInt(digits, 16));
          at += 5;
        } else {
          const character = ESCAPES[letter];
          if (character === undefined) throw malformed();
          decoded += character;
          at += 1;
        }
        from = at + 1;
      }
    }
  }

  function skipWhitespace(): void {
    WHITESPACE.lastIndex = position;
    WHITESPACE.exec(text);
    position = WHITESPACE.lastIndex;
  }
}

function malformed(): JsonError {
  return new JsonError("invalid_json", "The value is not JSON.");
}

/** An array of values that stood in several places of a document. */
export function arrayOf(items: JsonValue[]): JsonValue {
  return { kind: "array", items, raw: `[${items.map(({ raw }) => raw).join(",")}]` };
}

/** An object of entries that stood in several places of a document: names that come twice become arrays of both. */
export function mergedObject(entries: readonly [string, JsonValue][]): JsonValue {
  const merged = new Map<string, JsonValue>();
  for (const [name, value] of entries) {
    const earlier = merged.get(name);
    merged.set(name, earlier === undefined ? value : mergeValues(earlier, value));
  }
  const result = [...merged];
  return {
    kind: "object",
    entries: result,
    raw: `{${result.map(([name, value]) => `${JSON.stringify(name)}:${value.raw}`).join(",")}}`,
  };
}

function mergeValues(left: JsonValue, right: JsonValue): JsonValue {
  if (left.kind === "object" && right.kind === "object") return mergedObject([...left.entries, ...right.entries]);
  return arrayOf([
    ...(left.kind === "array" ? left.items : [left]),
    ...(right.kind === "array" ? right.items : [right]),
  ]);
}
