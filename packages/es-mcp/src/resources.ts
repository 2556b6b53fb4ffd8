import type { ResourceDefinition } from "@es-to-pg/mcp-kit";
import { exportIds, indexNames } from "./completions.ts";
import { getExport } from "./tools/get-export.ts";
import { getMapping } from "./tools/get-mapping.ts";
import type { EsContext } from "./tools/tool.ts";

/** What a user may put into a conversation by its address. */
export const resources: readonly ResourceDefinition<EsContext>[] = [
  {
    uriTemplate: "es://mapping/{index}",
    name: "mapping",
    title: "Mapping of an index",
    description: "The first page of an index's fields with types, as get_mapping answers it.",
    tool: getMapping,
    arguments: (index) => ({ index }),
    complete: indexNames,
    // A list of all indices costs a search each.
    listed: false,
  },
  {
    uriTemplate: "etl://export/{id}",
    name: "export",
    title: "Staged export",
    description: "State of a staged export, as get_export answers it.",
    tool: getExport,
    arguments: (id) => ({ export_id: id, wait_seconds: 0 }),
    complete: exportIds,
    listed: true,
  },
];
