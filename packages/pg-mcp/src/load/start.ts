import { hostname } from "node:os";
import { clip, digest, ToolError } from "@es-to-pg/mcp-kit";
import { type FieldProfile, type Manifest, type MappingField, newId } from "@es-to-pg/staging";
import { z } from "zod";
import type { Mapping } from "../mapping/mapping.ts";
import type { LoadPlan } from "../mapping/plan.ts";
import { resolveMapping } from "../mapping/resolve.ts";
import { resolveMappingReference } from "../mapping/store.ts";
import { mustNotBeState, quoteTable, requireTable, type Table, type Transaction } from "../postgres/index.ts";
import { mayWriteChildren } from "./children.ts";
import type { LoadContext } from "./context.ts";
import { openLedger } from "./ledger.ts";
import { confirmNeeded, type MergeOutcome } from "./merge.ts";
import type { LoadMode } from "./plan-sql.ts";
import { questionBefore } from "./question.ts";
import { openRejects, type RejectLimits } from "./rejects.ts";
import { type LoadJob, runLoad } from "./run.ts";
import {
  exportSource,
  hasEndedEarly,
  type LoadSource,
  mustBeUsable,
  readingOwnNames,
  rowFields,
  rowsSource,
  withOwnNames,
} from "./source.ts";
import { ensureState } from "./state.ts";
import type { SourceIndices } from "./strategy.ts";
import { sweepState } from "./sweep.ts";

/** An equal call within this time after the end answers the finished load: the client may have missed the answer. */
const REUSE_SECONDS = 120;
/** How long the token of a dry run confirms a replace. */
const CONFIRM_SECONDS = 3600;
/** How long a start waits for the transaction of a holder that has died. */
const TAKEOVER_WAIT_MS = 3_000;

export interface LoadRequest {
  table: string;
  schema?: string | undefined;
  /** Rows of the call itself, or the export to load. */
  rows?: readonly Record<string, unknown>[] | undefined;
  exportId?: string | undefined;
  /** A completed load whose rejects are tried again, best with another mapping. */
  rejectsOf?: string | undefined;
  /** As the tool takes it: an id, an id with changes, or a mapping. */
  mapping?: unknown;
  key?: readonly string[] | undefined;
  mode: LoadMode;
  limits: RejectLimits;
  deleteRatioMax: number;
  confirm?: string | undefined;
  confirmPartial: boolean;
  /** Loads what there is of an export that has failed or was cancelled. */
  allowPartial: boolean;
  overrideIdentity: boolean;
  dryRun: boolean;
  repeat: boolean;
  fresh: boolean;
  /** Not to be taken for an equal call: two equal rows are two rows. */
  unique?: boolean;
  /** Only takes this stalled load over, and starts none. */
  resumes?: string;
  storedRowsMax: number;
}

/** Names this process for people who read the state. */
export function ownerName(): string {
  return `${hostname()}/${process.pid}`;
}

export interface StartedLoad {
  loadId: string;
  /** The call found a finished load of the same arguments. */
  reused: boolean;
  /** An append of this export into this table was completed before. */
  alreadyLoaded: boolean;
  /** Settles when this process has ended its work on the load. */
  ended: Promise<MergeOutcome | undefined>;
  /** Settles when the load's row says how it ended, if this call has started it. */
  recorded?: Promise<void>;
}

/**
 * Starts a load, or finds the one that the same arguments have started: while it works, within two minutes of its end,
 * and for an append ever after. A stalled load is taken over and goes on from its ledger.
 */
