import { breaches, counter, type Instrument, instrumentsOfJobs, jobEnded, type Operation } from "@es-to-pg/mcp-kit";
import { FIGURE_NAMES, type Figures } from "./figures.ts";

/** Where a document of a completed load has ended; with `expected` and `staged` they are the law. */
const OUTCOMES = FIGURE_NAMES.slice(2);

/** Rows of completed loads. Each load is counted once, by the process that completed it; a dry run is not. */
const loadedRows = counter({
  name: "etl.load.rows",
  unit: "{row}",
  description: "Documents of completed loads, by what became of them",
  attributes: ["outcome"],
  zeros: OUTCOMES.map((outcome) => ({ outcome })),
});

/** How far loads are: each part counts when its transaction is committed. */
const loadedDocuments = counter({
  name: "etl.load.documents",
  unit: "{document}",
  description: "Documents of parts that were brought into PostgreSQL",
  attributes: [],
  zeros: [{}],
});

/** What loads are measured by. */
export const instruments: readonly Instrument[] = [
  loadedRows,
  loadedDocuments,
  ...instrumentsOfJobs(["load", "verification"]),
];

/** A load, from its first transaction to its last in this process. */
export function loadOperation(load: { loadId: string; mode: string; dryRun: boolean }): Operation {
  return {
    name: "load",
    attributes: { "etl.load.id": load.loadId, "etl.load.mode": load.mode, "etl.load.dry_run": load.dryRun },
  };
}

/** One part of a load: its transaction, with all attempts at it. */
export function partOperation(loadId: string, part: number): Operation {
  return { name: "load part", attributes: { "etl.load.id": loadId, "etl.part": part } };
}

/** Tells that a part is in. */
export function partLoaded({ attributes }: Operation, part: { documents: number; rejected: number }): void {
  attributes["etl.documents"] = part.documents;
  attributes["etl.rejected"] = part.rejected;
  loadedDocuments.add(part.documents);
}

/** Tells what a load has brought about. */
export function loadCompleted({ attributes }: Operation, figures: Figures, dryRun: boolean): void {
  jobEnded("load", "completed");
  attributes["etl.outcome"] = "completed";
  for (const name of FIGURE_NAMES) attributes[`etl.${name}`] = figures[name];
  if (dryRun) return;
  for (const outcome of OUTCOMES) loadedRows.add(figures[outcome], { outcome });
}

/** Tells how a load ended that did not complete. */
export function loadEnded(operation: Operation, outcome: "failed" | "cancelled" | "released", code?: string): void {
  jobEnded("load", outcome);
  operation.attributes["etl.outcome"] = outcome;
  if (outcome !== "failed") return;
  operation.failure = code ?? "internal_error";
  if (code === "conservation_breach") breaches.add(1, { kind: "load" });
}

/** Tells that a comparison was stopped before it had found anything. */
export function verificationStopped({ attributes }: Operation, reason: "cancelled" | "shutdown"): void {
  const outcome = reason === "cancelled" ? "cancelled" : "released";
  jobEnded("verification", outcome);
  attributes["etl.outcome"] = outcome;
}

/** Tells what a comparison has found; a difference counts as a breach, because it is looked for nowhere else. */
export function verificationEnded(operation: Operation, outcome: { verdict: string } | { code: string }): void {
  jobEnded("verification", "code" in outcome ? "failed" : "completed");
  if ("code" in outcome) operation.failure = outcome.code;
  else operation.attributes["etl.verdict"] = outcome.verdict;
  if ("verdict" in outcome && outcome.verdict === "different") breaches.add(1, { kind: "verification" });
}
