import { execFileSync } from "node:child_process";
import { readFileSync } from "node:fs";

/** What a process has used since it began. */
export interface ProcessUsage {
  cpuSeconds: number;
  rssBytes: number;
  /** The kernel's own high-water mark; null where it keeps none. */
  rssBytesMax: number | null;
}

/** `sysconf(_SC_CLK_TCK)`, which is 100 on every platform that Node runs on under Linux. */
const TICKS_PER_SECOND = 100;

/** Reads the CPU time and memory of any process of this machine, all threads included. */
export function readProcess(pid: number): ProcessUsage {
  if (process.platform !== "linux") return readByPs(pid);
  const status = readFileSync(`/proc/${pid}/status`, "latin1");
  return {
    cpuSeconds: cpuSecondsOf(pid).own,
    rssBytes: kibibytes(status, "VmRSS") ?? 0,
    rssBytesMax: kibibytes(status, "VmHWM"),
  };
}

/** CPU time of a Linux process, and of its children that have ended. */
export function cpuSecondsOf(pid: number): { own: number; ended: number } {
  const stat = readFileSync(`/proc/${pid}/stat`, "latin1");
  // The command before the last bracket may hold anything; the fields after it are numbered from 3.
  const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
  const seconds = (number: number): number => Number(fields[number - 3]) / TICKS_PER_SECOND;
  return { own: seconds(14) + seconds(15), ended: seconds(16) + seconds(17) };
}

function kibibytes(status: string, name: string): number | null {
  const found = new RegExp(`^${name}:\\s+(\\d+) kB$`, "m").exec(status)?.[1];
  return found === undefined ? null : Number(found) * 1024;
}

function readByPs(pid: number): ProcessUsage {
  const line = execFileSync("ps", ["-o", "rss=,time=", "-p", String(pid)], { encoding: "utf8" }).trim();
  const [rss = "0", time = "0"] = line.split(/\s+/);
  // [[days-]hours:]minutes:seconds
  const cpuSeconds = time.split(/[-:]/).reduceRight(
    ({ sum, unit }, part, index, parts) => ({
      sum: sum + Number(part) * unit,
      unit: unit * (index === 1 && parts.length === 4 ? 24 : 60),
    }),
    { sum: 0, unit: 1 },
  ).sum;
  return { cpuSeconds, rssBytes: Number(rss) * 1024, rssBytesMax: null };
}
