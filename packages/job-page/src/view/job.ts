import { countsOf, type Fields, fieldsOf, listOf, numberOf, textOf, textsOf } from "./fields.ts";
import { bytes, counted, figure, moment } from "./words.ts";

export type State = "working" | "stalled" | "completed" | "failed" | "cancelled";

/** A number of documents that had one fate. */
export interface Share {
  name: string;
  count: number;
}

/** What the law of conservation says: each document that was expected has one fate. */
export interface Law {
  /** `open` while nothing can be said. */
  verdict: "holds" | "broken" | "open";
  sentence: string;
}

export interface Reject {
  reason: string;
  column: string | undefined;
  count: number;
  documentId: string | undefined;
  value: string | undefined;
  message: string;
}

/** A job as the page shows it, whatever kind it is of. */
export interface Job {
  kind: "export" | "load";
  id: string;
  heading: string;
  /** What it is, in a few words each. */
  about: string[];
  state: State;
  phase: string | undefined;
  expected: number;
  done: number;
  shares: Share[];
  law: Law;
  rejected: number;
  rejects: Reject[];
  failure: { code: string; message: string; retryable: boolean } | undefined;
  warnings: string[];
  details: [name: string, value: string][];
  seconds: number | undefined;
  next: string | undefined;
}

const phases: Record<string, string> = {
  staging: "staging documents",
  merging: "merging into the table",
};

function stateOf(answer: Fields): State {
  const status = textOf(answer, "status");
  if (status === "completed" || status === "failed" || status === "cancelled") return status;
  return answer["stalled"] === true ? "stalled" : "working";
}

/** What `bulk_export` and `get_export` answer. */
export function exportJob(answer: Fields): Job {
  const state = stateOf(answer);
  const indices = listOf(answer, "indices");
  const total = numberOf(answer, "indices_total") ?? indices.length;
  const [expected, done] = [numberOf(answer, "expected") ?? 0, numberOf(answer, "documents") ?? 0];
  const names = indices.map((index) => textOf(index, "name") ?? "");
  const profile = fieldsOf(answer["profile"]);
  return {
    kind: "export",
    id: textOf(answer, "export_id") ?? "",
    heading: total > 2 ? `${names[0] ?? ""} and ${total - 1} more indices` : names.join(", "),
    about: ["to staging", ...notedAs(answer, { reused: "found again", resumed: "resumed" })],
    state,
    phase: undefined,
    expected,
    done,
    shares: [{ name: "staged", count: done }],
    law: lawOf(state, expected, done, "staged"),
    rejected: 0,
    rejects: [],
    failure: failureOf(answer),
    warnings: textsOf(answer, "warnings"),
    details: [
      ...indices
        .slice(0, total > 1 ? undefined : 0)
        .map((index): [string, string] => [
          textOf(index, "name") ?? "",
          counted(numberOf(index, "documents") ?? 0, "document"),
        ]),
      ...detail("Size", numberOf(answer, "bytes"), bytes),
      ...detail("Parts", numberOf(answer, "parts"), figure),
      ...detail("Snapshot of", textOf(answer, "pit_time"), moment),
      ...detail("Fields seen", numberOf(profile, "fields"), figure),
      ...namesIn("Fields with arrays", textsOf(profile, "arrays")),
      ...namesIn("Fields of several kinds", textsOf(profile, "mixed")),
      ...namesIn("Fields with a NUL byte", textsOf(profile, "with_nul")),
      ...detail("Rewritten without loss", numberOf(answer, "compacted"), (count) => counted(count, "document")),
      ...detail("With invalid UTF-8", numberOf(answer, "invalid_utf8"), (count) => counted(count, "document")),
    ],
    seconds: numberOf(answer, "seconds"),
    next: textOf(answer, "next"),
  };
}

