import { setTimeout as sleep } from "node:timers/promises";
import { z } from "zod";
import type { Answer, Progress, Session } from "./servers.ts";

/** What the agent has at hand and what it was told to do. */
export interface CourseOptions {
  es: Session;
  pg: Session;
  index: string;
  table: string;
  schema?: string;
  /** Hears every call after its answer. */
  onCall?: (call: Call) => void;
  /** Hears how far a job is. */
  onProgress?: (tool: string, progress: Progress) => void;
}

/** One tool call of the course. */
export interface Call {
  tool: string;
  args: Record<string, unknown>;
  answer: Answer;
  ms: number;
}

export const figureNames = [
  "expected",
  "staged",
  "inserted",
  "updated",
  "unchanged",
  "skipped",
  "stale",
  "deduplicated",
  "suppressed",
  "rejected",
] as const;
export type Figures = Record<(typeof figureNames)[number], number>;

const exportSchema = z.looseObject({
  export_id: z.string(),
  status: z.string(),
  documents: z.number(),
  expected: z.number(),
  bytes: z.number(),
  stalled: z.literal(true).optional(),
});
const loadSchema = z.looseObject({
  load_id: z.string(),
  status: z.string(),
  figures: z.record(z.enum(figureNames), z.number()),
  stalled: z.literal(true).optional(),
  error: z.looseObject({ code: z.string(), message: z.string() }).optional(),
});
const proposalSchema = z.looseObject({ mapping_id: z.string() });
const verifiedSchema = z.looseObject({ matched: z.number(), missing: z.number(), different: z.number() });
const countSchema = z.looseObject({ count: z.union([z.number(), z.string()]) });

/** A finished export, as `bulk_export` and `get_export` answer it. */
export type Export = z.infer<typeof exportSchema>;
/** A finished load, as `bulk_insert` and `get_load` answer it. */
export type Load = z.infer<typeof loadSchema>;

/** What the course ended with. */
export interface CourseResult {
  export: Export;
  mappingId: string;
  load: Load;
  verified: z.infer<typeof verifiedSchema>;
  rows: number;
}

/** The twelve columns of the target table, as its user asked for them. */
const productColumns = [
  { name: "id", type: "varchar(50)" },
  { name: "name", type: "varchar(255)" },
  { name: "category", type: "varchar(100)" },
  { name: "subcategory", type: "varchar(100)" },
  { name: "brand", type: "varchar(100)" },
  { name: "price", type: "decimal(10,2)" },
  { name: "description", type: "text" },
  { name: "stock_quantity", type: "integer" },
  { name: "created_at", type: "timestamptz" },
  { name: "ratings", type: "decimal(3,2)" },
  { name: "reviews_count", type: "integer" },
  { name: "tags", type: "text[]" },
];

/** Longest time a call may wait for its job. */
const waitSeconds = 45;

/** The way an agent goes from an index to a proven table, call by call. */
export async function runCourse(options: CourseOptions): Promise<CourseResult> {
  const { es, pg, index, table, schema } = options;
  const caller = new Caller(options);
  const target = { table, ...(schema === undefined ? {} : { schema }) };
  await caller.call(es, "list_indices", { pattern: index });
  await caller.call(es, "get_mapping", { index });
  await caller.call(es, "profile_index", { index });
  // The table may not be there yet; that answer is what tells an agent to create it.
  await caller.try(pg, "get_schema", target);
  await caller.call(pg, "create_table", { ...target, columns: productColumns, primary_key: ["id"] });
  const exported = await exportIndex(caller, es, index);
  const proposal = proposalSchema.parse(
    (await caller.call(pg, "propose_mapping", { ...target, export_id: exported.export_id })).data,
  );
  const load = await loadExport(caller, pg, { ...target, export_id: exported.export_id, mapping: proposal.mapping_id });
  const verified = await verifyLoad(caller, pg, load.load_id);
  const rows = countSchema.parse((await caller.call(pg, "count_rows", target)).data);
  return { export: exported, mappingId: proposal.mapping_id, load, verified, rows: Number(rows.count) };
}

