import {
  AggregationTemporality,
  InstrumentType,
  MetricReader,
  type PushMetricExporter,
} from "@opentelemetry/sdk-metrics";

/**
 * Gauges are of the moment. As cumulative, which is the default, the SDK shows each for ever as it was last seen, also
 * where nobody can see it any more.
 */
function temporalityOf(type: InstrumentType): AggregationTemporality {
  return type === InstrumentType.OBSERVABLE_GAUGE ? AggregationTemporality.DELTA : AggregationTemporality.CUMULATIVE;
}

/** Looks at the metrics whenever somebody asks. */
export class ScrapeReader extends MetricReader {
  constructor() {
    super({ aggregationTemporalitySelector: temporalityOf });
  }

  protected async onForceFlush(): Promise<void> {}

  protected async onShutdown(): Promise<void> {}
}

/** The exporter, with gauges of the moment. Of the rest it decides by its own settings. */
export function ofTheMoment<Exporter extends PushMetricExporter>(exporter: Exporter): Exporter {
  const select = exporter.selectAggregationTemporality?.bind(exporter) ?? temporalityOf;
  exporter.selectAggregationTemporality = (type) =>
    type === InstrumentType.OBSERVABLE_GAUGE ? temporalityOf(type) : select(type);
  return exporter;
}
