import type { PromptDefinition } from "@es-to-pg/mcp-kit";
import { indexNames } from "../completions.ts";
import type { EsContext } from "../tools/tool.ts";

export const transformIndex: PromptDefinition<EsContext> = {
  name: "transform_index",
  title: "Copy an index into PostgreSQL",
  description: "Copies documents of an index into a table, with the tools of es-mcp and pg-mcp, and proves the result.",
  arguments: [
    { name: "index", description: "index or data stream to copy", required: true, complete: indexNames },
    { name: "table", description: "table to copy into; the index's name if empty", required: false },
    { name: "documents", description: "which documents, in your words; all if empty", required: false },
    {
      name: "mode",
      description: "what happens to rows that are there; upsert if empty",
      required: false,
      complete: ["upsert", "append", "ignore", "replace"],
    },
  ],
  text: ({ index, table = index, documents, mode = "upsert" }) =>
    `Copy the Elasticsearch index ${JSON.stringify(index)} into the PostgreSQL table ${JSON.stringify(table)}, in mode ${mode}. Take ${
      documents === undefined ? "all documents" : `these documents only: ${documents}`
    }.

1. \`get_mapping\` and \`profile_index\` tell what the documents hold, \`get_schema\` whether the table is there and how it looks.
2. \`bulk_export\` stages the documents and answers a handle (exp_…). Rows never pass through this conversation. While it is working, call \`get_export\` with \`wait_seconds\`.
3. \`propose_mapping\` with that handle and the table answers a mapping (map_…) and what would be rejected. Tell me the plan in a few lines, and ask before you go on if a choice loses data.
4. \`create_table\` with the mapping if the table is missing, then \`bulk_insert\` with the handle, the mapping and the mode. While it is working, call \`get_load\` with \`wait_seconds\`.
5. \`verify_load\`, again while its verdict is working, then \`count_rows\`. Tell me the figures of the load, and what \`list_rejects\` says where documents were rejected.`,
};