/** Makes calls of one course: errors end it, and every call is reported. */
export class Caller {
  readonly #onCall: CourseOptions["onCall"];
  readonly #onProgress: CourseOptions["onProgress"];

  constructor({ onCall, onProgress }: Pick<CourseOptions, "onCall" | "onProgress">) {
    this.#onCall = onCall;
    this.#onProgress = onProgress;
  }

  /** Calls a tool; an error answer is thrown. */
  async call(session: Session, tool: string, args: Record<string, unknown>): Promise<Answer> {
    const answer = await this.try(session, tool, args);
    if (answer.isError) throw new Error(`${tool} answered an error: ${answer.text}`);
    return answer;
  }

  /** Calls a tool; an error answer is returned. */
  async try(session: Session, tool: string, args: Record<string, unknown>): Promise<Answer> {
    const from = performance.now();
    const answer = await session.call(tool, args, (progress) => this.#onProgress?.(tool, progress));
    this.#onCall?.({ tool, args, answer, ms: performance.now() - from });
    return answer;
  }
}

/** Exports an index and waits for the end. */
export async function exportIndex(caller: Caller, es: Session, index: string): Promise<Export> {
  return await followExport(caller, es, await startExport(caller, es, index, waitSeconds));
}

/** Starts an export of an index and answers its state after the time to wait, or at its end. */
export async function startExport(caller: Caller, es: Session, index: string, wait = 0): Promise<Export> {
  const args = { index, fresh: true, wait_seconds: wait };
  return exportSchema.parse((await caller.call(es, "bulk_export", args)).data);
}

/** A job whose process is gone is shown as it is at once; a long-lived server takes it over after a while. */
const stalledPauseMs = 1_000;

/** Waits for the end of an export that was started. */
export async function followExport(caller: Caller, es: Session, started: Export): Promise<Export> {
  let state = started;
  while (state.status === "working") {
    const args = { export_id: state.export_id, wait_seconds: waitSeconds };
    state = exportSchema.parse((await caller.call(es, "get_export", args)).data);
    if (state.stalled === true) await sleep(stalledPauseMs);
  }
  if (state.status !== "completed") throw new Error(`the export is ${state.status}: ${JSON.stringify(state)}`);
  return state;
}

/** Loads an export and waits for the end. */
export async function loadExport(caller: Caller, pg: Session, args: Record<string, unknown>): Promise<Load> {
  const started = await caller.call(pg, "bulk_insert", { ...args, wait_seconds: waitSeconds });
  return await followLoad(caller, pg, loadSchema.parse(started.data));
}

/** Starts a load and answers its state at once. */
export async function startLoad(caller: Caller, pg: Session, args: Record<string, unknown>): Promise<Load> {
  return loadSchema.parse((await caller.call(pg, "bulk_insert", { ...args, wait_seconds: 0 })).data);
}

/** Waits for the end of a load that was started. */
export async function followLoad(caller: Caller, pg: Session, started: Load): Promise<Load> {
  let state = started;
  while (state.status === "working") {
    const poll = { load_id: state.load_id, wait_seconds: waitSeconds };
    state = loadSchema.parse((await caller.call(pg, "get_load", poll)).data);
    if (state.stalled === true) await sleep(stalledPauseMs);
  }
  if (state.status !== "completed") throw new Error(`the load is ${state.status}: ${JSON.stringify(state)}`);
  return state;
}

/** Compares a load with its table and waits for the outcome. */
export async function verifyLoad(caller: Caller, pg: Session, loadId: string): Promise<z.infer<typeof verifiedSchema>> {
  for (;;) {
    const { data } = await caller.call(pg, "verify_load", { load_id: loadId, wait_seconds: waitSeconds });
    if (data["verdict"] !== "working") return verifiedSchema.parse(data);
  }
}

/** The sum of all places where a staged document can end. */
export function accountedFor(figures: Figures): number {
  const { expected: _, staged: __, ...outcomes } = figures;
  return Object.values(outcomes).reduce((sum, count) => sum + count, 0);
}
