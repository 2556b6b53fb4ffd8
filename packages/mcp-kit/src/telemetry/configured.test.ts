import { expect, test } from "vitest";
import { kitSettings, readSettings } from "../settings.ts";
import { configuredTelemetry } from "./configured.ts";

const endpoint = "http://collector:4318";

test.each([
  ["nothing by itself", {}, "http", undefined],
  ["traces and metrics to one endpoint", { OTEL_EXPORTER_OTLP_ENDPOINT: endpoint }, "stdio", [true, true, false]],
  ["traces alone", { OTEL_EXPORTER_OTLP_TRACES_ENDPOINT: endpoint }, "http", [true, false, false]],
  ["metrics alone", { OTEL_EXPORTER_OTLP_METRICS_ENDPOINT: endpoint }, "http", [false, true, false]],
  ["metrics that are read", { MCP_METRICS: "on" }, "http", [false, false, true]],
  ["no metrics that are read on a pipe", { MCP_METRICS: "on" }, "stdio", undefined],
  [
    "metrics alone where no traces are wanted",
    { OTEL_EXPORTER_OTLP_ENDPOINT: endpoint, OTEL_TRACES_EXPORTER: "none" },
    "stdio",
    [false, true, false],
  ],
  [
    "nothing where neither is wanted",
    { OTEL_EXPORTER_OTLP_ENDPOINT: endpoint, OTEL_TRACES_EXPORTER: "none", OTEL_METRICS_EXPORTER: "none" },
    "stdio",
    undefined,
  ],
  [
    "nothing where it is disabled",
    { OTEL_EXPORTER_OTLP_ENDPOINT: endpoint, MCP_METRICS: "on", OTEL_SDK_DISABLED: "true" },
    "http",
    undefined,
  ],
] as const)("turns on %s", (_what, env, transport, expected) => {
  const configured = configuredTelemetry(readSettings(kitSettings, env), transport);
  expect(configured && Object.values(configured)).toEqual(expected);
});
