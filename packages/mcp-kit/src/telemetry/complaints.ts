import type { DiagLogger } from "@opentelemetry/api";
import { z } from "zod";
import type { Logger } from "../log.ts";

/** For how long a complaint is not repeated, in milliseconds: a collector that is away makes several each second. */
const PAUSE_MS = 60_000;

/** Kinds of complaints that are told apart. More than there are, unless a message has something of each request in it. */
const KINDS_MAX = 100;

const CHARACTERS_MAX = 500;

/** Puts what the libraries complain of into the log, each kind once a minute and with how often it came since then. */
export function complaintsTo(logger: Logger, now: () => number = () => performance.now()): DiagLogger {
  const kinds = new Map<string, { until: number; unsaid: number }>();
  const say = (level: "debug" | "warn") => (given: string) => {
    const message = textOf(given).slice(0, CHARACTERS_MAX);
    const kind = message.replaceAll(/\d+/g, "#");
    const known = kinds.get(kind);
    if (known !== undefined && now() < known.until) {
      known.unsaid++;
      return;
    }
    if (kinds.size >= KINDS_MAX) kinds.clear();
    kinds.set(kind, { until: now() + PAUSE_MS, unsaid: 0 });
    const unsaid = known === undefined || known.unsaid === 0 ? {} : { unsaid: known.unsaid };
    // Whatever call runs at the moment has nothing to do with it.
    logger[level]("telemetry", { message, ...unsaid, trace_id: undefined, span_id: undefined });
  };
  // A push that fails is no failure of a call. What libraries put behind the message is nothing for a log.
  return { error: say("warn"), warn: say("warn"), info: say("debug"), debug: say("debug"), verbose: say("debug") };
}

/** An error comes as JSON, with its stack. */
const errorSchema = z.object({ name: z.string().optional(), message: z.string() });

function textOf(message: string): string {
  if (!message.startsWith("{")) return message;
  try {
    const { name, message: said } = errorSchema.parse(JSON.parse(message));
    return name === undefined ? said : `${name}: ${said}`;
  } catch {
    return message;
  }
}
