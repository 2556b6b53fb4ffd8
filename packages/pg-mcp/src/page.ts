import { jobPage } from "@es-to-pg/job-page";
import type { Page } from "@es-to-pg/mcp-kit";

/** What a person sees of loads. */
export const page: Page = {
  uri: "ui://pg-mcp/loads",
  name: "loads",
  title: "Loads",
  description: "How far a load is, how fast it goes, where every document went, and why some were rejected.",
  html: (endpoint) => jobPage("loads", endpoint),
};