export async function startLoad(context: LoadContext, given: LoadRequest, signal: AbortSignal): Promise<StartedLoad> {
  const { postgres, settings, jobs } = context;
  const stateSchema = settings.PG_MCP_STATE_SCHEMA;
  const ledger = openLedger(stateSchema);
  await postgres.write((tx) => ensureState(tx, stateSchema), { signal });
  const request = given.rejectsOf === undefined ? given : await replayRequest(context, given, given.rejectsOf, signal);
  if (request.table === "") {
    throw new ToolError("invalid_arguments", "The table is missing.", { next: "Pass table; list_tables shows them." });
  }
  const source = await lookAtSource(context, request);
  // A row of a call shall not wait for the housekeeping.
  if (request.exportId !== undefined) {
    await sweepState(context, signal).catch((error: unknown) => {
      signal.throwIfAborted();
      context.logger.warn("sweep_failed", { error: String(error) });
    });
  }

  // The writer's eyes: row security and rights are those of the role that loads.
  const plan = await postgres.write((tx) => planLoad(tx, context, request, source), { signal });
  const loadId = newId("load");
  const isWhole = request.rejectsOf === undefined;
  const identity = { ...identityOf(plan, request), ...(request.unique ? { unique: loadId } : {}) };
  const loadDigest = digest({ ...identity, dry_run: request.dryRun });
  const owner = ownerName();

  const decision = await postgres.write(
    async (
      tx,
    ): Promise<{ loadId: string; epoch?: number; reused?: true; alreadyLoaded?: true; deletesMax?: number | null }> => {
      const working = await ledger.findWorking(tx, loadDigest);
      if (request.resumes !== undefined && request.resumes !== working?.load_id) {
        const { status } = await ledger.read(tx, request.resumes);
        if (status !== "working") return { loadId: request.resumes };
        throw new ToolError("load_changed", "The call that started the load would mean another one now.", {
          next: "Its table was changed or made anew, or the database was restored. Cancel the load with cancel_load, and load the export again.",
        });
      }
      if (working !== undefined) {
        if (!working.stalled || jobs.isRunning(working.load_id)) return { loadId: working.load_id };
        const holder = await ledger.takeOver(tx, working.load_id, owner);
        const deletesMax = z.number().nullable().catch(null).parse(working.arguments["confirmed"]);
        return holder === undefined ? { loadId: working.load_id } : { ...holder, deletesMax };
      }
      if (
        !request.repeat &&
        request.mode === "append" &&
        request.exportId !== undefined &&
        !request.dryRun &&
        isWhole
      ) {
        const appended = await ledger.findAppended(tx, request.exportId, plan.table);
        if (appended !== undefined) {
          return {
            loadId: appended.load_id,
            reused: true,
            ...(appended.status === "completed" ? { alreadyLoaded: true } : {}),
          };
        }
      }
      if (!request.fresh && !request.repeat) {
        // An append of rejects must not come twice either, and is known by its arguments.
        const isAppend = request.mode === "append" && request.rejectsOf !== undefined && !request.dryRun;
        const reuseSeconds = isAppend ? settings.PG_MCP_RETENTION_DAYS * 86_400 : REUSE_SECONDS;
        const finished = await ledger.findCompleted(tx, loadDigest, reuseSeconds);
        if (finished !== undefined) return { loadId: finished.load_id, reused: true };
      }
      const dryDigest = digest({ ...identity, dry_run: true });
      const deletesMax = await confirmedDeletes(tx, context, request, plan, dryDigest);
      if (!request.dryRun && context.confirm !== undefined) {
        const rejected = (await ledger.findCompleted(tx, dryDigest, CONFIRM_SECONDS))?.rejected;
        const question = questionBefore(plan, { request, deletesMax, rejected, expected: source.expected });
        // The answer is out when this throws: the transaction is undone, and the call comes again with it.
        if (question !== undefined) context.confirm(question);
      }
      const created = await ledger.create(tx, {
        loadId,
        owner,
        exportId: request.exportId ?? null,
        tableOid: plan.table.oid,
        schema: plan.table.schema,
        table: plan.table.table,
        mode: request.mode,
        dryRun: request.dryRun,
        digest: loadDigest,
        arguments: { ...identity, dry_run: request.dryRun, confirmed: deletesMax },
        mapping: plan.mapping,
        warnings: warningsOf(plan, request),
        expected: source.expected,
      });
      if (created) return { loadId, epoch: 1, deletesMax };
      // An equal call was faster; its row is there, as ON CONFLICT waited for its commit.
      const other = await ledger.findWorking(tx, loadDigest);
      if (other !== undefined) return { loadId: other.load_id };
      throw new ToolError("load_busy", "An equal load started and ended at the same moment.", {
        retryable: true,
        next: "Make the same call again.",
      });
    },
    { signal, lockTimeoutMs: TAKEOVER_WAIT_MS },
  );

  const { epoch } = decision;
  let ended: Promise<MergeOutcome | undefined> = Promise.resolve(undefined);
  let recorded: Promise<void> | undefined;
  if (epoch !== undefined) {
    const record = Promise.withResolvers<void>();
    recorded = record.promise;
    const job: LoadJob = {
      onRecorded: () => record.resolve(),
      postgres,
      ledger,
      rejects: openRejects(stateSchema),
      stateSchema,
      holder: { loadId: decision.loadId, epoch },
      plan,
      mode: request.mode,
      dryRun: request.dryRun,
      limits: request.limits,
      deleteRatioMax: request.deleteRatioMax,
      deletesMax: decision.deletesMax ?? null,
      storedRowsMax: request.storedRowsMax,
      replayOf: request.rejectsOf ?? null,
      indices: source.indices,
      partsAtOnce: settings.PG_MCP_PARTS_AT_ONCE,
      isSmall: request.rows !== undefined,
      openSource: () => source.open(decision.loadId),
      ...(context.onLoadStep === undefined ? {} : { onStep: context.onLoadStep }),
      onLost: () => context.logger.warn("load_lease_lost", { load_id: decision.loadId }),
      onInternalError: (error) =>
        context.logger.error("load_failed", { load_id: decision.loadId, error: String(error), stack: stackOf(error) }),
    };
    ended = new Promise((resolve) => {
      jobs.start(decision.loadId, async (jobSignal) => {
        const outcome = await runLoad(job, jobSignal);
        record.resolve();
        resolve(outcome);
      });
    });
  }
  return {
    loadId: decision.loadId,
    reused: decision.reused === true,
    alreadyLoaded: decision.alreadyLoaded === true,
    ended,
    ...(recorded === undefined ? {} : { recorded }),
  };
}

