import { clip, fitItems, suggesting, ToolError } from "@es-to-pg/mcp-kit";
import { exportIdSchema, type Manifest, type MappingField, newId, type StagingStore } from "@es-to-pg/staging";
import { z } from "zod";
import { ensureState } from "../load/state.ts";
import { findTarget, targetName } from "../mapping/ddl.ts";
import {
  type ColumnVerdict,
  FORECAST_DOCUMENTS_MAX,
  type Proposal,
  proposeMapping as propose,
} from "../mapping/propose.ts";
import { saveMapping } from "../mapping/store.ts";
import { tableName, typesByName } from "./inputs.ts";
import { defineTool } from "./tool.ts";

/** Bytes of documents that a forecast holds in memory. */
const sampleBytesMax = 16 * 1024 * 1024;
/** Bytes of the answer's parts; together they stay below the answer's target. */
const verdictBytesMax = 3_000;
const listBytesMax = 600;
const childBytesMax = 1_500;
const ddlCharactersMax = 1_200;

const verdict = z.object({
  column: z.string(),
  from: z.string().optional(),
  field_type: z.string().optional(),
  type: z.string(),
  verdict: z.enum(["ok", "widened", "will_reject", "may_reject", "rounds"]),
  rejects: z.number().optional(),
  reason: z.string().optional(),
  fix: z.record(z.string(), z.unknown()).optional(),
  alternative: z.record(z.string(), z.unknown()).optional(),
});

export const proposeMapping = defineTool({
  name: "propose_mapping",
  title: "Propose a mapping",
  description:
    "Plans an export into a table that exists or not: stores the mapping as map_…, forecasts rejects per column with the setting that saves them, gives the DDL. Next: create_table, then bulk_insert.",
  input: z.strictObject({
    export_id: exportIdSchema.optional().describe("From bulk_export."),
    fields: suggesting(
      z
        .array(z.strictObject({ path: z.string(), type: z.string(), format: z.string().optional() }))
        .min(1)
        .max(2000),
      typesByName("path"),
    )
      .optional()
      .describe("Instead: fields as get_mapping lists them."),
    table: tableName.describe("Table name, or schema.table."),
    schema: z.string().optional(),
  }),
  output: z.object({
    mapping_id: z.string(),
    schema: z.string(),
    table: z.string(),
    table_exists: z.boolean(),
    key: z.array(z.string()),
    key_why: z.string(),
    documents: z.number().nullable(),
    sampled: z.number(),
    rejects_expected: z.number().nullable(),
    columns: z.array(verdict),
    columns_total: z.number(),
    columns_ok_left_out: z.number().optional(),
    columns_cut: z.number().optional(),
    problems: z
      .array(z.object({ code: z.string(), message: z.string(), details: z.record(z.string(), z.unknown()) }))
      .optional(),
    unmapped_fields: z.array(z.string()).optional(),
    unmapped_total: z.number().optional(),
    left_out: z.array(z.object({ field: z.string(), why: z.string() })).optional(),
    child_tables: z
      .array(z.object({ field: z.string(), changes: z.record(z.string(), z.unknown()) }))
      .optional()
      .describe("Nested fields as tables: changes for the mapping."),
    ddl: z.array(z.string()).optional(),
    next: z.string(),
  }),
  annotations: { readOnlyHint: false, destructiveHint: false, idempotentHint: false, openWorldHint: false },
  async handler(params, { postgres, policy, settings, store, signal }) {
    const source = await readSource(params, store, signal);
    const { PG_MCP_STATE_SCHEMA: stateSchema } = settings;
    const target = targetName(params, policy, stateSchema);
    return await postgres.write(
      async (tx) => {
        const table = await findTarget(tx, target, policy, stateSchema);
        const proposal = await propose({
          ...source,
          tx,
          table: table ?? target,
          expressions: { functionsAllow: settings.PG_MCP_ALLOW_FUNCTIONS },
        });
        await ensureState(tx, stateSchema);
        const place = table ?? target;
        const id = await saveMapping(tx, {
          mapping: proposal.mapping,
          exportId: params.export_id ?? null,
          table: { schema: place.schema, table: place.table },
          stateSchema,
        });
        return {
          mapping_id: id,
          schema: place.schema,
          table: place.table,
          table_exists: table !== undefined,
          documents: source.documents,
          ...shownProposal(proposal),
          next: nextStep(proposal, id, table !== undefined),
        };
      },
      { signal },
    );
  },
});

