import {
  AggregationTemporality,
  InMemoryMetricExporter,
  InstrumentType,
  MeterProvider,
} from "@opentelemetry/sdk-metrics";
import { expect, test } from "vitest";
import type { Gauge } from "./instruments.ts";
import { Meters } from "./meters.ts";
import { ofTheMoment, ScrapeReader } from "./readers.ts";

const metric = { name: "jobs", unit: "{job}", description: "Jobs", attributes: ["state"] };

test("leaves a gauge out while it cannot be read, and shows it again", async () => {
  const reader = new ScrapeReader();
  const provider = new MeterProvider({ readers: [reader] });
  const meters = new Meters(provider.getMeter("test"), []);
  let isDown = false;
  const read: Gauge["read"] = async () => {
    if (isDown) throw new Error("the database is down");
    return [{ value: 3, attributes: { state: "working", id: "no attribute of the metric" } }];
  };
  meters.watch([{ metric, ttlMs: 0, read }]);
  const seen = async () => {
    const { resourceMetrics } = await reader.collect();
    return resourceMetrics.scopeMetrics
      .flatMap(({ metrics }) => metrics)
      .flatMap(({ dataPoints }) => dataPoints.map(({ value, attributes }) => [value, attributes]));
  };
  expect(await seen()).toEqual([[3, { state: "working" }]]);
  isDown = true;
  expect(await seen()).toEqual([]);
  isDown = false;
  expect(await seen()).toEqual([[3, { state: "working" }]]);
  meters.stop();
  await provider.shutdown();
});

test("pushes counters as the exporter does, and gauges of the moment", () => {
  const exporter = ofTheMoment(new InMemoryMetricExporter(AggregationTemporality.CUMULATIVE));
  const { COUNTER, HISTOGRAM, OBSERVABLE_COUNTER, OBSERVABLE_GAUGE } = InstrumentType;
  const ofTypes = [COUNTER, HISTOGRAM, OBSERVABLE_COUNTER, OBSERVABLE_GAUGE].map((type) =>
    exporter.selectAggregationTemporality(type),
  );
  const { CUMULATIVE, DELTA } = AggregationTemporality;
  expect(ofTypes).toEqual([CUMULATIVE, CUMULATIVE, CUMULATIVE, DELTA]);
});
