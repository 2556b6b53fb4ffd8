import { jobPage } from "@es-to-pg/job-page";
import type { Page } from "@es-to-pg/mcp-kit";

/** What a person sees of exports. */
export const page: Page = {
  uri: "ui://es-mcp/exports",
  name: "exports",
  title: "Exports",
  description: "How far an export is, how fast it goes, and whether every document is staged.",
  html: (endpoint) => jobPage("exports", endpoint),
};
