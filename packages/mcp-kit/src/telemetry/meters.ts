import { type Counter, type Histogram, type Meter, ValueType } from "@opentelemetry/api";
import { failureOf } from "./failure.ts";
import {
  type Gauge,
  type Instrument,
  type Measurement,
  type Metric,
  measurements,
  type Reading,
} from "./instruments.ts";
import { type Attributes, type Operation, operations, untraced } from "./operation.ts";

/** How long one look at the metrics waits for a gauge. One that takes longer is shown as it was last seen. */
const GAUGE_TIMEOUT_MS = 2_000;

/** How long a gauge may take to be read before what it showed last is true no more. */
const GAUGE_STALE_MS = 15_000;

/** For how long what a gauge has read stands, unless it says more: scrapes come from several sides. */
const GAUGE_TTL_MS = 5_000;

/** Puts what is told on the channels into instruments of OpenTelemetry. */
export class Meters {
  readonly #meter: Meter;
  readonly #counters = new Map<string, Counter>();
  readonly #histograms = new Map<string, Histogram>();
  #stopped = false;
  readonly #startedAt = new WeakMap<Operation, number>();
  readonly #onStart = (operation: unknown): void => {
    if (isMeasured(operation)) this.#startedAt.set(operation, performance.now());
  };
  readonly #onEnd = (operation: unknown): void => {
    if (isMeasured(operation)) this.#end(operation);
  };
  readonly #onMeasurement = (message: unknown): void => {
    // oxlint-disable-next-line typescript/no-unsafe-type-assertion -- only instruments tell something on this channel
    const { instrument, value, attributes } = message as Measurement;
    this.#counter(instrument).add(value, bounded(instrument, attributes));
  };

  constructor(meter: Meter, instruments: readonly Instrument[]) {
    this.#meter = meter;
    for (const instrument of instruments) {
      if (instrument.kind === "histogram") this.#histogram(instrument);
      else for (const attributes of instrument.zeros ?? []) this.#counter(instrument).add(0, attributes);
    }
    operations.start.subscribe(this.#onStart);
    operations.asyncEnd.subscribe(this.#onEnd);
    measurements.subscribe(this.#onMeasurement);
  }

  /** Reads gauges whenever somebody looks. */
  watch(gauges: readonly Gauge[]): void {
    for (const gauge of gauges) {
      const { metric } = gauge;
      const { name, unit, description, grows } = metric;
      const latest = latestOf(gauge, () => this.#stopped);
      const observable =
        grows === true
          ? this.#meter.createObservableCounter(name, { unit, description })
          : this.#meter.createObservableGauge(name, { unit, description });
      observable.addCallback(async (result) => {
        for (const { value, attributes } of await latest()) result.observe(value, bounded(metric, attributes ?? {}));
      });
    }
  }

  /** Listens no more. A last look shows what gauges saw before, for what they read is being closed. */
  stop(): void {
    this.#stopped = true;
    operations.start.unsubscribe(this.#onStart);
    operations.asyncEnd.unsubscribe(this.#onEnd);
    measurements.unsubscribe(this.#onMeasurement);
  }

  #end(operation: Operation & Required<Pick<Operation, "duration">>): void {
    const startedAt = this.#startedAt.get(operation);
    if (startedAt === undefined) return;
    const { duration, attributes } = operation;
    const failure = failureOf(operation);
    this.#histogram(duration).record(
      (performance.now() - startedAt) / 1_000,
      bounded(duration, failure === undefined ? attributes : { ...attributes, "error.type": failure }),
    );
  }

  #counter({ name, unit, description }: Instrument): Counter {
    const known = this.#counters.get(name);
    if (known !== undefined) return known;
    const made = this.#meter.createCounter(name, { unit, description, valueType: ValueType.INT });
    this.#counters.set(name, made);
    return made;
  }

  #histogram({ name, unit, description, buckets = [] }: Instrument): Histogram {
    const known = this.#histograms.get(name);
    if (known !== undefined) return known;
    const advice = { explicitBucketBoundaries: [...buckets] };
    const made = this.#meter.createHistogram(name, { unit, description, advice });
    this.#histograms.set(name, made);
    return made;
  }
}

/** The attributes that a metric has: what else an operation knows would make a series of every run. */
function bounded(metric: Metric, attributes: Attributes): Attributes {
  return Object.fromEntries(
    metric.attributes.flatMap((name) => {
      const value = attributes[name];
      return value === undefined ? [] : [[name, value]];
    }),
  );
}

function isMeasured(operation: unknown): operation is Operation & Required<Pick<Operation, "duration">> {
  return typeof operation === "object" && operation !== null && "duration" in operation;
}

/**
 * What a gauge shows: read again where the last reading is old, but never waited for longer than a scrape can wait. What
 * cannot be read at the moment is left out, as long as it cannot.
 */
function latestOf(gauge: Gauge, isStopped: () => boolean): () => Promise<readonly Reading[]> {
  let last: readonly Reading[] = [];
  let readAt = Number.NEGATIVE_INFINITY;
  let reading: Promise<void> | undefined;
  let begunAt = 0;
  const read = async (): Promise<void> => {
    try {
      // Nobody asked for this, so no trace is of it.
      last = await untraced(async () => gauge.read());
    } catch {
      last = [];
    }
    readAt = performance.now();
    reading = undefined;
  };
  return async () => {
    if (isStopped()) return last;
    if (reading === undefined && performance.now() - readAt > (gauge.ttlMs ?? GAUGE_TTL_MS)) {
      begunAt = performance.now();
      reading = read();
    }
    if (reading !== undefined) {
      const { promise: late, resolve } = Promise.withResolvers<void>();
      const timer = setTimeout(resolve, GAUGE_TIMEOUT_MS);
      await Promise.race([reading, late]);
      clearTimeout(timer);
    }
    if (reading !== undefined && performance.now() - begunAt > GAUGE_STALE_MS) last = [];
    return last;
  };
}
