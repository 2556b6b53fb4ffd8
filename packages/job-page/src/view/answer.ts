import { type Fields, fieldsOf, listOf, numberOf, textOf, textsOf } from "./fields.ts";
import { exportJob, type Job, loadJob, type Share, type State } from "./job.ts";

/** One job in a list of them. */
export interface JobLine {
  id: string;
  heading: string;
  state: State;
  createdAt: string;
  expected: number;
  done: number;
  rejected: number;
  note: string | undefined;
}

export interface JobList {
  jobs: JobLine[];
  /** All that there are, where the server counts them. */
  total: number | undefined;
  nextCursor: string | undefined;
  notes: string[];
}

/** What `verify_load` answers. */
export interface Verification {
  loadId: string;
  table: string;
  verdict: "equal" | "different" | "not_comparable" | "working";
  staged: number;
  total: number | undefined;
  shares: Share[];
  columns: Share[];
  samples: { name: string; keys: string[] }[];
  note: string | undefined;
  next: string | undefined;
}

/** What a tool could not do. */
export interface Failure {
  code: string;
  message: string;
  retryable: boolean;
  next: string | undefined;
}

/** What an answer of a tool holds, told by its members. */
export type Answer =
  | { kind: "job"; job: Job }
  | { kind: "list"; list: JobList }
  | { kind: "verification"; verification: Verification }
  | { kind: "inline"; returned: number; total: number }
  | { kind: "failure"; failure: Failure }
  | { kind: "nothing" };

/** A tool's result as clients hand it on: `structuredContent` where there is some, else the text. */
export function answerOf(result: unknown): Answer {
  const fields = fieldsOf(result);
  const [block] = listOf(fields, "content");
  const text = block === undefined ? undefined : textOf(block, "text");
  const data = fields["isError"] === true ? parsed(text) : (fields["structuredContent"] ?? parsed(text));
  return answerIn(fieldsOf(data), fields["isError"] === true ? (text ?? "The tool failed.") : undefined);
}

function answerIn(data: Fields, failed: string | undefined): Answer {
  if (failed !== undefined) return { kind: "failure", failure: failureIn(fieldsOf(data["error"]), failed) };
  if (Array.isArray(data["exports"])) return { kind: "list", list: exportList(data) };
  if (Array.isArray(data["loads"])) return { kind: "list", list: loadList(data) };
  if (textOf(data, "verdict") !== undefined) return { kind: "verification", verification: verificationIn(data) };
  if (textOf(data, "load_id") !== undefined) return { kind: "job", job: loadJob(data) };
  if (textOf(data, "export_id") !== undefined) return { kind: "job", job: exportJob(data) };
  if (Array.isArray(data["documents"])) {
    return { kind: "inline", returned: numberOf(data, "returned") ?? 0, total: numberOf(data, "total") ?? 0 };
  }
  return { kind: "nothing" };
}

function failureIn(error: Fields, text: string): Failure {
  return {
    code: textOf(error, "code") ?? "error",
    message: textOf(error, "message") ?? text.slice(0, 2_000),
    retryable: error["retryable"] === true,
    next: textOf(error, "next"),
  };
}

function parsed(text: string | undefined): unknown {
  try {
    return JSON.parse(text ?? "");
  } catch {
    return undefined;
  }
}

function exportList(data: Fields): JobList {
  const corrupt = listOf(data, "corrupt").map(
    (one) => `${textOf(one, "export_id") ?? ""} cannot be read: ${textOf(one, "message") ?? ""}`,
  );
  return {
    jobs: listOf(data, "exports").map((one) => {
      const job = exportJob(one);
      const createdAt = textOf(one, "created_at") ?? "";
      return { ...lineOf(job, createdAt), heading: textOf(one, "index") ?? "" };
    }),
    total: numberOf(data, "total"),
    nextCursor: textOf(data, "next_cursor"),
    notes: corrupt,
  };
}

function loadList(data: Fields): JobList {
  return {
    jobs: listOf(data, "loads").map((one) => {
      const job = loadJob(one);
      const error = textOf(one, "error");
      const note = [job.about[0] ?? "", ...(error === undefined ? [] : [error.replaceAll("_", " ")])].join(", ");
      return { ...lineOf(job, textOf(one, "created_at") ?? ""), note };
    }),
    total: undefined,
    nextCursor: textOf(data, "next_cursor"),
    notes: [],
  };
}

function lineOf({ id, heading, state, expected, done, rejected }: Job, createdAt: string): JobLine {
  return { id, heading, state, createdAt, expected, done, rejected, note: undefined };
}

const verdicts = ["equal", "different", "not_comparable", "working"] as const;

function verificationIn(data: Fields): Verification {
  const fates = ["matched", "missing", "different", "extra", "stale", "deduplicated", "rejected"];
  const samples = fieldsOf(data["sample_keys"]);
  return {
    loadId: textOf(data, "load_id") ?? "",
    table: textOf(data, "table") ?? "",
    verdict: verdicts.find((verdict) => verdict === data["verdict"]) ?? "not_comparable",
    staged: numberOf(data, "staged") ?? 0,
    total: numberOf(data, "total"),
    shares: fates.flatMap((name) => {
      const count = numberOf(data, name);
      return count === undefined ? [] : [{ name, count }];
    }),
    columns: listOf(data, "columns").map((one) => ({
      name: textOf(one, "column") ?? "",
      count: numberOf(one, "rows") ?? 0,
    })),
    samples: Object.keys(samples).map((name) => ({ name, keys: textsOf(samples, name) })),
    note: textOf(data, "note"),
    next: textOf(data, "next"),
  };
}
