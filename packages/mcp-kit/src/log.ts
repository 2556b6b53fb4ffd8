import { escapeDisguises } from "./answer.ts";
import { withoutPasswords } from "./redact.ts";

export const logLevels = ["debug", "info", "warn", "error"] as const;
export type LogLevel = (typeof logLevels)[number];

/** Events as JSON lines on stderr. An event is a snake_case word; what belongs to it goes into fields, never row values. */
export interface Logger {
  debug(event: string, fields?: Record<string, unknown>): void;
  info(event: string, fields?: Record<string, unknown>): void;
  warn(event: string, fields?: Record<string, unknown>): void;
  error(event: string, fields?: Record<string, unknown>): void;
}

/** A logger that writes events of `level` and above, one JSON line each. */
export function createLogger(options: {
  level: LogLevel;
  write?: (text: string) => void;
  /** Fields that every line has at the moment, such as the trace that it belongs to. */
  always?: () => Record<string, unknown>;
}): Logger {
  const { level, write = (text: string) => process.stderr.write(text), always = () => ({}) } = options;
  const least = logLevels.indexOf(level);
  const at =
    (name: LogLevel) =>
    (event: string, fields: Record<string, unknown> = {}) => {
      if (logLevels.indexOf(name) < least) return;
      const text = line({ time: new Date().toISOString(), level: name, event, ...always(), ...fields });
      // What a caller or a database sent can stand in any field, and a terminal may show it.
      write(`${withoutPasswords(escapeDisguises(text))}\n`);
    };
  return { debug: at("debug"), info: at("info"), warn: at("warn"), error: at("error") };
}

function line(fields: Record<string, unknown>): string {
  try {
    return JSON.stringify(fields, (_key, value: unknown) => (value instanceof Error ? described(value) : value));
  } catch {
    // A cycle or a bigint in a field must not turn a log line into a failure.
    return JSON.stringify({ time: fields["time"], level: fields["level"], event: fields["event"], unprintable: true });
  }
}

function described(error: Error): Record<string, unknown> {
  const { name, message, stack, cause } = error;
  return { name, message, stack, ...(cause === undefined ? {} : { cause }) };
}
