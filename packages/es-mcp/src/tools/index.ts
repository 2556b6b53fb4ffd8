import type { EsTool } from "./tool.ts";

/** Every tool of this server, in the order in which a model meets them. */
export const tools: readonly EsTool[] = [];
