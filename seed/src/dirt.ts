import { type Fields, writeFields } from "./fields.ts";

/**
 * What becomes of a document of this kind when it is loaded with the default policies into the table of
 * `data/products.sql`. `loaded` and `rejected` name the column that the dirt is in.
 */
export type DirtOutcome =
  | { outcome: "loaded"; column?: string }
  | { outcome: "rejected"; column: string }
  | { outcome: "deduplicated" };

interface Dirt {
  /** Sets fields, as JSON text; undefined takes the field away. */
  set?: Record<string, string | undefined>;
  /** Makes the bytes of the document, where fields alone cannot. */
  write?: (fields: Fields) => Buffer;
  /** Needs a request of its own: a line of _bulk cannot hold it. */
  alone?: true;
  expect: DirtOutcome;
}

const rejected = (column: string): DirtOutcome => ({ outcome: "rejected", column });
const loaded = (column?: string): DirtOutcome => ({ outcome: "loaded", ...(column === undefined ? {} : { column }) });

/** Every kind of dirt, each once in `dirtPeriod` documents. Elasticsearch accepts all of it under `ignore_malformed`. */
export const dirtKinds = {
  price_with_comma: { set: { price: '"12,50"' }, expect: rejected("price") },
  price_in_words: { set: { price: '"call us"' }, expect: rejected("price") },
  price_of_30_digits: { set: { price: "123456789012345678901234567890.12345" }, expect: rejected("price") },
  price_with_three_decimals: { set: { price: "10.005" }, expect: rejected("price") },
  price_as_array: { set: { price: "[10.50,11.50]" }, expect: rejected("price") },
  price_as_text: { set: { price: '"12.50"' }, expect: loaded("price") },
  price_with_exponent: { set: { price: "1.25e1" }, expect: loaded("price") },
  price_null: { set: { price: "null" }, expect: loaded("price") },
  price_missing: { set: { price: undefined }, expect: loaded("price") },
  stock_beyond_double: { set: { stock_quantity: "9007199254740993" }, expect: rejected("stock_quantity") },
  stock_beyond_bigint: { set: { stock_quantity: "18446744073709551617" }, expect: rejected("stock_quantity") },
  date_in_words: { set: { created_at: '"last Tuesday"' }, expect: rejected("created_at") },
  date_of_february_30: { set: { created_at: '"2024-02-30T00:00:00Z"' }, expect: rejected("created_at") },
  date_now: { set: { created_at: '"now"' }, expect: rejected("created_at") },
  name_with_nul: { set: { name: '"nul \\u0000 inside"' }, expect: rejected("name") },
  name_with_lone_surrogate: { set: { name: '"half \\ud83d pair"' }, expect: rejected("name") },
  name_with_invalid_utf8: {
    write: (fields) => {
      const text = Buffer.from(writeFields(new Map([...fields, ["name", '"bad @@ bytes"']])), "latin1");
      const at = text.indexOf("@@");
      // C0 80 is NUL in an encoding that UTF-8 forbids.
      text[at] = 0xc0;
      text[at + 1] = 0x80;
      return text;
    },
    expect: rejected("name"),
  },
  subcategory_too_long: { set: { subcategory: `"${"x".repeat(101)}"` }, expect: rejected("subcategory") },
  id_missing: { set: { id: undefined }, expect: rejected("id") },
  id_null: { set: { id: "null" }, expect: rejected("id") },
  /** Has the id of the document before it, which is a plain one; the later document wins. */
  id_duplicate: { expect: { outcome: "deduplicated" } },
  name_with_emoji: { set: { name: '"lamp 💡 \\ud83d\\udca1 ünïcödé"' }, expect: loaded("name") },
  name_with_escapes: { set: { name: '"a\\\\b \\"c\\" \\\\N \\\\. \\t d\\ne"' }, expect: loaded("name") },
  tags_with_delimiters: { set: { tags: '["a,b","{c}","d\\"e","f\\\\g","NULL",null,""]' }, expect: loaded("tags") },
  tags_as_scalar: { set: { tags: '"single"' }, expect: loaded("tags") },
  raw_tabs: {
    write: (fields) => Buffer.from(writeFields(fields).replaceAll('":', '"\t:\t').replace(/}$/, "\t\r}")),
    expect: loaded(),
  },
  comment: { write: (fields) => Buffer.from(writeFields(fields).replace("{", '{/* } " { */')), expect: loaded() },
  pretty_printed: {
    write: (fields) =>
      Buffer.from(
        writeFields(fields)
          .replaceAll(/([{,])"(\w+)":/g, '$1\n  "$2" : ')
          .replace(/}$/, "\n}"),
      ),
    alone: true,
    expect: loaded(),
  },
} as const satisfies Record<string, Dirt>;

export type DirtKind = keyof typeof dirtKinds;

/** How many documents hold one of each kind. */
export const dirtPeriod = 1000;

const kindNames = Object.keys(dirtKinds).filter((name): name is DirtKind => name in dirtKinds);
/** Kinds stand apart, so that the document before one of them is always plain. */
const dirtSpacing = Math.floor(dirtPeriod / kindNames.length);

/** The dirt of the document with this number; null for a plain one. */
export function dirtAt(number: number): DirtKind | null {
  const at = number % dirtPeriod;
  if (at % dirtSpacing !== dirtSpacing - 1) return null;
  return kindNames[Math.floor(at / dirtSpacing)] ?? null;
}

/** The default policies' verdict on a kind. */
export function expectedOutcome(kind: DirtKind): DirtOutcome {
  return dirtKinds[kind].expect;
}

/** Whether a document of this kind needs a request of its own. */
export function needsOwnRequest(kind: DirtKind | null): boolean {
  return kind !== null && "alone" in dirtKinds[kind];
}

/** The bytes of a document with this kind of dirt. */
export function dirtFor(kind: DirtKind, fields: Fields, idBefore: string): Buffer {
  const dirt: Dirt = dirtKinds[kind];
  if (dirt.write !== undefined) return dirt.write(fields);
  const dirty = new Map(fields);
  if (kind === "id_duplicate") dirty.set("id", `"${idBefore}"`);
  for (const [name, json] of Object.entries(dirt.set ?? {})) {
    if (json === undefined) dirty.delete(name);
    else dirty.set(name, json);
  }
  return Buffer.from(writeFields(dirty));
}
