import type { Settings, telemetrySettings } from "../settings.ts";

export type TelemetrySettings = Settings<typeof telemetrySettings>;

/** What of telemetry there is to do. */
export interface Configured {
  sendsTraces: boolean;
  sendsMetrics: boolean;
  servesMetrics: boolean;
}

/** What of telemetry the settings turn on; undefined where nothing is, and no library of it need be loaded. */
export function configuredTelemetry(settings: TelemetrySettings, transport: "stdio" | "http"): Configured | undefined {
  const { OTEL_EXPORTER_OTLP_ENDPOINT: both } = settings;
  const configured = {
    sendsTraces:
      settings.OTEL_TRACES_EXPORTER === "otlp" && (both ?? settings.OTEL_EXPORTER_OTLP_TRACES_ENDPOINT) !== undefined,
    sendsMetrics:
      settings.OTEL_METRICS_EXPORTER === "otlp" && (both ?? settings.OTEL_EXPORTER_OTLP_METRICS_ENDPOINT) !== undefined,
    // A process on a pipe has no port, and is one of many.
    servesMetrics: settings.MCP_METRICS && transport === "http",
  };
  return settings.OTEL_SDK_DISABLED || !Object.values(configured).includes(true) ? undefined : configured;
}
