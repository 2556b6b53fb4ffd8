import { readFileSync } from "node:fs";

/** What a server's page shows: es-mcp has exports, pg-mcp loads. */
export type JobKind = "exports" | "loads";

/**
 * The page as one HTML document. With `endpoint`, the relative address of an MCP endpoint, it asks that endpoint, in a
 * browser; without, it asks the MCP client that shows it.
 */
export function jobPage(jobs: JobKind, endpoint = ""): string {
  if (!/^[\w\-./]*$/.test(endpoint)) throw new Error(`${endpoint} is not an address of an endpoint`);
  const page = readFileSync(new URL("./page.html", import.meta.url), "utf8");
  return page.replace('data-jobs="" data-endpoint=""', `data-jobs="${jobs}" data-endpoint="${endpoint}"`);
}
