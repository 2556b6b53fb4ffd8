import { z } from "zod";
import { toldByEnvelope } from "./envelope.ts";

/** A page for people. Clients that can show it beside the answers of tools, and `--http` serves it at `/`. */
export interface Page {
  /** Its address among the server's resources, `ui://…`. */
  uri: string;
  name: string;
  title: string;
  description: string;
  /**
   * The whole document, which loads nothing from anywhere. With the address of an MCP endpoint, relative to its own, it
   * asks that endpoint; without one, it asks the client that shows it.
   */
  html(endpoint?: string): string;
}

/** The protocol's extension for pages: MCP Apps, SEP-1865, in its version of 2026-01-26. */
export const PAGES_EXTENSION = "io.modelcontextprotocol/ui";

const PAGE_MIME_TYPE = "text/html;profile=mcp-app";

const extensionsSchema = z.object({ extensions: z.record(z.string(), z.unknown()).optional() });
const settingsSchema = z.object({ mimeTypes: z.array(z.string()) });

/**
 * Whether a client is told of pages: one that says it shows them, and one that the protocol lets say nothing, which is
 * any of the 2025 generation over HTTP without sessions. To a client that shows none, the mention means nothing.
 */
export function showsPages(envelope: object | undefined, initialized: object | undefined): boolean {
  const capabilities = toldByEnvelope(envelope, "clientCapabilities") ?? initialized;
  if (capabilities === undefined) return true;
  const parsed = extensionsSchema.safeParse(capabilities);
  const settings = settingsSchema.safeParse(parsed.data?.extensions?.[PAGES_EXTENSION]);
  return settings.data?.mimeTypes.includes(PAGE_MIME_TYPE) ?? false;
}

/** What a tool says of the page that shows its answers. */
export function toolMeta({ uri }: Pick<Page, "uri">): { ui: { resourceUri: string } } {
  return { ui: { resourceUri: uri } };
}

/** The page as `resources/list` shows it. */
export function publishedPage({ uri, name, title, description }: Page) {
  return { uri, name, title, description, mimeType: PAGE_MIME_TYPE, _meta: pageMeta };
}

/** The page as `resources/read` answers it. */
export function pageContents(page: Page) {
  return { contents: [{ uri: page.uri, mimeType: PAGE_MIME_TYPE, text: page.html(), _meta: pageMeta }] };
}

/** No origin but its own: the client's policy then lets it reach nothing. */
const pageMeta = {
  ui: {
    csp: { connectDomains: [], resourceDomains: [], frameDomains: [], baseUriDomains: [] },
    prefersBorder: true,
  },
};
