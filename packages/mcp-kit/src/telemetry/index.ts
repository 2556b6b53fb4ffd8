export {
  breaches,
  callDuration,
  counter,
  databaseDuration,
  dependencyReading,
  dependencyUp,
  type Gauge,
  type Instrument,
  instrumentsOfJobs,
  jobEnded,
  jobReadings,
  keptJobs,
  type Metric,
  type Reading,
  toolErrors,
} from "./instruments.ts";
export { type Operation, traced, untraced } from "./operation.ts";
export { prometheusName } from "./prometheus-names.ts";
export { runtimeMetrics } from "./runtime-metrics.ts";