/** A replay is a load of the same export into the same table; mapping and key stay as they were unless given. */
async function replayRequest(
  { postgres, settings }: LoadContext,
  request: LoadRequest,
  rejectsOf: string,
  signal: AbortSignal,
): Promise<LoadRequest> {
  const ledger = openLedger(settings.PG_MCP_STATE_SCHEMA);
  const load = await postgres.write((tx) => ledger.read(tx, rejectsOf), { signal });
  const refuse = (why: string, next: string): never => {
    throw new ToolError("not_replayable", why, { next, details: { rejects_of: rejectsOf } });
  };
  if (request.rows !== undefined || request.exportId !== undefined) {
    refuse("rejects_of stands alone: it names export and table.", "Leave rows and export_id out.");
  }
  if (load.export_id === null)
    refuse("Rows of a call are not staged.", "Correct the rejected rows and send them again.");
  if (load.status !== "completed" || load.dry_run) {
    refuse("Only a completed load has rejects to try again.", "Call bulk_insert with export_id.");
  }
  if (request.mode === "replace")
    refuse("replace needs the whole export.", "Use the mode of the first load, or upsert.");
  const key = z.array(z.string()).parse(load.arguments["key"]);
  return {
    ...request,
    table: load.table_name,
    schema: load.table_schema,
    exportId: load.export_id ?? undefined,
    mapping: request.mapping ?? load.mapping,
    key: request.key ?? (key.length === 0 ? undefined : key),
  };
}

function stackOf(error: unknown): string | undefined {
  return error instanceof Error ? error.stack : undefined;
}

interface Source {
  fields: MappingField[];
  profile: FieldProfile[];
  expected: number;
  /** Null for the rows of a call. */
  indices: SourceIndices | null;
  open: (loadId: string) => Promise<LoadSource>;
}

/** Reads what the plan needs of the source, and refuses a source that a load cannot end with. */
async function lookAtSource(context: LoadContext, request: LoadRequest): Promise<Source> {
  const { rows, exportId } = request;
  if ((rows === undefined) === (exportId === undefined)) {
    throw new ToolError("invalid_arguments", "Give one of rows, export_id and rejects_of.", {
      next: "Pass export_id from bulk_export, or rows for at most 1000 small rows.",
    });
  }
  if (rows !== undefined) {
    const own = withOwnNames(rows);
    const open = async () => rowsSource(own);
    return { fields: rowFields(own), profile: [], indices: null, expected: rows.length, open };
  }
  const id = exportId ?? "";
  const store = await context.store();
  const manifest = await store.read(id);
  const isPartial = request.allowPartial && hasEndedEarly(manifest);
  if (!isPartial) mustBeUsable(manifest, store.isStalled(manifest));
  if (request.mode === "replace" && !request.confirmPartial) refusePartial(manifest);
  return {
    fields: manifest.mapping,
    profile: manifest.profile,
    indices: manifest.source.indices,
    expected: isPartial ? manifest.totals.documents : manifest.source.expected,
    open: (loadId) => exportSource(store, id, loadId, request.allowPartial),
  };
}

