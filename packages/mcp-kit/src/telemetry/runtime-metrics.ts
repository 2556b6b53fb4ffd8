import type { Gauge } from "./instruments.ts";

/** What there is to see of the process itself, under the names that OpenTelemetry gives it. */
export const runtimeMetrics = {
  delay: {
    name: "nodejs.eventloop.delay",
    unit: "s",
    description: "Delay of the event loop since the last look: mean, 99th percentile, longest",
    attributes: ["statistic"],
  },
  utilization: {
    name: "nodejs.eventloop.utilization",
    unit: "1",
    description: "Share of the time since the last look in which the event loop was at work",
    attributes: [],
  },
  uptime: {
    name: "process.uptime",
    unit: "s",
    description: "Time since the start of the process",
    attributes: [],
  },
  memory: {
    name: "process.memory.usage",
    unit: "By",
    description: "Resident memory of the process",
    attributes: [],
  },
  cpu: {
    name: "process.cpu.time",
    unit: "s",
    grows: true,
    description: "CPU time that the process has used since its start",
    attributes: ["cpu.mode"],
  },
} as const satisfies Record<string, Gauge["metric"]>;
