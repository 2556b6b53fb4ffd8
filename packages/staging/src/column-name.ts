import { Buffer } from "node:buffer";
import { createHash } from "node:crypto";

/** PostgreSQL cuts identifiers at this many bytes (NAMEDATALEN - 1). */
const NAME_BYTES_MAX = 63;

/** Letters that Unicode decomposition leaves as they are. */
const LETTERS: Readonly<Record<string, string>> = {
  ß: "ss",
  æ: "ae",
  œ: "oe",
  ø: "o",
  đ: "d",
  ð: "d",
  þ: "th",
  ł: "l",
  ı: "i",
};

/** Words that PostgreSQL takes as a column's name only when quoted; with a suffix nobody has to remember that. */
const RESERVED = new Set(
  `all analyse analyze and any array as asc asymmetric authorization binary both case cast check collate collation
  column concurrently constraint create cross current_catalog current_date current_role current_schema current_time
  current_timestamp current_user default deferrable desc distinct do else end except false fetch for foreign freeze
  from full grant group having ilike in initially inner intersect into is isnull join lateral leading left like limit
  localtime localtimestamp natural not notnull null offset on only or order outer overlaps placing primary references
  returning right select session_user similar some symmetric system_user table tablesample then to trailing true
  union unique user using variadic verbose when where window with cmax cmin ctid tableoid xmax xmin`.split(/\s+/),
);

/** What a line of a part says of its document beside `_source`; the names are legal columns as they are. */
const DOCUMENT_META = new Set(["_id", "_index", "_routing", "_seq_no", "_primary_term"]);

/** A column name for a document path: lower snake case, legal without quotes, at most 63 bytes. */
export function proposeColumnName(path: string): string {
  if (DOCUMENT_META.has(path)) return path;
  const words = path
    // orderID -> order_ID, HTTPStatus -> HTTP_Status
    .replace(/(\p{Ll}|\p{Nd})(\p{Lu})/gu, "$1_$2")
    .replace(/(\p{Lu})(\p{Lu}\p{Ll})/gu, "$1_$2")
    .toLowerCase()
    .normalize("NFKD")
    // Accents go from Latin letters only: a mark of another script makes another letter.
    .replace(/(\p{Script=Latin})\p{M}+/gu, "$1")
    .normalize("NFC")
    .replace(/[ßæœøđðþłı]/g, (letter) => LETTERS[letter] ?? letter)
    .replace(/[^\p{L}\p{M}\p{Nd}]+/gu, "_")
    .replace(/^[_\p{M}]+|_+$/gu, "");
  let name = words === "" ? "field" : words;
  if (/^\p{Nd}/u.test(name)) name = `_${name}`;
  if (RESERVED.has(name)) name = `${name}_`;
  return clipName(name, path);
}

/** Clips at 63 bytes. A digest of the path keeps two long paths apart that differ only at their ends. */
function clipName(name: string, path: string): string {
  if (Buffer.byteLength(name) <= NAME_BYTES_MAX) return name;
  const suffix = `_${createHash("sha256").update(path).digest("hex").slice(0, 8)}`;
  let head = "";
  for (const character of name) {
    if (Buffer.byteLength(head + character) > NAME_BYTES_MAX - suffix.length) break;
    head += character;
  }
  return head.replace(/_+$/, "") + suffix;
}
