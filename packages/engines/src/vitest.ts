import type { TestProject } from "vitest/node";
import { acquireEngines } from "./index.ts";

declare module "vitest" {
  interface ProvidedContext {
    elasticsearchUrl: string;
    databaseUrl: string;
  }
}

/** Vitest's global set-up of the integration project: one Elasticsearch and one PostgreSQL for the whole run. */
export default async function setup(project: TestProject): Promise<() => Promise<void>> {
  const engines = await acquireEngines();
  project.provide("elasticsearchUrl", engines.elasticsearchUrl);
  project.provide("databaseUrl", engines.databaseUrl);
  return () => engines.stop();
}
