import { monitorEventLoopDelay, performance } from "node:perf_hooks";
import type { Gauge } from "./instruments.ts";
import { runtimeMetrics } from "./runtime-metrics.ts";

/** How often the delay of the event loop is sampled, in milliseconds. */
const SAMPLE_INTERVAL_MS = 20;

/** Gauges of the process itself. Their sampling costs a timer until `stop`. */
export function watchRuntime(): { gauges: Gauge[]; stop(): void } {
  const delay = monitorEventLoopDelay({ resolution: SAMPLE_INTERVAL_MS });
  delay.enable();
  let utilization = performance.eventLoopUtilization();
  const gauges: Gauge[] = [
    {
      metric: runtimeMetrics.delay,
      read() {
        const readings = [
          { value: seconds(delay.mean), attributes: { statistic: "mean" } },
          { value: seconds(delay.percentile(99)), attributes: { statistic: "p99" } },
          { value: seconds(delay.max), attributes: { statistic: "max" } },
        ];
        delay.reset();
        return readings;
      },
    },
    {
      metric: runtimeMetrics.utilization,
      read() {
        const now = performance.eventLoopUtilization();
        const { utilization: value } = performance.eventLoopUtilization(now, utilization);
        utilization = now;
        return [{ value }];
      },
    },
    {
      metric: runtimeMetrics.uptime,
      ttlMs: 0,
      read: () => [{ value: process.uptime() }],
    },
    {
      metric: runtimeMetrics.memory,
      read: () => [{ value: process.memoryUsage.rss() }],
    },
    {
      metric: runtimeMetrics.cpu,
      read() {
        const { user, system } = process.cpuUsage();
        return [
          { value: user / 1e6, attributes: { "cpu.mode": "user" } },
          { value: system / 1e6, attributes: { "cpu.mode": "system" } },
        ];
      },
    },
  ];
  return { gauges, stop: () => delay.disable() };
}

/** Before the first sample the mean is no number. */
function seconds(nanoseconds: number): number {
  return Number.isFinite(nanoseconds) ? nanoseconds / 1e9 : 0;
}
