import type { TestProject } from "vitest/node";
import { findPostgres } from "./given.ts";
import { startPostgresPackage } from "./postgres-package.ts";

/** Vitest's global set-up of projects that need no Elasticsearch: the PostgreSQL of `DATABASE_URL`, else one of the package. */
export default async function setup(project: TestProject): Promise<() => Promise<void>> {
  const postgres = (await findPostgres(process.env["DATABASE_URL"])) ?? (await startPostgresPackage());
  project.provide("databaseUrl", postgres.url);
  return () => postgres.stop();
}
