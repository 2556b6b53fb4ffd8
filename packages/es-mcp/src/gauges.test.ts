import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { readSettings } from "@es-to-pg/mcp-kit";
import { openStore } from "@es-to-pg/staging";
import { expect, test } from "vitest";
import { esSettings } from "./config.ts";
import { createElasticsearch } from "./elasticsearch/gateway.ts";
import { gaugesOf, stagingMetrics } from "./gauges.ts";

test("asks once for what staging takes, however many gauges of a scrape show it, and anew for the next", async () => {
  const directory = await mkdtemp(join(tmpdir(), "es-mcp-gauges-"));
  try {
    const store = await openStore({ url: pathToFileURL(directory).href, bytesMax: 1_000_000 });
    let asked = 0;
    const counting = Object.assign(Object.create(store), {
      root: store.root,
      usage: () => {
        asked += 1;
        return store.usage();
      },
    });
    const gauges = gaugesOf(createElasticsearch(readSettings(esSettings, {})), async () => counting);
    const scrape = () =>
      Promise.all(
        [stagingMetrics.usage, stagingMetrics.limit].map(async (metric) => {
          const gauge = gauges.find((candidate) => candidate.metric === metric);
          if (gauge === undefined) throw new Error(`no gauge ${metric.name}`);
          return await gauge.read();
        }),
      );
    expect(await scrape()).toEqual([[{ value: 0 }], [{ value: 1_000_000 }]]);
    expect(asked).toBe(1);
    await scrape();
    expect(asked).toBe(2);
  } finally {
    await rm(directory, { recursive: true, force: true });
  }
});
