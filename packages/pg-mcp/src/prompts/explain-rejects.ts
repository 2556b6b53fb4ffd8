import type { PromptDefinition } from "@es-to-pg/mcp-kit";
import type { PgContext } from "../tools/tool.ts";
import { loadArgument } from "./load-argument.ts";

export const explainRejects: PromptDefinition<PgContext> = {
  name: "explain_rejects",
  title: "Explain rejected documents",
  description: "Says why documents of a load were rejected and what would let them in. Changes nothing.",
  arguments: [loadArgument],
  text: ({ load_id: load }) =>
    `Explain why documents of the load ${load} were rejected.

\`get_load\` tells its figures and its table. \`list_rejects\` tells how many documents were rejected for each reason, with document ids, columns and clipped values; read some of each \`reason\`.

Tell me for each reason how many there are, what their values have in common, and the smallest change that would let them in: another type or length of the column, another value for bad or missing ones, an expression, a correction in Elasticsearch. Say what each change would lose. Change nothing.`,
};