async function readSource(
  params: {
    export_id?: string | undefined;
    fields?: { path: string; type: string; format?: string | undefined }[] | undefined;
  },
  store: () => Promise<StagingStore>,
  signal: AbortSignal,
) {
  if ((params.export_id === undefined) === (params.fields === undefined)) {
    throw new ToolError("export_or_fields", "Give either export_id or fields.", {
      next: "bulk_export answers an export_id.",
    });
  }
  if (params.export_id === undefined) {
    const fields: MappingField[] = (params.fields ?? []).map(({ path, type, format }) => ({
      path,
      type,
      ...(format === undefined ? {} : { format }),
    }));
    return { fields, profile: [], indices: [], documents: null, sample: [] };
  }
  const reader = await (await store()).openReader(params.export_id, newId("load"));
  try {
    const { manifest } = reader;
    return {
      fields: manifest.mapping,
      profile: manifest.profile,
      indices: manifest.source.indices.map(({ name }) => name),
      documents: manifest.status === "working" ? manifest.source.expected : manifest.totals.documents,
      sample: await readSample(reader, manifest, signal),
    };
  } finally {
    await reader.close();
  }
}

async function readSample(
  reader: Awaited<ReturnType<StagingStore["openReader"]>>,
  manifest: Manifest,
  signal: AbortSignal,
): Promise<Buffer[]> {
  const sample: Buffer[] = [];
  let bytes = 0;
  for (const part of manifest.parts) {
    for await (const lines of reader.lines(part, { signal })) {
      for (const line of lines) {
        bytes += line.length;
        if (sample.length === FORECAST_DOCUMENTS_MAX || (bytes > sampleBytesMax && sample.length > 0)) return sample;
        sample.push(Buffer.from(line));
      }
    }
  }
  return sample;
}

/** The proposal within the answer's size: columns with a question first, those that are fine as far as there is room. */
function shownProposal(proposal: Proposal) {
  const doubtful = proposal.verdicts.filter(({ verdict: word }) => word !== "ok");
  const fine = proposal.verdicts.filter(({ verdict: word }) => word === "ok");
  const all = fitItems(proposal.verdicts.map(shownVerdict), { bytesMax: verdictBytesMax });
  const columns =
    all.cutBy === null
      ? all.items
      : fitItems([...doubtful, ...fine].map(shownVerdict), { bytesMax: verdictBytesMax }).items;
  const fineShown = all.cutBy === null ? fine.length : Math.max(0, columns.length - doubtful.length);
  const unmapped = fitItems(
    proposal.unmapped.map((path) => clip(path, 200)),
    { bytesMax: listBytesMax },
  ).items;
  const leftOut = fitItems(
    proposal.leftOut.map(({ field, why }) => ({ field: clip(field, 200), why: clip(why, 200) })),
    { bytesMax: listBytesMax },
  ).items;
  const children = fitItems(
    proposal.children.filter((offer) => JSON.stringify(offer).length <= childBytesMax),
    { bytesMax: childBytesMax },
  ).items.map(({ field, changes }) => ({ field, changes: { ...changes } }));
  return {
    key: proposal.key.columns,
    key_why: clip(proposal.key.why, 200),
    sampled: proposal.sampled,
    rejects_expected: proposal.rejectsExpected,
    columns,
    columns_total: proposal.mapping.columns.length,
    ...(fineShown < fine.length ? { columns_ok_left_out: fine.length - fineShown } : {}),
    ...(columns.length < doubtful.length ? { columns_cut: doubtful.length - columns.length } : {}),
    ...(proposal.problems.length > 0 ? { problems: proposal.problems } : {}),
    ...(proposal.unmapped.length > 0 ? { unmapped_fields: unmapped, unmapped_total: proposal.unmapped.length } : {}),
    ...(proposal.leftOut.length > 0 ? { left_out: leftOut } : {}),
    ...(children.length > 0 ? { child_tables: children } : {}),
    ...(proposal.ddl.length > 0
      ? { ddl: proposal.ddl.map((statement) => clip(statement.replaceAll(/\n\s*/g, " "), ddlCharactersMax)) }
      : {}),
  };
}

function shownVerdict({ from, ...rest }: ColumnVerdict) {
  return { ...rest, ...(from === rest.column ? {} : { from: clip(from, 200) }) };
}

function nextStep(proposal: Proposal, id: string, exists: boolean): string {
  if (proposal.problems.length > 0) return "Solve the problems, then propose again or pass a mapping of your own.";
  const amend = proposal.verdicts.some(({ verdict: word }) => word === "will_reject" || word === "may_reject")
    ? ` To save rejects: {"id":"${id}","changes":{"columns":[{"column":…, …fix}]}}.`
    : "";
  return `${exists ? "bulk_insert" : "create_table with this mapping, then bulk_insert"}.${amend}`;
}