/** `replace` by a part of the source removes the rest from the table, which is seldom meant. */
function refusePartial(manifest: Manifest): void {
  const { source } = manifest;
  const query: unknown = source.query;
  const isWhole =
    query === null ||
    query === undefined ||
    (typeof query === "object" && Object.keys(query).every((name) => name === "match_all"));
  const why = hasEndedEarly(manifest)
    ? `it is ${manifest.status}`
    : source.max_documents !== null
      ? "max_documents"
      : source.since !== null
        ? "since"
        : isWhole
          ? undefined
          : "query";
  if (why === undefined) return;
  throw new ToolError(
    "partial_source",
    `The export holds a part of the index (${why}), and replace removes the rest.`,
    {
      next: "Use mode upsert, or pass confirm_partial:true if the table shall hold this part only.",
      details: { restricted_by: why },
    },
  );
}

/** Checks mapping and table before a row moves. */
async function planLoad(
  tx: Transaction,
  { policy, settings }: LoadContext,
  request: LoadRequest,
  source: Source,
): Promise<LoadPlan> {
  const given =
    request.mapping === undefined
      ? request.rows && rowsMapping(request.rows, request.key)
      : await resolveMappingReference(tx, request.mapping, settings.PG_MCP_STATE_SCHEMA);
  const mapping = given !== undefined && request.rows !== undefined ? readingOwnNames(given, request.rows) : given;
  const table = await requireTable(tx, { table: request.table, schema: request.schema }, policy);
  mustNotBeState(table, settings.PG_MCP_STATE_SCHEMA);
  mustHaveNoRules(table);
  const plan = await resolveMapping({
    tx,
    mapping,
    table,
    fields: source.fields,
    profile: source.profile,
    key: request.key,
    expressions: { functionsAllow: settings.PG_MCP_ALLOW_FUNCTIONS, repeatable: true },
    identity: request.overrideIdentity ? "override" : undefined,
    policy,
  });
  await mustBeAllowed(tx, plan, request.mode);
  await mayWriteChildren(tx, plan, { mode: request.mode, stateSchema: settings.PG_MCP_STATE_SCHEMA });
  if ((request.mode === "upsert" || request.mode === "ignore") && plan.key.length === 0) {
    const why = table.primaryKey === null ? "the table has no primary key" : "nothing feeds the table's primary key";
    throw new ToolError("no_unique_key", `${request.mode} needs a key, and ${why}.`, {
      next:
        table.primaryKey === null
          ? "Pass key with the columns of a unique index, create one, or use mode append."
          : 'Map the primary key (an identity column with identity:"override"), pass key, or use mode append.',
      details: {
        uniques: table.uniques.map(({ name, columns }) => ({ name, columns })),
        ...(table.primaryKey === null ? {} : { primary_key: table.primaryKey }),
        sql: `CREATE UNIQUE INDEX ON ${quoteTable(table)} (…);`,
      },
    });
  }
  return plan;
}

/** PostgreSQL refuses the statements of a load on a table with rules, or rewrites them into something uncounted. */
function mustHaveNoRules(table: Table): void {
  if (table.rules.length === 0) return;
  throw new ToolError("rules_on_table", "The table has rules, which would rewrite what a load does.", {
    next: "Put a trigger in the place of each rule, or load into another table.",
    details: { table: `${table.schema}.${table.table}`, rules: table.rules.slice(0, 20) },
  });
}

/** Rights that are missing now would end the load after its parts are staged. */
async function mustBeAllowed(tx: Transaction, { table }: LoadPlan, mode: LoadMode): Promise<void> {
  const needed = ["SELECT", "INSERT"];
  if (mode === "upsert" || mode === "replace") needed.push("UPDATE");
  const { rows } = await tx.query(
    `SELECT p FROM unnest($2::text[]) AS p WHERE NOT has_any_column_privilege($1::oid, p)
     UNION ALL SELECT 'DELETE' WHERE $3 AND NOT has_table_privilege($1::oid, 'DELETE')`,
    [table.oid, needed, mode === "replace"],
  );
  const missing = rows.map(([privilege]) => String(privilege));
  if (missing.length === 0) return;
  throw new ToolError("permission_denied", `The server's role may not ${missing.join(", ")} on the table.`, {
    next: "Have the table's owner run the statement in sql, or load as a role that may.",
    details: { missing, sql: `GRANT ${missing.join(", ")} ON ${quoteTable(table)} TO <the server's role>` },
  });
}

