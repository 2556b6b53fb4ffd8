import type { PromptDefinition } from "@es-to-pg/mcp-kit";
import type { PgContext } from "../tools/tool.ts";
import { explainRejects } from "./explain-rejects.ts";
import { resumeLoad } from "./resume-load.ts";
import { retryRejects } from "./retry-rejects.ts";

/** Prompts that need no tool that writes. */
const reading: readonly PromptDefinition<PgContext>[] = [explainRejects];

/** Every prompt of this server. */
export const prompts: readonly PromptDefinition<PgContext>[] = [...reading, retryRejects, resumeLoad];

/** The prompts of an access mode: in `read-only`, those that get along with the tools that are there. */
export function promptsOf(access: "read-write" | "read-only"): readonly PromptDefinition<PgContext>[] {
  return access === "read-write" ? prompts : reading;
}
