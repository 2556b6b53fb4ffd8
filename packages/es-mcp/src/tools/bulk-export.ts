import { waitForJob, waitSeconds } from "@es-to-pg/mcp-kit";
import { EXPORT_ID, idProblem } from "@es-to-pg/staging";
import { z } from "zod";
import { expressionParts } from "../elasticsearch/expand.ts";
import { explainingQuery, unwrapped } from "../elasticsearch/query-mistakes.ts";
import { exportInline, INLINE_DOCUMENTS_MAX } from "../export/inline.ts";
import type { ExportRequest } from "../export/request.ts";
import { startExport } from "../export/start-export.ts";
import { describeExport, exportState, isSettled } from "../export/state.ts";
import { fieldPatterns, includeHidden, indexExpression, queryDsl } from "./inputs.ts";
import { defineTool } from "./tool.ts";

/** A date stands in a query; deletions and late writes are why a watermark is better. */
const sinceExport = z.string().regex(EXPORT_ID, {
  error: ({ input }) =>
    /^\d{4}-\d{2}/.test(String(input))
      ? `${idProblem("exp", input)}; a date goes into query: {"range":{"<date field>":{"gte":"${String(input).slice(0, 30)}"}}}`
      : idProblem("exp", input),
});

export const bulkExport = defineTool({
  name: "bulk_export",
  title: "Export documents to staging",
  description:
    "Copies all matching documents, exactly, from one consistent snapshot into staging and answers a handle (exp_…) for pg-mcp. The same call finds a running export and resumes a stopped one. Next: get_export, then propose_mapping of pg-mcp.",
  input: z.strictObject({
    index: indexExpression,
    query: queryDsl,
    fields: fieldPatterns.describe("Only these paths or globs."),
    max_documents: z.int().min(1).optional().describe("Stop after so many documents."),
    include_hidden: includeHidden,
    since: sinceExport.optional().describe("Only what was written since that export. Deletions are not seen."),
    delivery: z
      .enum(["staged", "inline"])
      .default("staged")
      .describe(`inline: the documents themselves, at most ${INLINE_DOCUMENTS_MAX}.`),
    fresh: z.boolean().default(false).describe("A new export even if an equal one is there."),
    wait_seconds: waitSeconds,
  }),
  output: exportState.partial().extend({
    documents: z.union([z.int(), z.array(z.unknown())]).optional(),
    total: z.int().optional(),
    returned: z.int().optional(),
  }),
  annotations: { readOnlyHint: false, destructiveHint: false, idempotentHint: true, openWorldHint: false },
  onPage: true,
  async handler(params, context) {
    const request: ExportRequest = {
      index: expressionParts(params.index),
      query: unwrapped(params.query),
      fields: params.fields,
      maxDocuments: params.max_documents,
      includeHidden: params.include_hidden ?? false,
      since: params.since,
    };
    const { elasticsearch, jobs, logger, signal } = context;
    if (params.delivery === "inline") {
      const { documents, total } = await explainingQuery(request.query, () =>
        exportInline(elasticsearch, request, signal),
      );
      return { documents, returned: documents.length, total };
    }
    const store = await context.store();
    const slicesAtOnce = context.settings.ES_MCP_SLICES_AT_ONCE;
    const started = await explainingQuery(request.query, () =>
      startExport({ elasticsearch, store, jobs, logger, slicesAtOnce }, request, { fresh: params.fresh, signal }),
    );
    const manifest = await waitForJob({
      read: () => store.read(started.exportId),
      isDone: (state) => isSettled(store, state),
      waitSeconds: params.wait_seconds ?? context.settings.MCP_WAIT_SECONDS_DEFAULT,
      call: context,
      end: jobs.end(started.exportId),
      progress: ({ totals, source }) => ({ done: totals.documents, total: source.expected }),
    });
    return describeExport(store, manifest, started);
  },
});
