import { type GenerateOptions, seedProducts } from "@es-to-pg/seed";
import { Caller, exportIndex, loadExport } from "../course.ts";
import type { FoundDocument, Place } from "./place.ts";

/** The columns that hold a product as it is. */
export const productColumns = `
  id text PRIMARY KEY, name text, category text, subcategory text, brand text, price numeric(10,2), description text,
  stock_quantity integer, created_at timestamptz, ratings numeric(3,2), reviews_count integer, tags text[]`;

/** Fills the index `products`: generated documents, or without a count the fifteen. */
export async function fillProducts(place: Place, generate?: GenerateOptions): Promise<void> {
  const { elasticsearchUrl } = place;
  const index = place.index("products");
  await seedProducts({ elasticsearchUrl, index, ...(generate === undefined ? {} : { generate }) });
}

/** A table of somebody else, which no task is about. */
export async function createCustomers(place: Place): Promise<void> {
  await place.sql("CREATE SCHEMA IF NOT EXISTS shop");
  await place.sql("CREATE TABLE shop.customers (id integer PRIMARY KEY, name text NOT NULL)");
  await place.sql("INSERT INTO shop.customers SELECT n, 'Customer ' || n FROM generate_series(1, 50) AS n");
}

/** A product as `selectProducts` gives it. */
export function productRow({ source }: FoundDocument): Record<string, unknown> {
  return { ...source, created_at: Date.parse(String(source["created_at"])) };
}

/** Rows of a table of products; the same moment reads differently on both sides, as a number it does not. */
export function selectProducts(table: string): string {
  return `SELECT id, name, category, subcategory, brand, price::numeric, description, stock_quantity::bigint,
    (extract(epoch FROM created_at) * 1000)::bigint AS created_at, ratings::numeric, reviews_count::bigint, tags
    FROM ${table}`;
}

/** What somebody did before: exports `products` and loads it into a table; the handles get names. */
export async function loadBefore(place: Place, table: string): Promise<void> {
  const caller = new Caller({});
  const exported = await exportIndex(caller, place.sessions["es-mcp"], place.index("products"));
  const load = await loadExport(caller, place.sessions["pg-mcp"], { table, export_id: exported.export_id });
  place.names.set("export", exported.export_id).set("load", load.load_id);
}
