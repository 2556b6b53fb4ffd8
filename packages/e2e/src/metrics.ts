import {
  callDuration,
  databaseDuration,
  dependencyUp,
  type Gauge,
  type Instrument,
  keptJobs,
  prometheusName,
  runtimeMetrics,
  toolErrors,
} from "@es-to-pg/mcp-kit";
import { instruments as esInstruments } from "es-mcp/dist/export/telemetry.js";
import { stagingMetrics } from "es-mcp/dist/gauges.js";
import { connectionMetrics } from "pg-mcp/dist/gauges.js";
import { instruments as pgInstruments } from "pg-mcp/dist/load/telemetry.js";

type AnyMetric = Instrument | Gauge["metric"];

/** Every metric there is, and which of the servers shows it. */
const metrics: readonly { metric: AnyMetric; shownBy: string }[] = [
  ...[callDuration, toolErrors, databaseDuration, dependencyUp, keptJobs].map((metric) => ({
    metric,
    shownBy: "both",
  })),
  ...esInstruments.map((metric) => ({ metric, shownBy: isOfBoth(metric) ? "both" : "es-mcp" })),
  ...Object.values(stagingMetrics).map((metric) => ({ metric, shownBy: "es-mcp" })),
  ...pgInstruments.filter((metric) => !isOfBoth(metric)).map((metric) => ({ metric, shownBy: "pg-mcp" })),
  ...Object.values(connectionMetrics).map((metric) => ({ metric, shownBy: "pg-mcp" })),
  ...Object.values(runtimeMetrics).map((metric) => ({ metric, shownBy: "both" })),
];

function isOfBoth({ name }: Instrument): boolean {
  return [esInstruments, pgInstruments].every((ofOne) => ofOne.some((metric) => metric.name === name));
}

/** Names of all series in Prometheus, with those that a histogram is made of. */
export function seriesNames(): Set<string> {
  return new Set(
    metrics.flatMap(({ metric }) => {
      const name = prometheusName(metric);
      const isHistogram = "kind" in metric && metric.kind === "histogram";
      return isHistogram ? ["_bucket", "_sum", "_count"].map((suffix) => name + suffix) : [name];
    }),
  );
}

/** The metrics as a Markdown table. */
export function metricsTable(): string {
  const rows = metrics.map(({ metric, shownBy }) => {
    const labels = metric.attributes.map((name) => `\`${name.replaceAll(".", "_")}\``).join(", ");
    return `| \`${prometheusName(metric)}\` | ${labels} | ${shownBy} | ${metric.description} |`;
  });
  return ["| in Prometheus | labels | server | what it is |", "|---|---|---|---|", ...rows].join("\n");
}
