/** Addresses of the engines that the demo and the tests use. */
export interface Engines {
  elasticsearchUrl: string;
  databaseUrl: string;
  /** Stops what was started, and only that. */
  stop(): Promise<void>;
}

/** Finds engines by `ELASTICSEARCH_URL` and `DATABASE_URL`. */
export async function acquireEngines(): Promise<Engines> {
  const elasticsearchUrl = process.env["ELASTICSEARCH_URL"];
  const databaseUrl = process.env["DATABASE_URL"];
  if (elasticsearchUrl === undefined || databaseUrl === undefined) {
    throw new Error("Set ELASTICSEARCH_URL and DATABASE_URL.");
  }
  return { elasticsearchUrl, databaseUrl, stop: async () => {} };
}
