import { clip } from "@es-to-pg/mcp-kit";
import type { FieldProfile, Manifest, StagingStore } from "@es-to-pg/staging";
import { z } from "zod";

/** Names shown of a list before the rest is only counted. */
const NAMES_MAX = 12;
const NAME_CHARACTERS_MAX = 200;
const WARNINGS_MAX = 8;

export const exportState = z.object({
  export_id: z.string(),
  status: z.enum(["working", "completed", "failed", "cancelled"]),
  stalled: z.boolean().optional(),
  reused: z.boolean().optional(),
  resumed: z.boolean().optional(),
  documents: z.int(),
  expected: z.int(),
  bytes: z.int(),
  parts: z.int(),
  seconds: z.number(),
  indices: z.array(z.object({ name: z.string(), documents: z.int() })),
  indices_total: z.int().optional(),
  pit_time: z.string(),
  compacted: z.int().optional(),
  invalid_utf8: z.int().optional(),
  profile: z
    .object({
      fields: z.int(),
      arrays: z.array(z.string()).optional(),
      mixed: z.array(z.string()).optional(),
      with_nul: z.array(z.string()).optional(),
    })
    .optional(),
  watermark: z.boolean().optional(),
  warnings: z.array(z.string()).optional(),
  error: z.object({ code: z.string(), message: z.string(), retryable: z.boolean() }).optional(),
  next: z.string().optional(),
});

/** What of it cancel_export answers: what has become of the export. get_export tells the rest. */
export const cancelledState = exportState.pick({
  export_id: true,
  status: true,
  documents: true,
  expected: true,
  bytes: true,
  error: true,
  next: true,
});

export type ExportState = z.infer<typeof exportState>;

/** Whether nothing more happens to an export by itself. */
export function isSettled(store: StagingStore, manifest: Manifest): boolean {
  return manifest.status !== "working" || store.isStalled(manifest);
}

/** Whether there is more than `max_documents` let through. */
export function isCut({ source }: Manifest): boolean {
  return source.expected < source.indices.reduce((sum, { documents }) => sum + documents, 0);
}

/** An export as a model needs it: counts, what to look out for, and what to do next. */
export function describeExport(
  store: StagingStore,
  manifest: Manifest,
  started: { reused?: boolean; resumed?: boolean } = {},
): ExportState {
  const { source, totals, profile, warnings, error } = manifest;
  const stalled = store.isStalled(manifest);
  return {
    export_id: manifest.export_id,
    status: manifest.status,
    ...(stalled ? { stalled } : {}),
    ...(started.reused === true ? { reused: true } : {}),
    ...(started.resumed === true ? { resumed: true } : {}),
    documents: totals.documents,
    expected: source.expected,
    bytes: totals.bytes,
    parts: manifest.parts.length,
    seconds: secondsOf(manifest),
    indices: source.indices
      .slice(0, NAMES_MAX)
      .map(({ name, documents }) => ({ name: clip(name, NAME_CHARACTERS_MAX), documents })),
    ...(source.indices.length > NAMES_MAX ? { indices_total: source.indices.length } : {}),
    pit_time: source.pit_time,
    ...(totals.compacted > 0 ? { compacted: totals.compacted } : {}),
    ...(totals.invalid_utf8 > 0 ? { invalid_utf8: totals.invalid_utf8 } : {}),
    ...(profile.length > 0 ? { profile: summarise(profile) } : {}),
    ...(manifest.status === "completed" ? { watermark: manifest.watermark.length > 0 && !isCut(manifest) } : {}),
    ...(warnings.length > 0 ? { warnings: warnings.slice(0, WARNINGS_MAX).map((text) => clip(text, 400)) } : {}),
    ...(error === null ? {} : { error: { ...error, message: clip(error.message, 600) } }),
    next: nextStep(manifest, { stalled, reused: started.reused === true }),
  };
}

/** How long it took, or has taken so far; a pause before it was resumed counts, too. */
function secondsOf({ created_at, finished_at }: Manifest): number {
  const until = finished_at === null ? Date.now() : Date.parse(finished_at);
  return Math.max(0, Math.round((until - Date.parse(created_at)) / 100) / 10);
}

/** What of a profile changes a plan, in a few words; profile_index and propose_mapping tell the rest. */
function summarise(profile: readonly FieldProfile[]): NonNullable<ExportState["profile"]> {
  const paths = (wanted: (field: FieldProfile) => boolean): string[] =>
    profile
      .filter(wanted)
      .slice(0, NAMES_MAX)
      .map(({ path }) => clip(path, 100));
  const arrays = paths(({ arrays: count }) => count > 0);
  const mixed = paths(({ kinds: { string, integer, decimal, boolean, object } }) => {
    const number = integer + decimal;
    return [string, number, boolean, object].filter((count) => count > 0).length > 1;
  });
  const withNul = paths(({ shapes }) => shapes.nul > 0);
  return {
    fields: profile.length,
    ...(arrays.length > 0 ? { arrays } : {}),
    ...(mixed.length > 0 ? { mixed } : {}),
    ...(withNul.length > 0 ? { with_nul: withNul } : {}),
  };
}

function nextStep(manifest: Manifest, { stalled, reused }: { stalled: boolean; reused: boolean }): string {
  const { status, error, checkpoint, source } = manifest;
  if (status === "completed") {
    if (source.expected === 0 && source.since === null) {
      return "Nothing matched, so there is nothing to load; count_documents shows what a query finds.";
    }
    const load = "Give export_id to pg-mcp: propose_mapping, then bulk_insert.";
    return reused ? `${load} It is as of pit_time; fresh: true exports what was written since, too.` : load;
  }
  if (status === "cancelled") return "Start a new export, or remove this one with delete_export.";
  if (status === "working" && !stalled) {
    return "Call get_export with wait_seconds; pg-mcp may already plan with propose_mapping.";
  }
  if (checkpoint === null) return "Start a new export; the parts of this one load only with allow_partial.";
  if (error?.code === "staging_full") {
    return "Make room (delete_export of others, or more disk or STAGING_BYTES_MAX), then call bulk_export with the same arguments.";
  }
  return stalled || error?.retryable === true
    ? "Call bulk_export with the same arguments to go on from the last part."
    : "Correct what the error names within 10 minutes, then call bulk_export with the same arguments to go on from the last part; fresh: true starts anew.";
}
