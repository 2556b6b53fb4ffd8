import { cpus, loadavg } from "node:os";
import { formatTable } from "../text-table.ts";
import type { Measured } from "./measure.ts";

/** A contender with what it was measured at. */
export interface Line {
  name: string;
  /** The one that the others are compared with. */
  floor?: true;
  measured: Measured;
}

const million = 1_000_000;
const mebibyte = 1024 * 1024;

/** The machine, and how busy it is at this moment. */
export function describeMachine(): string {
  const processors = cpus();
  return `${processors.length} x ${processors[0]?.model ?? "unknown"}, load ${loadavg()
    .map((load) => load.toFixed(1))
    .join(" ")}, Node ${process.versions.node}`;
}

/** The table of a benchmark; every figure is per million documents or a ratio, so that runs of any size compare. */
export function formatMeasured(lines: readonly Line[]): string {
  const floor = lines.find((line) => line.floor === true);
  return formatTable(lines.map((line) => cells(line, floor)));
}

function cells({ name, measured }: Line, floor: Line | undefined): Record<string, string> {
  const { documents, wallSeconds, cpuSeconds, elasticsearchCpuSeconds, postgresCpuSeconds, walBytes } = measured;
  const perMillion = (seconds: number | null): string =>
    seconds === null ? "-" : ((seconds * million) / documents).toFixed(2);
  const base = floor?.measured;
  return {
    "": name,
    documents: documents.toLocaleString("en"),
    "wall s": wallSeconds.toFixed(2),
    "rows/s": Math.round(documents / wallSeconds).toLocaleString("en"),
    "CPU s/1M": perMillion(cpuSeconds),
    "ES CPU s/1M": perMillion(elasticsearchCpuSeconds),
    ...(postgresCpuSeconds === null ? {} : { "PG CPU s/1M": perMillion(postgresCpuSeconds) }),
    ...(walBytes === null ? {} : { "WAL MB/1M": ((walBytes / mebibyte) * (million / documents)).toFixed(0) }),
    "RSS max MB": (measured.rssBytesMax / mebibyte).toFixed(0),
    "RSS over time": overTime(measured.rssBytes),
    wall: ratio(wallSeconds / documents, base === undefined ? undefined : base.wallSeconds / base.documents),
    CPU: ratio(cpuSeconds / documents, base === undefined ? undefined : base.cpuSeconds / base.documents),
  };
}

function ratio(value: number, of: number | undefined): string {
  return of === undefined || of === 0 ? "-" : `${(value / of).toFixed(2)}x`;
}

/** Memory at the beginning, after each quarter, and at the end. */
function overTime(samples: readonly number[]): string {
  return [0, 0.25, 0.5, 0.75, 1]
    .map((share) => ((samples[Math.round(share * (samples.length - 1))] ?? 0) / mebibyte).toFixed(0))
    .join(" ");
}
