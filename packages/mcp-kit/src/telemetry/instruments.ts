import { channel } from "node:diagnostics_channel";
import type { Attributes } from "./operation.ts";

/** What is measured, by the names of OpenTelemetry. `/metrics` writes them as Prometheus does: `prometheus-names.ts`. */
export interface Metric {
  name: string;
  /** `s`, `By`, `1` for a share, what is counted in braces (`{row}`), or nothing. */
  unit: string;
  description: string;
  /** Attributes that it has, each with few values: no ids, no names of indices, tables or columns. */
  attributes: readonly string[];
}

/** What is told whenever something happens. */
export interface Instrument extends Metric {
  kind: "counter" | "histogram";
  /** Attributes that are there with 0 before anything is counted: a rate sees no first event otherwise. */
  zeros?: readonly Attributes[];
  /** Bounds of a histogram's buckets. */
  buckets?: readonly number[];
}

/** One value of an instrument, as the channel carries it. */
export interface Measurement {
  instrument: Instrument;
  value: number;
  attributes: Attributes;
}

/** The channel on which values are told. Nobody listens to it unless telemetry is on. */
export const measurements = channel("es-to-pg:measurement");

/** Something that only grows. */
export interface Counter extends Instrument {
  kind: "counter";
  add(value: number, attributes?: Attributes): void;
}

/** How long things take. Its values come from operations. */
export interface Histogram extends Instrument {
  kind: "histogram";
}

/** Makes a counter. It counts nothing unless telemetry is on. */
export function counter(definition: Omit<Instrument, "kind" | "buckets">): Counter {
  const made: Counter = {
    kind: "counter",
    ...definition,
    add(value, attributes = {}) {
      if (measurements.hasSubscribers) {
        measurements.publish({ instrument: made, value, attributes } satisfies Measurement);
      }
    },
  };
  return made;
}

/** Makes a histogram of durations in seconds. */
function durations(definition: Metric & { buckets: readonly number[] }): Histogram {
  return { kind: "histogram", ...definition };
}

/** Something that is read when it is looked at. */
export interface Gauge {
  metric: Metric & {
    /** Only grows, as CPU time does: Prometheus then takes rates of it. */
    grows?: true;
  };
  /** For how long a reading stands, in milliseconds, where that is not as long as the others do. */
  ttlMs?: number;
  /** What there is to see, one reading for each set of attributes. */
  read(): readonly Reading[] | Promise<readonly Reading[]>;
}

export interface Reading {
  value: number;
  attributes?: Attributes;
}

/** Time of a call, by method, tool and whether it failed. */
export const callDuration = durations({
  name: "mcp.server.operation.duration",
  unit: "s",
  description: "Duration of requests that a tool answers",
  attributes: ["mcp.method.name", "gen_ai.tool.name", "error.type"],
  buckets: [0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 30, 60],
});

/** Failed calls by their code, which the histogram leaves out because it would be one of each for every code. */
export const toolErrors = counter({
  name: "etl.tool.errors",
  unit: "{call}",
  description: "Calls that were answered with an error, by its code",
  attributes: ["gen_ai.tool.name", "code"],
});

/** Time of a request to a database. */
export const databaseDuration = durations({
  name: "db.client.operation.duration",
  unit: "s",
  description: "Duration of requests to Elasticsearch and PostgreSQL",
  attributes: ["db.system.name", "db.operation.name", "error.type"],
  buckets: [0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1, 5, 10, 60],
});

/** The kinds of jobs there are. */
type JobKind = "export" | "load" | "verification";

const JOB_ENDS = ["completed", "failed", "cancelled", "released"] as const;

const endedJobs = counter({
  name: "etl.jobs.ended",
  unit: "{job}",
  description:
    "Jobs that ended in this process, by kind and outcome; one that is `released` can go on in another process",
  attributes: ["kind", "outcome"],
});

/** Jobs whose figures did not add up: documents that got lost, or came twice. */
export const breaches = counter({
  name: "etl.conservation.breaches",
  unit: "{job}",
  description: "Jobs whose figures broke the law of conservation, and comparisons that found a difference",
  attributes: ["kind"],
});

/** Tells how a job ended. */
export function jobEnded(kind: JobKind, outcome: (typeof JOB_ENDS)[number]): void {
  endedJobs.add(1, { kind, outcome });
}

/** What jobs of these kinds are measured by, with zeros for all that can become of them. */
export function instrumentsOfJobs(kinds: readonly JobKind[]): Instrument[] {
  return [
    { ...endedJobs, zeros: kinds.flatMap((kind) => JOB_ENDS.map((outcome) => ({ kind, outcome }))) },
    { ...breaches, zeros: kinds.map((kind) => ({ kind })) },
  ];
}

/** Whether what a server works with answers. */
export const dependencyUp: Metric = {
  name: "etl.dependency.up",
  unit: "",
  description: "Whether what the server works with answers: 1 or 0",
  attributes: ["dependency"],
};

/** How long a dependency may take to answer, in milliseconds. A look may hang for ever: a network file system does. */
const DEPENDENCY_TIMEOUT_MS = 8_000;

/** A reading of `dependencyUp`: 0 for one that fails, and for one that does not answer in time. */
export async function dependencyReading(
  dependency: string,
  look: () => Promise<unknown>,
  timeoutMs = DEPENDENCY_TIMEOUT_MS,
): Promise<Reading> {
  const { promise: late, resolve } = Promise.withResolvers<0>();
  const timer = setTimeout(() => resolve(0), timeoutMs);
  const answered = look().then(
    () => 1,
    () => 0,
  );
  const value = await Promise.race([answered, late]);
  clearTimeout(timer);
  return { value, attributes: { dependency } };
}

/** Jobs that are kept, of all processes that share them. */
export const keptJobs: Metric = {
  name: "etl.jobs",
  unit: "{job}",
  description: "Jobs that are kept, of all processes that share them, by kind and state",
  attributes: ["kind", "state"],
};

/** Readings of `keptJobs`, with zeros for states that no job is in. */
export function jobReadings(kind: JobKind, counts: Readonly<Record<string, number>>): Reading[] {
  return ["working", "stalled", "completed", "failed", "cancelled"].map((state) => ({
    value: counts[state] ?? 0,
    attributes: { kind, state },
  }));
}
