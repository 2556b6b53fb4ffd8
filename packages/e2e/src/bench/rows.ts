import { createReadStream } from "node:fs";
import { createInterface } from "node:readline";

/** The columns of the target table, as in `seed/data/products.sql`. */
export const columns = [
  "id",
  "name",
  "category",
  "subcategory",
  "brand",
  "price",
  "description",
  "stock_quantity",
  "created_at",
  "ratings",
  "reviews_count",
  "tags",
] as const;

/** A product as JSON.parse gives it. */
export type Product = Record<(typeof columns)[number], unknown>;

/** The statement that stores new rows and overwrites old ones. */
export function upsert(table: string, source: string): string {
  const names = columns.join(", ");
  const assignments = columns
    .slice(1)
    .map((column) => `${column} = excluded.${column}`)
    .join(", ");
  return `INSERT INTO ${table} (${names}) ${source} ON CONFLICT (id) DO UPDATE SET ${assignments}`;
}

/** The documents of staged parts, parsed one by one. */
export async function* parsedDocuments(parts: readonly string[]): AsyncGenerator<{ document: Product; bytes: number }> {
  for (const part of parts) {
    for await (const line of createInterface({ input: createReadStream(part), crlfDelay: Infinity })) {
      const { _source }: { _source: Product } = JSON.parse(line);
      yield { document: _source, bytes: line.length };
    }
  }
}

/** A document as a line of COPY text, by the coercions that a careful script has. */
export function copyLine(document: Product): string {
  return `${columns.map((column) => copyValue(document[column])).join("\t")}\n`;
}

function copyValue(value: unknown): string {
  if (value === null || value === undefined) return "\\N";
  if (Array.isArray(value)) return escapeCopy(arrayLiteral(value));
  if (typeof value === "string") return escapeCopy(value);
  return escapeCopy(JSON.stringify(value));
}

function escapeCopy(text: string): string {
  return /[\\\n\r\t]/.test(text) ? text.replace(/[\\\n\r\t]/g, (character) => copyEscapes[character] ?? "") : text;
}
const copyEscapes: Record<string, string> = { "\\": "\\\\", "\n": "\\n", "\r": "\\r", "\t": "\\t" };

/** Elements as PostgreSQL reads them in an array's text. */
function arrayLiteral(values: readonly unknown[]): string {
  const elements = values.map((value) =>
    value === null ? "NULL" : `"${textOf(value).replace(/["\\]/g, (character) => `\\${character}`)}"`,
  );
  return `{${elements.join(",")}}`;
}

function textOf(value: unknown): string {
  return typeof value === "string" ? value : JSON.stringify(value);
}
