import { statfs } from "node:fs/promises";
import { dependencyReading, dependencyUp, type Gauge, jobReadings, keptJobs, type Metric } from "@es-to-pg/mcp-kit";
import type { StagingStore } from "@es-to-pg/staging";
import type { Elasticsearch } from "./elasticsearch/elasticsearch.ts";

/** What there is to see of staging. */
export const stagingMetrics = {
  usage: { name: "etl.staging.usage", unit: "By", description: "Bytes of all staged exports", attributes: [] },
  limit: {
    name: "etl.staging.limit",
    unit: "By",
    description: "Bytes that staged exports can take: by `STAGING_BYTES_MAX`, or by what the disk has left",
    attributes: [],
  },
} as const satisfies Record<string, Metric>;

/** How long a look at Elasticsearch may take. */
const LOOK_TIMEOUT_MS = 8_000;

/** Manifests are read from a disk that may be far away. */
const STAGING_TTL_MS = 15_000;

/** What a server that lives long shows of what it works with. */
export function gaugesOf(elasticsearch: Elasticsearch, store: () => Promise<StagingStore>): Gauge[] {
  const usage = onceForAll(async () => (await store()).usage());
  return [
    {
      metric: dependencyUp,
      read: () =>
        Promise.all([
          dependencyReading("elasticsearch", () =>
            elasticsearch.clusterUuid({ signal: AbortSignal.timeout(LOOK_TIMEOUT_MS) }),
          ),
          dependencyReading("staging", async () => (await store()).probe()),
        ]),
    },
    {
      metric: keptJobs,
      ttlMs: STAGING_TTL_MS,
      read: async () => jobReadings("export", await exportsByState(await store())),
    },
    {
      metric: stagingMetrics.usage,
      ttlMs: STAGING_TTL_MS,
      read: async () => [{ value: (await usage()).bytes }],
    },
    {
      metric: stagingMetrics.limit,
      ttlMs: STAGING_TTL_MS,
      async read() {
        const { root } = await store();
        const [{ bytes, bytesMax }, { bavail, bsize }] = await Promise.all([usage(), statfs(root)]);
        return [{ value: Math.min(bytes + bavail * bsize, bytesMax ?? Number.POSITIVE_INFINITY) }];
      },
    },
  ];
}

/** Does the work once for all who ask while it is being done: the gauges of one scrape are read side by side. */
function onceForAll<T>(work: () => Promise<T>): () => Promise<T> {
  let working: Promise<T> | undefined;
  return () => {
    working ??= work().finally(() => {
      working = undefined;
    });
    return working;
  };
}

async function exportsByState(store: StagingStore): Promise<Record<string, number>> {
  const { working, ended } = await store.survey();
  const stalled = working.filter((manifest) => store.isStalled(manifest)).length;
  return { ...ended, working: working.length - stalled, stalled };
}
