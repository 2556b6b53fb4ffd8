import { randomBytes } from "node:crypto";
import { createProductsTable } from "@es-to-pg/seed";
import { Client } from "pg";

/** A table `products` in a schema of its own, and what a benchmark does to it between contenders. */
export interface Target {
  schema: string;
  stateSchema: string;
  /** Makes the table empty and what was written before durable, so that nobody pays for another's pages. */
  empty(): Promise<void>;
  /** Throws unless the table holds this many rows, and the same ones as the first time it was full. */
  check(rows: number, expected: number): Promise<void>;
  remove(): Promise<void>;
}

/** Creates the schema and the table. */
export async function openTarget(databaseUrl: string): Promise<Target> {
  const schema = `bench_${randomBytes(5).toString("hex")}`;
  const stateSchema = `${schema}_state`;
  const client = new Client({ connectionString: databaseUrl });
  await client.connect();
  await client.query(`CREATE SCHEMA ${schema}`);
  await createProductsTable(databaseUrl, schema);
  let digest: string | undefined;
  return {
    schema,
    stateSchema,
    async empty() {
      await client.query(`TRUNCATE ${schema}.products`);
      // Only a role that may checkpoint can; the others' figures are a little rougher.
      await client.query("CHECKPOINT").catch(() => {});
    },
    async check(rows, expected) {
      const { rows: found } = await client.query<{ rows: string; digest: string }>(
        `SELECT count(*) AS rows, sum(hashtextextended(products::text, 0)::numeric) AS digest FROM ${schema}.products`,
      );
      const [answer] = found;
      if (Number(answer?.rows) !== rows) throw new Error(`the table has ${answer?.rows} rows, not ${rows}`);
      if (rows !== expected) return;
      digest ??= answer?.digest;
      if (digest !== answer?.digest) throw new Error("the table holds other rows than after the first contender");
    },
    async remove() {
      await client.query(`DROP SCHEMA IF EXISTS ${schema}, ${stateSchema} CASCADE`);
      await client.end();
    },
  };
}
