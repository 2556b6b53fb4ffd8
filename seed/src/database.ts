import { Client } from "pg";
import { readData } from "./data.ts";

const databaseName = "transformation_db";

/** Creates the database `transformation_db` unless it is there, and returns its URL. */
export async function createSampleDatabase(databaseUrl: string): Promise<string> {
  await withClient(databaseUrl, async (client) => {
    const { rowCount } = await client.query("SELECT FROM pg_database WHERE datname = $1", [databaseName]);
    if (rowCount === 0) await client.query(`CREATE DATABASE ${databaseName} ENCODING 'UTF8' TEMPLATE template0`);
  });
  const url = new URL(databaseUrl);
  url.pathname = `/${databaseName}`;
  return url.href;
}

/** Creates the table `products` of `data/products.sql` unless it is there. */
export async function createProductsTable(databaseUrl: string, schema = "public"): Promise<void> {
  await withClient(databaseUrl, async (client) => {
    await client.query("SELECT set_config('search_path', quote_ident($1), false)", [schema]);
    await client.query(await readData("products.sql"));
  });
}

async function withClient(connectionString: string, work: (client: Client) => Promise<void>): Promise<void> {
  const client = new Client({ connectionString, connectionTimeoutMillis: 8_000 });
  await client.connect();
  try {
    await work(client);
  } finally {
    await client.end();
  }
}
