import { AsyncLocalStorage } from "node:async_hooks";
import { randomUUID } from "node:crypto";
import { type Context, DiagLogLevel, diag, ROOT_CONTEXT, SpanKind, SpanStatusCode, trace } from "@opentelemetry/api";
import { suppressTracing, W3CTraceContextPropagator } from "@opentelemetry/core";
import { PrometheusSerializer } from "@opentelemetry/exporter-prometheus";
import { detectResources, envDetector, type Resource, resourceFromAttributes } from "@opentelemetry/resources";
import { type IMetricReader, MeterProvider, PeriodicExportingMetricReader } from "@opentelemetry/sdk-metrics";
import {
  AlwaysOffSampler,
  AlwaysOnSampler,
  BatchSpanProcessor,
  ParentBasedSampler,
  type Sampler,
  TraceIdRatioBasedSampler,
  TracerProvider,
} from "@opentelemetry/sdk-trace";
import type { Logger } from "../log.ts";
import { complaintsTo } from "./complaints.ts";
import type { Configured, TelemetrySettings } from "./configured.ts";
import { failureOf } from "./failure.ts";
import type { Gauge, Instrument } from "./instruments.ts";
import { Meters } from "./meters.ts";
import { type Operation, operations, quietWork, type TraceParent } from "./operation.ts";
import { withPrometheusNames } from "./prometheus-names.ts";
import { ofTheMoment, ScrapeReader } from "./readers.ts";
import { watchRuntime } from "./runtime.ts";

/** How much of an attribute's text is kept: names of the databases are data, and may be long. */
const ATTRIBUTE_CHARACTERS_MAX = 200;

/** Time that one push may take. A collector that is down must not make spans pile up for long. */
const PUSH_TIMEOUT_MS = 5_000;

/** Telemetry that is on. */
export interface Telemetry {
  /** Lets the gauges of the server be seen, which is open by then. */
  watch(gauges: readonly Gauge[]): void;
  /** Ids of the running span, for log lines. */
  traceIds(): Record<string, string>;
  /** All metrics in Prometheus's text format; undefined where they are not served. */
  metricsText: (() => Promise<string>) | undefined;
  /** Sends what has gathered and stops, within `durationMs`. */
  stop(durationMs: number): Promise<void>;
}

/** Turns telemetry on for the whole process: from here on what is told on the channels becomes spans and metrics. */
export async function startTelemetry(options: {
  service: { name: string; version: string };
  instruments: readonly Instrument[];
  settings: TelemetrySettings;
  configured: Configured;
  logger: Logger;
}): Promise<Telemetry> {
  const { service, settings, configured, logger } = options;
  diag.setLogger(complaintsTo(logger), DiagLogLevel.WARN);
  const resource = resourceOf(service);
  const { sendsTraces, sendsMetrics } = configured;
  const exporters = sendsTraces || sendsMetrics ? await exportersOf(settings) : undefined;
  const tracing =
    sendsTraces && exporters !== undefined ? startTracing(service, resource, exporters.traces(), settings) : undefined;
  const reader = configured.servesMetrics ? new ScrapeReader() : undefined;
  const readers: IMetricReader[] = reader === undefined ? [] : [reader];
  if (sendsMetrics && exporters !== undefined) {
    const exportIntervalMillis = settings.OTEL_METRIC_EXPORT_INTERVAL;
    readers.push(
      new PeriodicExportingMetricReader({
        exporter: ofTheMoment(exporters.metrics()),
        exportIntervalMillis,
        exportTimeoutMillis: Math.min(PUSH_TIMEOUT_MS, exportIntervalMillis),
      }),
    );
  }
  const provider = new MeterProvider({ resource, readers });
  const meters = new Meters(provider.getMeter(service.name, service.version), options.instruments);
  const runtime = readers.length === 0 ? undefined : watchRuntime();
  meters.watch(runtime?.gauges ?? []);
  return {
    watch: (gauges) => meters.watch(gauges),
    traceIds: () => tracing?.traceIds() ?? {},
    metricsText: reader === undefined ? undefined : () => textOf(reader),
    async stop(durationMs) {
      tracing?.stopListening();
      meters.stop();
      const { promise: late, resolve } = Promise.withResolvers<void>();
      const timer = setTimeout(resolve, durationMs);
      await Promise.race([Promise.allSettled([tracing?.provider.shutdown(), provider.shutdown()]), late]);
      clearTimeout(timer);
      runtime?.stop();
    },
  };
}

function resourceOf({ name, version }: { name: string; version: string }): Resource {
  return resourceFromAttributes({
    "service.name": name,
    "service.version": version,
    "service.instance.id": randomUUID(),
    "process.runtime.name": "nodejs",
    "process.runtime.version": process.versions.node,
    "telemetry.sdk.language": "nodejs",
    "telemetry.sdk.name": "opentelemetry",
    // OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES have the last word.
  }).merge(detectResources({ detectors: [envDetector] }));
}

