import { clip, fitItems } from "@es-to-pg/mcp-kit";
import { z } from "zod";
import { defineTool } from "./tool.ts";

const LIST = { tool: "list_exports", arguments: {} };
const positionSchema = z.strictObject({ before: z.string() });

export const listExports = defineTool({
  name: "list_exports",
  title: "List staged exports",
  description:
    "Staged exports, newest first, with state, size and source. Use it to find a handle again or to see what fills staging.",
  input: z.strictObject({ cursor: z.string().optional().describe("next_cursor of the answer before.") }),
  output: z.object({
    exports: z.array(
      z.object({
        export_id: z.string(),
        status: z.string(),
        stalled: z.boolean().optional(),
        created_at: z.string(),
        index: z.string(),
        documents: z.int(),
        expected: z.int(),
        bytes: z.int(),
      }),
    ),
    returned: z.int(),
    total: z.int(),
    bytes_total: z.int(),
    bytes_max: z.int().nullable(),
    corrupt: z.array(z.object({ export_id: z.string(), message: z.string() })).optional(),
    next_cursor: z.string().optional(),
  }),
  annotations: { readOnlyHint: true, destructiveHint: false, idempotentHint: true, openWorldHint: false },
  onPage: true,
  async handler({ cursor }, context) {
    const store = await context.store();
    const [{ exports, corrupt }, usage] = await Promise.all([store.list(), store.usage()]);
    const before = cursor === undefined ? undefined : context.cursors.decode(LIST, cursor, positionSchema).before;
    const key = ({ created_at, export_id }: (typeof exports)[number]): string => `${created_at} ${export_id}`;
    const rest = exports.filter((manifest) => before === undefined || key(manifest) < before);
    const { items } = fitItems(
      rest.map((manifest) => {
        const [first] = manifest.source.indices;
        const others = manifest.source.indices.length - 1;
        return {
          export_id: manifest.export_id,
          status: manifest.status,
          ...(store.isStalled(manifest) ? { stalled: true } : {}),
          created_at: manifest.created_at,
          index: `${clip(first?.name ?? "", 120)}${others > 0 ? ` and ${others} more` : ""}`,
          documents: manifest.totals.documents,
          expected: manifest.source.expected,
          bytes: manifest.totals.bytes,
        };
      }),
    );
    const last = rest[items.length - 1];
    return {
      exports: items,
      returned: items.length,
      total: exports.length,
      bytes_total: usage.bytes,
      bytes_max: usage.bytesMax,
      ...(corrupt.length > 0
        ? { corrupt: corrupt.slice(0, 5).map(({ export_id, message }) => ({ export_id, message: clip(message, 200) })) }
        : {}),
      ...(items.length < rest.length && last !== undefined
        ? { next_cursor: context.cursors.encode(LIST, { before: key(last) }) }
        : {}),
    };
  },
});
