import type { PromptDefinition } from "@es-to-pg/mcp-kit";
import type { PgContext } from "../tools/tool.ts";
import { loadArgument } from "./load-argument.ts";

export const resumeLoad: PromptDefinition<PgContext> = {
  name: "resume_load",
  title: "Bring a load to its end",
  description: "Finds out where a load stands, lets it go on if it stands still, and proves its result.",
  arguments: [loadArgument],
  text: ({ load_id: load }) =>
    `Bring the load ${load} to its end.

Ask \`get_load\` for its state.

- While it is working, call \`get_load\` with \`wait_seconds\` until it has ended.
- If it is working and \`stalled\`, nobody works on it. The same \`bulk_insert\` call as before lets it go on where it stood; do not change its arguments. If you do not know all of them, ask me.
- If it is completed, \`verify_load\` proves it; call it again while its verdict is working. Tell me the figures.
- If it has failed or was cancelled, tell me why, what its figures say that was written, and what to do next. Start nothing without my word.`,
};
