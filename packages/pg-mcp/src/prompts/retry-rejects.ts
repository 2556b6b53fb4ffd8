import type { PromptDefinition } from "@es-to-pg/mcp-kit";
import type { PgContext } from "../tools/tool.ts";
import { loadArgument } from "./load-argument.ts";

export const retryRejects: PromptDefinition<PgContext> = {
  name: "retry_rejects",
  title: "Load rejected documents again",
  description: "Corrects the mapping of a load and loads only the documents that stayed out.",
  arguments: [loadArgument],
  text: ({ load_id: load }) =>
    `Load the documents that the load ${load} rejected.

1. \`list_rejects\` tells the reasons, columns and values. Find the smallest change of the mapping that lets them in.
2. Tell me the change and what it loses, and wait for my answer.
3. \`bulk_insert\` with \`rejects_of\` ${load} and the changed mapping loads only those documents. Do a \`dry_run\` first.
4. Tell me its figures, and what \`list_rejects\` says of the new load where documents stayed out again.`,
};
