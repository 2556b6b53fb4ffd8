import { Buffer } from "node:buffer";
import { ToolError } from "@es-to-pg/mcp-kit";
import type { ExportReader, LineChunk, Manifest, MappingField, PartInfo, StagingStore } from "@es-to-pg/staging";
import type { Mapping } from "../mapping/mapping.ts";
import { META_PATHS } from "../mapping/plan.ts";

/** Bytes of a part that are read, encoded and sent at once: large for few calls, small for the memory they live in. */
const CHUNK_BYTES_MAX = 512 * 1024;

/** What a load reads: parts that are listed one after another, until the source is complete. */
export interface LoadSource {
  /** What is there by now. Throws `source_failed` when no more will come and it is not complete. */
  poll(): Promise<{ parts: readonly Pick<PartInfo, "index" | "documents">[]; complete: boolean; expected: number }>;
  /** Lines of one part, in chunks of memory that is used again. */
  chunks(part: number, signal: AbortSignal): AsyncIterable<LineChunk>;
  close(): Promise<void>;
}

/** A staged export, finished or still growing; `allowPartial` takes one that has failed for complete as it is. */
export async function exportSource(
  store: StagingStore,
  exportId: string,
  loadId: string,
  allowPartial: boolean,
): Promise<LoadSource> {
  const reader: ExportReader = await store.openReader(exportId, loadId);
  let manifest: Manifest = reader.manifest;
  return {
    async poll() {
      manifest = await reader.refresh();
      const isPartial = allowPartial && hasEndedEarly(manifest);
      if (isPartial) return { parts: manifest.parts, complete: true, expected: manifest.totals.documents };
      mustBeUsable(manifest, store.isStalled(manifest));
      return {
        parts: manifest.parts,
        complete: manifest.status === "completed",
        expected: manifest.status === "completed" ? manifest.totals.documents : manifest.source.expected,
      };
    },
    chunks(index, signal) {
      const part = manifest.parts.find((candidate) => candidate.index === index);
      if (part === undefined) throw new Error(`part ${index} is not listed`);
      return reader.chunks(part, { signal, chunkBytesMax: CHUNK_BYTES_MAX });
    },
    close: () => reader.close(),
  };
}

/** Whether no more parts will come and some are missing. */
export function hasEndedEarly(manifest: Manifest): boolean {
  return manifest.status === "failed" || manifest.status === "cancelled";
}

/** Throws `source_failed` for an export that will not be completed by itself. */
export function mustBeUsable(manifest: Manifest, stalled: boolean): void {
  const fail = (what: string, next: string) => {
    throw new ToolError("source_failed", `Export ${manifest.export_id} ${what}.`, {
      next,
      details: { export_id: manifest.export_id, export_status: manifest.status, export_error: manifest.error?.code },
    });
  };
  if (hasEndedEarly(manifest)) {
    fail(
      manifest.status === "failed" ? "has failed" : "was cancelled",
      "Call bulk_export again and load the new export, or pass allow_partial:true to load the parts that are there.",
    );
  }
  if (stalled) {
    fail("has stalled: its process is gone", "Repeat the same bulk_export call, which takes it over, then load again.");
  }
  if (manifest.status === "completed" && manifest.totals.documents !== manifest.source.expected) {
    fail("is complete but does not hold the documents it expected", "Call bulk_export with fresh:true.");
  }
}

/** Before the names that a document's head takes for itself, so that a row's own `_id` is that of the row. */
const OWN = "row.";

const ownName = (name: string) => (META_PATHS.some((meta) => meta === name) ? OWN + name : name);

/** The rows as documents name them: a row may have columns called `_id` and the like. */
export function withOwnNames(rows: readonly Record<string, unknown>[]): Record<string, unknown>[] {
  return rows.map((row) => Object.fromEntries(Object.entries(row).map(([name, value]) => [ownName(name), value])));
}

/** The mapping of rows that have such columns, reading them. */
export function readingOwnNames(mapping: Mapping, rows: readonly Record<string, unknown>[]): Mapping {
  const columns = mapping.columns.map((column) => {
    const from = column.from ?? (column.expression === undefined ? column.column : undefined);
    const isOwn = from !== undefined && ownName(from) !== from && rows.some((row) => from in row);
    return isOwn && column.constant === undefined ? { ...column, from: ownName(from) } : column;
  });
  return { ...mapping, columns };
}

/** Rows of a call as documents: the id is the row's ordinal, and of two rows of one key the later one wins. */
export function rowsSource(rows: readonly Record<string, unknown>[]): LoadSource {
  const ends = new Uint32Array(rows.length);
  let end = -1;
  const lines = rows.map((row, index) => {
    const head = { _index: "rows", _id: String(index + 1), _seq_no: index, _primary_term: 1, _source: row };
    const line = Buffer.from(`${JSON.stringify(head)}\n`);
    end += line.length;
    ends[index] = end;
    return line;
  });
  const bytes = Buffer.concat(lines);
  return {
    async poll() {
      return {
        parts: rows.length === 0 ? [] : [{ index: 0, documents: rows.length }],
        complete: true,
        expected: rows.length,
      };
    },
    async *chunks() {
      if (rows.length > 0) yield { bytes, ends };
    },
    async close() {},
  };
}

/** The fields of rows, as a mapping would name them: every path that some row has, typed by its first value. */
export function rowFields(rows: readonly Record<string, unknown>[]): MappingField[] {
  const types = new Map<string, string>();
  const visit = (path: string, value: unknown): void => {
    const scalar: unknown = Array.isArray(value) ? value.find((element) => element !== null) : value;
    const type = typeOfValue(scalar);
    const known = types.get(path);
    if (known === undefined || known === "null") types.set(path, type);
    else if (known === "long" && type === "double") types.set(path, type);
    else if (known !== type && type !== "null" && !(known === "double" && type === "long")) types.set(path, "keyword");
    if (typeof value === "object" && value !== null && !Array.isArray(value)) {
      for (const [name, inner] of Object.entries(value)) visit(`${path}.${name}`, inner);
    }
  };
  for (const row of rows) for (const [name, value] of Object.entries(row)) visit(name, value);
  return [...types].map(([path, type]) => ({ path, type: type === "null" ? "keyword" : type }));
}

function typeOfValue(value: unknown): string {
  if (value === null || value === undefined) return "null";
  if (typeof value === "boolean") return "boolean";
  if (typeof value === "number") return Number.isInteger(value) ? "long" : "double";
  return typeof value === "object" ? "object" : "keyword";
}