/** The exporters read what else there is of `OTEL_EXPORTER_OTLP_*` by themselves. */
async function exportersOf(settings: TelemetrySettings) {
  const [traces, metrics] =
    settings.OTEL_EXPORTER_OTLP_PROTOCOL === "http/json"
      ? await Promise.all([
          import("@opentelemetry/exporter-trace-otlp-http"),
          import("@opentelemetry/exporter-metrics-otlp-http"),
        ])
      : await Promise.all([
          import("@opentelemetry/exporter-trace-otlp-proto"),
          import("@opentelemetry/exporter-metrics-otlp-proto"),
        ]);
  // The secret can have come by a file, of which the exporters know nothing.
  const headers = headersOf(settings.OTEL_EXPORTER_OTLP_HEADERS);
  const options = { timeoutMillis: PUSH_TIMEOUT_MS, ...(headers === undefined ? {} : { headers }) };
  return {
    traces: () => new traces.OTLPTraceExporter(options),
    metrics: () => new metrics.OTLPMetricExporter(options),
  };
}

function headersOf(text: string | undefined): Record<string, string> | undefined {
  if (text === undefined) return undefined;
  return Object.fromEntries(
    text.split(",").map((pair) => {
      const at = pair.indexOf("=");
      return [pair.slice(0, at).trim(), decodeURIComponent(pair.slice(at + 1).trim())];
    }),
  );
}

function samplerOf({ OTEL_TRACES_SAMPLER: name, OTEL_TRACES_SAMPLER_ARG: ratio = 1 }: TelemetrySettings): Sampler {
  const root = name.endsWith("always_off")
    ? new AlwaysOffSampler()
    : name.endsWith("always_on")
      ? new AlwaysOnSampler()
      : new TraceIdRatioBasedSampler(ratio);
  return name.startsWith("parentbased_") ? new ParentBasedSampler({ root }) : root;
}

/** Makes a span of every operation, in the tree that the asynchronous contexts of Node make of them. */
function startTracing(
  service: { name: string; version: string },
  resource: Resource,
  exporter: ConstructorParameters<typeof BatchSpanProcessor>[0]["exporter"],
  settings: TelemetrySettings,
) {
  const provider = new TracerProvider({
    resource,
    sampler: samplerOf(settings),
    spanLimits: { attributeValueLengthLimit: ATTRIBUTE_CHARACTERS_MAX },
    spanProcessors: [new BatchSpanProcessor({ exporter, exportTimeoutMillis: PUSH_TIMEOUT_MS })],
  });
  const tracer = provider.getTracer(service.name, service.version);
  const contexts = new AsyncLocalStorage<unknown>();
  const spans = new WeakMap<Operation, ReturnType<typeof tracer.startSpan>>();

  const begun = (operation: Operation): Context => {
    const { name, kind, attributes, parent } = operation;
    const outer = parent === undefined ? current(contexts) : remoteContext(parent);
    // A request to a database that belongs to nothing is a probe's, or a look at what may be resumed: no trace of its own.
    if (kind === "client" && trace.getSpan(outer) === undefined) return outer;
    const span = tracer.startSpan(name, { kind: kindOf(kind), attributes }, outer);
    spans.set(operation, span);
    return trace.setSpan(outer, span);
  };
  const ended = (operation: Operation & { error?: unknown }): void => {
    const span = spans.get(operation);
    if (span === undefined) return;
    const failure = failureOf(operation);
    // Both are of the time after the work; the message of an error can hold values, so its word is all that is told.
    span.setAttributes({ ...operation.attributes, ...(failure === undefined ? {} : { "error.type": failure }) });
    if (failure !== undefined) span.setStatus({ code: SpanStatusCode.ERROR, message: failure });
    span.end();
  };
  operations.start.bindStore(contexts, begun);
  operations.asyncEnd.subscribe(listener(ended));
  quietWork.start.bindStore(contexts, () => suppressTracing(current(contexts)));
  return {
    provider,
    traceIds(): Record<string, string> {
      const span = trace.getSpanContext(current(contexts));
      return span === undefined ? {} : { trace_id: span.traceId, span_id: span.spanId };
    },
    stopListening() {
      operations.start.unbindStore(contexts);
      quietWork.start.unbindStore(contexts);
    },
  };
}

/** A listener of a channel, which types what is told on it no closer than `unknown`. */
function listener(listen: (operation: Operation & { error?: unknown }) => void): (message: unknown) => void {
  // oxlint-disable-next-line typescript/no-unsafe-type-assertion -- only `traced` tells something on this channel
  return (message) => listen(message as Operation);
}

function current(contexts: AsyncLocalStorage<unknown>): Context {
  // oxlint-disable-next-line typescript/no-unsafe-type-assertion -- nothing but contexts is put in
  return (contexts.getStore() as Context | undefined) ?? ROOT_CONTEXT;
}

/** The context of a caller who traces, or one of its own. What cannot be read counts as nothing. */
function remoteContext(parent: TraceParent): Context {
  return new W3CTraceContextPropagator().extract(ROOT_CONTEXT, parent, {
    keys: (carrier) => Object.keys(carrier),
    get: (carrier: TraceParent, key) => (key === "traceparent" ? carrier.traceparent : carrier.tracestate),
  });
}

function kindOf(kind: Operation["kind"]): SpanKind {
  return kind === "server" ? SpanKind.SERVER : kind === "client" ? SpanKind.CLIENT : SpanKind.INTERNAL;
}

const serializer = new PrometheusSerializer(undefined, false, undefined, false, true);

async function textOf(reader: ScrapeReader): Promise<string> {
  const { resourceMetrics } = await reader.collect();
  return serializer.serialize(withPrometheusNames(resourceMetrics));
}
