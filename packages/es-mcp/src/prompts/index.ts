import type { PromptDefinition } from "@es-to-pg/mcp-kit";
import type { EsContext } from "../tools/tool.ts";
import { transformIndex } from "./transform-index.ts";

/** Every prompt of this server. */
export const prompts: readonly PromptDefinition<EsContext>[] = [transformIndex];
