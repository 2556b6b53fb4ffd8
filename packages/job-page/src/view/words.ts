const grouped = new Intl.NumberFormat("en-US", { maximumFractionDigits: 0 });
const short = new Intl.NumberFormat("en-US", { maximumSignificantDigits: 3 });

/** A whole number with its thousands apart. */
export function figure(count: number): string {
  return grouped.format(count);
}

/** A count with its noun: `1 document`, `15 documents`. */
export function counted(count: number, noun: string): string {
  return `${figure(count)} ${noun}${count === 1 ? "" : "s"}`;
}

const byteUnits = ["bytes", "kB", "MB", "GB", "TB"];

export function bytes(count: number): string {
  let [value, unit] = [count, 0];
  while (value >= 999.5 && unit < byteUnits.length - 1) [value, unit] = [value / 1000, unit + 1];
  return `${short.format(value)} ${byteUnits[unit] ?? ""}`;
}

/** A length of time, in the one or two units that matter. */
export function duration(seconds: number): string {
  if (seconds < 9.95) return `${Math.max(seconds, 0).toFixed(1)} s`;
  const whole = Math.round(seconds);
  if (whole < 60) return `${whole} s`;
  if (whole < 3600) return `${Math.floor(whole / 60)} min ${whole % 60} s`;
  const minutes = Math.round(whole / 60);
  return `${Math.floor(minutes / 60)} h ${minutes % 60} min`;
}

/** A speed, no more exact than it can be known. */
export function pace(perSecond: number): string {
  return `${short.format(perSecond)} per second`;
}

/** What is left of a job, no more exact than it can be known. */
export function remaining(seconds: number): string {
  return seconds < 1
    ? "less than 1 s left"
    : `about ${duration(Math.max(Math.round(seconds), 1)).replace(".0 s", " s")} left`;
}

/** How much is done, never rounded up to all of it, nor down to nothing. */
export function percent(done: number, total: number): string {
  if (total <= 0) return "";
  const share = (done / total) * 100;
  if (share >= 100) return "100 %";
  return `${Math.min(Math.max(Math.floor(share), done > 0 ? 1 : 0), 99)} %`;
}

/** A moment in the reader's own time zone. */
export function moment(iso: string): string {
  const date = new Date(iso);
  if (Number.isNaN(date.getTime())) return iso;
  return date.toLocaleString("en-GB", { dateStyle: "medium", timeStyle: "short" });
}
