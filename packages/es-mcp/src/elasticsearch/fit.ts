import { isRecord } from "./record.ts";

/** Steps by which a value is made smaller: longest string in characters, longest array in elements. */
const STEPS: readonly { characters: number; elements: number }[] = [
  { characters: 4_000, elements: 200 },
  { characters: 1_500, elements: 100 },
  { characters: 500, elements: 50 },
  { characters: 200, elements: 20 },
  { characters: 100, elements: 10 },
  { characters: 50, elements: 5 },
  { characters: 30, elements: 3 },
];

/** Paths that an answer names as clipped; of more, the number is enough. */
const CLIPPED_MAX = 12;

/** A value that fits, and where something of it was left out. */
export interface Fitted {
  value: unknown;
  clipped: string[];
}

/** Bytes of compact JSON. */
export function jsonBytes(value: unknown): number {
  return Buffer.byteLength(JSON.stringify(value) ?? "null");
}

/**
 * The value within `bytesMax` bytes of compact JSON: whole if it fits, else with long strings and arrays clipped, each
 * followed by its length, and at last without its later fields.
 */
export function fitValue(value: unknown, bytesMax: number): Fitted {
  if (bytesMax === Number.POSITIVE_INFINITY || jsonBytes(value) <= bytesMax) return { value, clipped: [] };
  let fitted: Fitted = { value, clipped: [] };
  for (const step of STEPS) {
    const clipped = new Set<string>();
    fitted = { value: shorten(value, step, "", clipped), clipped: named(clipped) };
    if (jsonBytes(fitted.value) <= bytesMax) return fitted;
  }
  return dropLater(fitted, bytesMax);
}

function shorten(
  value: unknown,
  step: { characters: number; elements: number },
  path: string,
  clipped: Set<string>,
): unknown {
  if (typeof value === "string") {
    if (value.length <= step.characters) return value;
    clipped.add(path);
    // A half of a surrogate pair would be no text.
    const kept = value.slice(0, step.characters).replace(/[\uD800-\uDBFF]$/, "");
    return `${kept}… (${characterCount(value)} characters)`;
  }
  if (Array.isArray(value)) {
    const items = value.slice(0, step.elements).map((item) => shorten(item, step, path, clipped));
    if (value.length > step.elements) {
      clipped.add(path);
      items.push(`… (${value.length} elements)`);
    }
    return items;
  }
  if (!isRecord(value)) return value;
  return Object.fromEntries(
    Object.entries(value).map(([key, member]) => [
      key,
      shorten(member, step, path === "" ? key : `${path}.${key}`, clipped),
    ]),
  );
}

function dropLater({ value, clipped }: Fitted, bytesMax: number): Fitted {
  if (!isRecord(value)) return { value: null, clipped: [...clipped, "all of it"] };
  const kept: [string, unknown][] = [];
  let bytes = 2;
  for (const [key, member] of Object.entries(value)) {
    bytes += jsonBytes(key) + jsonBytes(member) + 2;
    if (bytes > bytesMax) break;
    kept.push([key, member]);
  }
  const dropped = Object.keys(value).length - kept.length;
  return { value: Object.fromEntries(kept), clipped: [...clipped, `${dropped} later fields`] };
}

function named(clipped: ReadonlySet<string>): string[] {
  const paths = [...clipped].map((path) => (path.length <= 100 ? path : `${path.slice(0, 100)}…`));
  return paths.length <= CLIPPED_MAX
    ? paths
    : [...paths.slice(0, CLIPPED_MAX), `${paths.length - CLIPPED_MAX} more fields`];
}

/** Characters, not the halves that some of them are stored in. */
function characterCount(text: string): number {
  let count = 0;
  for (const _character of text) count += 1;
  return count;
}
