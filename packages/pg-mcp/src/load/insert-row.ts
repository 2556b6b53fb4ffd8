import { setTimeout as sleep } from "node:timers/promises";
import { clip, parseExactJson, type ToolCall, ToolError } from "@es-to-pg/mcp-kit";
import { z } from "zod";
import type { LoadContext } from "./context.ts";
import { figuresOf, openLedger } from "./ledger.ts";
import { openRejects } from "./rejects.ts";
import { startLoad } from "./start.ts";
import { readState } from "./state.ts";

/** Longest value of a stored row that is answered whole, in characters of JSON. */
const VALUE_CHARACTERS_MAX = 1_000;
/** How long one row may wait for a lock before the call answers with the load's handle. */
const WAIT_MS_MAX = 45_000;

const MODES = { error: "append", ignore: "ignore", update: "upsert" } as const;
const OUTCOMES = ["inserted", "updated", "unchanged", "skipped", "suppressed"] as const;

export interface InsertedRow {
  load_id: string;
  outcome: (typeof OUTCOMES)[number];
  table: string;
  row: Record<string, unknown> | null;
  cut?: string[];
}

/** Writes one row by the way of every load, and answers it as the table has it. */
export async function insertRow(
  context: LoadContext & ToolCall,
  params: {
    table: string;
    schema?: string | undefined;
    row: Record<string, unknown>;
    on_conflict: keyof typeof MODES;
    key?: string[] | undefined;
  },
): Promise<InsertedRow> {
  const { settings, signal } = context;
  const started = await startLoad(
    context,
    {
      table: params.table,
      schema: params.schema,
      rows: [params.row],
      key: params.key,
      mode: MODES[params.on_conflict],
      limits: { onError: "reject", rejectsMax: null, rejectRatioMax: null },
      deleteRatioMax: 0,
      confirmPartial: false,
      allowPartial: false,
      overrideIdentity: false,
      dryRun: false,
      repeat: true,
      fresh: true,
      unique: true,
      storedRowsMax: 1,
    },
    signal,
  );
  const late = new AbortController();
  const outcome = await Promise.race([
    started.ended,
    sleep(WAIT_MS_MAX, undefined, { signal: late.signal }).catch(() => undefined),
  ]).finally(() => late.abort());
  const { load, reject } = await readState(
    context,
    async (tx) => ({
      load: await openLedger(settings.PG_MCP_STATE_SCHEMA).read(tx, started.loadId),
      reject: (
        await openRejects(settings.PG_MCP_STATE_SCHEMA).page(tx, started.loadId, {
          reason: null,
          after: null,
          limit: 1,
        })
      ).rejects[0],
    }),
    signal,
  );
  if (load.status === "working") {
    throw new ToolError("row_waits", "The row waits for a lock on the table.", {
      next: "Call get_load with this load_id; do not insert the row again before it has ended.",
      details: { load_id: started.loadId },
    });
  }
  if (load.error !== null) {
    const { code, message, retryable, next, details } = load.error;
    throw new ToolError(code, message, { retryable, details: { ...details }, ...(next === undefined ? {} : { next }) });
  }
  if (reject !== undefined) {
    throw new ToolError("row_rejected", `The row was rejected: ${reject.reason}.`, {
      next:
        reject.reason === "unique_violation"
          ? 'A row of this key exists: on_conflict:"update" changes it, "ignore" keeps it; else give another key.'
          : "Correct the value, and insert the row again.",
      details: {
        reason: reject.reason,
        column: reject.column_name,
        sqlstate: reject.sqlstate,
        database_message: clip(reject.message, 300),
      },
    });
  }
  const figures = figuresOf(load);
  const word = OUTCOMES.find((name) => figures[name] > 0);
  if (word === undefined) throw new Error(`load ${started.loadId} has one row and no outcome`);
  const stored = outcome?.stored[0];
  return {
    load_id: started.loadId,
    outcome: word,
    table: `${load.table_schema}.${load.table_name}`,
    ...(stored === undefined ? { row: null } : shown(stored)),
  };
}

/** The row with exact numbers; values that would not fit an answer are clipped and named. */
function shown(json: string): { row: Record<string, unknown>; cut?: string[] } {
  const row = z.record(z.string(), z.unknown()).parse(parseExactJson(json));
  const cut: string[] = [];
  for (const [column, value] of Object.entries(row)) {
    const text = typeof value === "string" ? value : JSON.stringify(value);
    if (text.length <= VALUE_CHARACTERS_MAX) continue;
    cut.push(column);
    row[column] = clip(text, VALUE_CHARACTERS_MAX);
  }
  return { row, ...(cut.length > 0 ? { cut } : {}) };
}
