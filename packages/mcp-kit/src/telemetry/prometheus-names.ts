import type { ResourceMetrics } from "@opentelemetry/sdk-metrics";
import type { Gauge, Instrument } from "./instruments.ts";

/** Units that Prometheus's names spell out. Others, those in braces, are what is counted and part of the name already. */
const UNIT_SUFFIXES: Readonly<Record<string, string>> = { s: "_seconds", By: "_bytes", "1": "_ratio" };

/** The name of a metric in Prometheus, whether it is scraped or comes there by OTLP. */
export function prometheusName(metric: Gauge["metric"] | Instrument): string {
  const grows = "kind" in metric ? metric.kind === "counter" : metric.grows === true;
  return `${metric.name.replaceAll(".", "_")}${UNIT_SUFFIXES[metric.unit] ?? ""}${grows ? "_total" : ""}`;
}

/**
 * The metrics with their units at the end of their names, as they are called in Prometheus when they come there by OTLP.
 * The exporter leaves it out, and one dashboard could not show both ways.
 */
export function withPrometheusNames(metrics: ResourceMetrics): ResourceMetrics {
  return {
    resource: metrics.resource,
    scopeMetrics: metrics.scopeMetrics.map(({ scope, metrics: ofScope }) => ({
      scope,
      metrics: ofScope.map((metric) => ({
        ...metric,
        descriptor: {
          ...metric.descriptor,
          name: metric.descriptor.name + (UNIT_SUFFIXES[metric.descriptor.unit] ?? ""),
          // As a comment of its own the unit would belong to another format than the one that is written.
          unit: "",
        },
      })),
    })),
  };
}
