import { dependencyReading, dependencyUp, type Gauge, jobReadings, keptJobs, type Metric } from "@es-to-pg/mcp-kit";
import type { StagingStore } from "@es-to-pg/staging";
import { errorCode } from "./load/database-error.ts";
import { openLedger } from "./load/ledger.ts";
import type { Postgres } from "./postgres/index.ts";

/** The attribute that tells the writer's connections from the reader's. */
const POOL = "db.client.connection.pool.name";
const STATE = "db.client.connection.state";

/** What there is to see of the connections. */
export const connectionMetrics = {
  count: {
    name: "db.client.connection.count",
    unit: "{connection}",
    description: "Connections to PostgreSQL, by pool and state",
    attributes: [POOL, STATE],
  },
  max: {
    name: "db.client.connection.max",
    unit: "{connection}",
    description: "Connections to PostgreSQL that a pool may have",
    attributes: [POOL],
  },
  pending: {
    name: "db.client.connection.pending_requests",
    unit: "{request}",
    description: "Calls that wait for a connection to PostgreSQL",
    attributes: [POOL],
  },
} as const satisfies Record<string, Metric>;

/** How long a look at PostgreSQL may take. */
const LOOK_TIMEOUT_MS = 8_000;

/** What the server shows of its connections, and where it lives long, of what it works with. */
export function gaugesOf(options: {
  postgres: Postgres;
  store: () => Promise<StagingStore>;
  stateSchema: string;
  /** A server on a pipe is one of many, and reaches for nothing before it is asked to. */
  livesLong: boolean;
}): Gauge[] {
  const { postgres, store, stateSchema, livesLong } = options;
  const pools: Gauge[] = [
    {
      metric: connectionMetrics.count,
      ttlMs: 0,
      read: () =>
        postgres.pools().flatMap(({ name, used, idle }) => [
          { value: used, attributes: { [POOL]: name, [STATE]: "used" } },
          { value: idle, attributes: { [POOL]: name, [STATE]: "idle" } },
        ]),
    },
    {
      metric: connectionMetrics.max,
      ttlMs: 0,
      read: () => postgres.pools().map(({ name, max }) => ({ value: max, attributes: { [POOL]: name } })),
    },
    {
      metric: connectionMetrics.pending,
      ttlMs: 0,
      read: () => postgres.pools().map(({ name, waiting }) => ({ value: waiting, attributes: { [POOL]: name } })),
    },
  ];
  if (!livesLong) return pools;
  return [
    ...pools,
    {
      metric: dependencyUp,
      read() {
        const signal = AbortSignal.timeout(LOOK_TIMEOUT_MS);
        return Promise.all([
          dependencyReading("postgresql", () =>
            postgres.read((tx) => tx.query("SELECT 1"), { signal, isUpkeep: true }),
          ),
          dependencyReading("staging", async () => (await store()).probe()),
        ]);
      },
    },
    {
      metric: keptJobs,
      read: async () => jobReadings("load", await loadsByState(postgres, stateSchema)),
    },
  ];
}

async function loadsByState(postgres: Postgres, stateSchema: string): Promise<Record<string, number>> {
  const limits = { signal: AbortSignal.timeout(LOOK_TIMEOUT_MS), timeoutMs: LOOK_TIMEOUT_MS, isUpkeep: true };
  try {
    return await postgres.write((tx) => openLedger(stateSchema).countByState(tx), limits);
  } catch (error) {
    // No state, no loads.
    if (errorCode(error) === "42P01") return {};
    throw error;
  }
}
