import { ask, call, finish, type Heard, type Script, type Told, type Turn, waitSeconds } from "./script.ts";

/** Calls side by side; what a call needs of an earlier answer stands as `$.export_id`: that of the last answer that has one. */
export type Calls = readonly (readonly [tool: string, args?: Record<string, unknown>])[];

/** A model's whole run as data: its turns, and between them what it asks the user. The last words end it. */
export type Recording = readonly (Calls | string)[];

/** How a job that a tool started is followed. */
const polls: Record<string, { poll: string; handle: string }> = {
  bulk_export: { poll: "get_export", handle: "export_id" },
  bulk_insert: { poll: "get_load", handle: "load_id" },
};

/** Plays a recording; jobs are followed to their end, as often as it takes. */
export function* play(recording: Recording): Script {
  const told: Told[] = [];
  for (const [index, step] of recording.entries()) {
    if (typeof step === "string") {
      if (index === recording.length - 1) return step;
      yield* ask(step);
      continue;
    }
    const wishes = step.map(([tool, args = {}]): [string, Record<string, unknown>] => [
      tool,
      Object.fromEntries(Object.entries(args).map(([name, value]) => [name, resolve(value, told)])),
    ]);
    const answers = yield* call(...wishes);
    for (const [position, [tool, args]] of wishes.entries()) {
      told.push(yield* follow(tool, args, answers[position] ?? {}));
    }
  }
  throw new Error("a recording ends with words");
}

function* follow(tool: string, args: Record<string, unknown>, started: Told): Generator<Turn, Told, Heard> {
  const job = polls[tool];
  if (job !== undefined) return yield* finish([started], job.poll, job.handle);
  let state = started;
  while (state["verdict"] === "working") {
    const [next] = yield* call([tool, { ...args, wait_seconds: waitSeconds }]);
    state = next ?? {};
  }
  return state;
}

/** The value with every reference in it replaced by what was told. */
function resolve(value: unknown, told: readonly Told[]): unknown {
  if (typeof value === "string") return value.startsWith("$.") ? lookUp(value, told) : value;
  if (Array.isArray(value)) return value.map((item) => resolve(item, told));
  if (typeof value !== "object" || value === null) return value;
  return Object.fromEntries(Object.entries(value).map(([name, member]) => [name, resolve(member, told)]));
}

function lookUp(reference: string, told: readonly Told[]): unknown {
  const path = reference.slice("$.".length).split(".");
  for (const answer of told.toReversed()) {
    const found = path.reduce<unknown>(memberOf, answer);
    if (found !== undefined) return found;
  }
  throw new Error(`the recording wants ${reference}, which no answer has: ${JSON.stringify(told.at(-1))}`);
}

function memberOf(value: unknown, name: string): unknown {
  return typeof value === "object" && value !== null
    ? new Map<string, unknown>(Object.entries(value)).get(name)
    : undefined;
}
