import { randomBytes } from "node:crypto";
import { Client } from "pg";
import { connectionFromUrl } from "../src/config.ts";
import { openPostgres, type Postgres } from "../src/postgres/index.ts";

/** A database of its own for one test file, with a plain client beside the code under test. */
export interface TestDatabase {
  name: string;
  url: string;
  postgres: Postgres;
  /** Runs as the superuser that made the database, without the code under test. */
  admin: Client;
  drop(): Promise<void>;
}

export function randomName(prefix: string): string {
  return `${prefix}_${randomBytes(6).toString("hex")}`;
}

export async function createDatabase(databaseUrl: string, setup: string): Promise<TestDatabase> {
  const name = randomName("pgq");
  const server = new Client({ connectionString: databaseUrl });
  await server.connect();
  await server.query(`CREATE DATABASE ${name}`);
  const url = databaseUrl.replace(/\/[^/?]*(\?|$)/, `/${name}$1`);
  const admin = new Client({ connectionString: url });
  await admin.connect();
  await admin.query(setup);
  const postgres = openPostgres({ writer: connectionFromUrl(url) });
  return {
    name,
    url,
    postgres,
    admin,
    async drop() {
      await postgres.close();
      await admin.end();
      await server.query(`DROP DATABASE ${name} WITH (FORCE)`);
      await server.end();
    },
  };
}
