import { type DirtKind, dirtAt, dirtFor } from "./dirt.ts";
import { type Fields, writeFields } from "./fields.ts";

/** One document as it goes to Elasticsearch. */
export interface SeedDocument {
  /** Its `_id`. */
  id: string;
  /** The bytes of `_source`, kept as they are: a JSON library would repair half of the dirt. */
  source: Buffer;
  /** What is wrong or unusual with it; null for a plain document. */
  dirt: DirtKind | null;
}

/** What the generator depends on, and nothing else: equal options give equal bytes. */
export interface GenerateOptions {
  count: number;
  /** Mixes one document of each kind of dirt into every thousand. */
  dirty?: boolean;
  seed?: number;
}

const categories: readonly (readonly [string, readonly string[]])[] = [
  ["Electronics", ["Audio", "Displays", "Peripherals", "Cameras"]],
  ["Home", ["Kitchen", "Lighting", "Bedroom", "Garden"]],
  ["Sports", ["Running", "Fitness", "Cycling", "Climbing"]],
  ["Outdoor", ["Backpacks", "Camping", "Accessories"]],
  ["Books", ["Computing", "Fiction", "Travel"]],
];
const brands = ["Sonara", "Lumenix", "Tactila", "Ridgeline", "Ferrum", "Flax", "Nordkamp", "Thermoss", "Cedarwood"];
const adjectives = ["Compact", "Wireless", "Classic", "Foldable", "Insulated", "Solid", "Quiet", "Modular"];
const nouns = ["Speaker", "Lamp", "Keyboard", "Backpack", "Skillet", "Bottle", "Monitor", "Jacket"];
const words =
  "made for long days of light work with a case that lasts and parts you can replace at home in a minute".split(" ");
const tags = ["new", "sale", "wireless", "eco", "handmade", "premium", "outdoor", "gift", "limited", "bestseller"];

/** Makes `count` products of about 400 bytes each, one at a time. */
export function* generateDocuments({ count, dirty = false, seed = 1 }: GenerateOptions): Generator<SeedDocument> {
  for (let number = 0; number < count; number++) yield generateDocument(number, { dirty, seed });
}

/** Makes the document of one number, so that a test can say what any row must be. */
export function generateDocument(number: number, { dirty, seed }: { dirty: boolean; seed: number }): SeedDocument {
  const fields = plainFields(number, seed);
  const dirt = dirty ? dirtAt(number) : null;
  if (dirt !== null) return { id: productId(number), source: dirtFor(dirt, fields, productId(number - 1)), dirt };
  return { id: productId(number), source: Buffer.from(writeFields(fields)), dirt: null };
}

/** The `_id` and, unless dirt says otherwise, the `id` of a generated product. */
export function productId(number: number): string {
  return `P${String(number).padStart(9, "0")}`;
}

function plainFields(number: number, seed: number): Fields {
  const random = randomOf(Math.imul(number + 1, 0x9e37_79b1) ^ Math.imul(seed, 0x85eb_ca6b));
  const below = (limit: number): number => Math.floor(random() * limit);
  const pick = <T>(from: readonly T[]): T => {
    const picked = from[below(from.length)];
    if (picked === undefined) throw new Error("nothing to pick from");
    return picked;
  };
  const [category, subcategories] = pick(categories);
  const brand = pick(brands);
  const description = Array.from({ length: 24 }, () => pick(words)).join(" ");
  const cents = 100 + below(99_900);
  const created = new Date(Date.UTC(2023, 0, 1) + below(63_072_000) * 1000).toISOString();
  const rating = 100 + below(401);
  return new Map([
    ["id", `"${productId(number)}"`],
    ["name", `"${brand} ${pick(adjectives)} ${pick(nouns)} ${below(1000)}"`],
    ["category", `"${category}"`],
    ["subcategory", `"${pick(subcategories)}"`],
    ["brand", `"${brand}"`],
    ["price", hundredths(cents)],
    ["description", `"${description}."`],
    ["stock_quantity", String(below(1000))],
    ["created_at", `"${created}"`],
    ["ratings", hundredths(rating)],
    ["reviews_count", String(below(5000))],
    ["tags", `["${pick(tags)}","${pick(tags)}","${pick(tags)}"]`],
  ]);
}

function hundredths(value: number): string {
  return `${Math.floor(value / 100)}.${String(value % 100).padStart(2, "0")}`;
}

/** mulberry32: small, fast, and the same on every machine. */
function randomOf(seed: number): () => number {
  let state = seed | 0;
  return () => {
    state = (state + 0x6d2b_79f5) | 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 4_294_967_296;
  };
}