/**
 * Rows of a call name the columns themselves, so that a misspelt one is an error. A column that only some rows name
 * keeps its value, or takes its default, in the others.
 */
function rowsMapping(rows: readonly Record<string, unknown>[], key: readonly string[] | undefined): Mapping {
  const names = new Set(rows.flatMap((row) => Object.keys(row)));
  return {
    columns: [...names].map((column) =>
      rows.every((row) => column in row) || key?.includes(column) === true
        ? { column }
        : { column, on_missing: "keep" as const },
    ),
  };
}

/** The arguments that define what a load does, and so which calls are the same. */
function identityOf(plan: LoadPlan, request: LoadRequest): Record<string, unknown> {
  return {
    table_oid: plan.table.oid,
    table: `${plan.table.schema}.${plan.table.table}`,
    export_id: request.exportId ?? null,
    ...(request.rejectsOf === undefined ? {} : { rejects_of: request.rejectsOf }),
    rows: request.rows === undefined ? null : digest(request.rows),
    mapping: digest(plan.mapping),
    key: plan.key,
    mode: request.mode,
    on_error: request.limits.onError,
    max_rejects: request.limits.rejectsMax,
    max_reject_ratio: request.limits.rejectRatioMax,
    max_delete_ratio: request.deleteRatioMax,
    identity: request.overrideIdentity ? "override" : null,
    ...(request.allowPartial ? { allow_partial: true } : {}),
  };
}

/** The token by which a dry run of the same arguments confirms a replace. */
export function confirmToken(loadId: string, loadDigest: string): string {
  return `confirm_${digest([loadId, loadDigest]).slice(0, 20)}`;
}

/** How many rows `replace` may remove: those that the user was shown. Null: none was shown, and the table is empty. */
async function confirmedDeletes(
  tx: Transaction,
  { settings }: LoadContext,
  request: LoadRequest,
  plan: LoadPlan,
  dryDigest: string,
): Promise<number | null> {
  if (request.mode !== "replace" || request.dryRun) return null;
  if (request.confirm !== undefined) {
    const dry = await openLedger(settings.PG_MCP_STATE_SCHEMA).findCompleted(tx, dryDigest, CONFIRM_SECONDS);
    if (dry !== undefined && confirmToken(dry.load_id, dry.digest) === request.confirm) return dry.deleted;
    throw new ToolError("confirm_mismatch", "The confirm token is not that of the latest dry run of these arguments.", {
      next: "Repeat the call with dry_run:true (and fresh:true), and pass the token it answers.",
      instead: { arguments: { confirm: undefined, dry_run: true, fresh: true } },
    });
  }
  const { rows } = await tx.query(`SELECT EXISTS (SELECT 1 FROM ${quoteTable(plan.table)})`);
  if (rows[0]?.[0] === true) throw confirmNeeded(null);
  return null;
}

/** Fields that a warning names; the answer stays small however many there are. */
const NAMED_FIELDS_MAX = 5;

/** What a person should know before the figures: everything of the target's own that can touch the rows. */
function warningsOf({ table, unmapped }: LoadPlan, request: LoadRequest): string[] {
  const warnings: string[] = [];
  if (unmapped.length > 0) {
    warnings.push(`${namesOf(unmapped)}: in the documents, and in no column; propose_mapping offers the columns`);
  }
  if (table.triggers.length > 0) {
    warnings.push(`${table.triggers.length} triggers run on the target; rows they swallow count as suppressed`);
  }
  if (request.dryRun) warnings.push("a dry run takes locks, advances sequences and runs triggers, then rolls back");
  return warnings;
}

/** The first names of a list, and how many there are besides. */
function namesOf(paths: readonly string[]): string {
  const named = paths.slice(0, NAMED_FIELDS_MAX).map((path) => clip(path, 60));
  const others = paths.length - named.length;
  return others === 0 ? named.join(", ") : `${named.join(", ")} and ${others} more`;
}