/** What `bulk_insert`, `get_load` and `cancel_load` answer. */
export function loadJob(answer: Fields): Job {
  const state = stateOf(answer);
  const figures = fieldsOf(answer["figures"]);
  const [expected, staged] = [numberOf(figures, "expected") ?? 0, numberOf(figures, "staged") ?? 0];
  // Whatever stands beside these two is a fate: a server with one more needs no other page.
  const fates = countsOf(figures).filter(({ name }) => name !== "expected" && name !== "staged");
  const accounted = fates.reduce((sum, { count }) => sum + count, 0);
  const undecided = staged - accounted;
  const strategy = textOf(answer, "strategy");
  const phase = textOf(answer, "phase");
  const from = textOf(answer, "export_id");
  const ways: Record<string, string> = { direct: "part by part", gather: "all or nothing" };
  return {
    kind: "load",
    id: textOf(answer, "load_id") ?? "",
    heading: textOf(answer, "table") ?? "",
    about: [
      ...(answer["dry_run"] === true ? ["dry run: nothing is written"] : []),
      textOf(answer, "mode") ?? "",
      ...(strategy === undefined ? [] : [ways[strategy] ?? strategy]),
      ...(from === undefined ? ["rows of the call"] : [`from ${from}`]),
      ...notedAs(answer, { reused: "found again", already_loaded: "was loaded already" }),
    ].filter((text) => text !== ""),
    state,
    phase: phase === undefined ? undefined : (phases[phase] ?? phase),
    expected,
    done: staged,
    shares: [...fates, ...undecidedIn(state, undecided)].filter(({ count }) => count > 0),
    law: lawOf(state, expected, accounted, "accounted for", fates),
    rejected: numberOf(figures, "rejected") ?? 0,
    rejects: listOf(answer, "rejects").map(rejectOf),
    failure: failureOf(answer),
    warnings: textsOf(answer, "warnings"),
    details: [
      ...detail("Rows deleted", numberOf(answer, "deleted"), figure),
      ...listOf(answer, "children").map((child): [string, string] => [
        `Child table ${textOf(child, "table") ?? ""}`,
        countsOf(child)
          .map(({ name, count }) => `${figure(count)} ${name}`)
          .join(", "),
      ]),
      ...countsOf(answer["rounded"]).map(({ name, count }): [string, string] => [
        `Rounded in ${name}`,
        counted(count, "value"),
      ]),
      ...countsOf(answer["replaced"]).map(({ name, count }): [string, string] => [
        `Replaced in ${name}`,
        counted(count, "value"),
      ]),
      ...detail("Why this way", textOf(answer, "strategy_reason"), (reason) => reason),
    ].filter(([, value]) => value !== ""),
    seconds: numberOf(answer, "seconds"),
    next: textOf(answer, "next"),
  };
}

/** Documents that were staged and have no fate. Once a load is completed there must be none: the sum then shows a gap. */
function undecidedIn(state: State, count: number): Share[] {
  if (count <= 0 || state === "completed") return [];
  return [{ name: state === "failed" || state === "cancelled" ? "not loaded" : "in stage", count }];
}

/** Whether nothing more happens to a job by itself. */
export function hasEnded({ state }: Pick<Job, "state">): boolean {
  return state !== "working" && state !== "stalled";
}

function lawOf(state: State, expected: number, accounted: number, word: string, fates: Share[] = []): Law {
  if (state !== "completed") {
    const stopped = state === "failed" || state === "cancelled";
    const sentence = stopped
      ? `It ended with ${figure(accounted)} of ${counted(expected, "document")} ${word}.`
      : "Judged when it has ended.";
    return { verdict: "open", sentence };
  }
  const negative = fates.find(({ count }) => count < 0);
  if (negative !== undefined) return { verdict: "broken", sentence: `${negative.name} is below zero.` };
  if (accounted === expected) {
    const all = expected === 0 ? "There was nothing to move." : `Every document is ${word}.`;
    return { verdict: "holds", sentence: all };
  }
  const gap = Math.abs(expected - accounted);
  const sentence =
    accounted < expected
      ? `${counted(gap, "document")} of ${figure(expected)} ${gap === 1 ? "is" : "are"} not ${word}.`
      : `${counted(gap, "document")} more than the ${figure(expected)} expected ${gap === 1 ? "is" : "are"} ${word}.`;
  return { verdict: "broken", sentence };
}

function rejectOf(reject: Fields): Reject {
  return {
    reason: textOf(reject, "reason") ?? "",
    column: textOf(reject, "column"),
    count: numberOf(reject, "count") ?? 0,
    documentId: textOf(reject, "document_id"),
    value: textOf(reject, "value"),
    message: textOf(reject, "message") ?? "",
  };
}

function failureOf(answer: Fields): Job["failure"] {
  if (answer["error"] === undefined) return undefined;
  const error = fieldsOf(answer["error"]);
  return {
    code: textOf(error, "code") ?? "",
    message: textOf(error, "message") ?? "",
    retryable: error["retryable"] === true,
  };
}

function notedAs(answer: Fields, notes: Record<string, string>): string[] {
  return Object.entries(notes).flatMap(([name, note]) => (answer[name] === true ? [note] : []));
}

function detail<Value>(name: string, value: Value | undefined, shown: (value: Value) => string): [string, string][] {
  return value === undefined ? [] : [[name, shown(value)]];
}

function namesIn(name: string, values: string[]): [string, string][] {
  return values.length === 0 ? [] : [[name, values.join(", ")]];
}
