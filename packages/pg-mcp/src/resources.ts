import type { ResourceDefinition } from "@es-to-pg/mcp-kit";
import { loadIds, tableNames } from "./completions.ts";
import { getLoad } from "./tools/get-load.ts";
import { getSchema } from "./tools/get-schema.ts";
import type { PgContext } from "./tools/tool.ts";

/** What a user may put into a conversation by its address. Nothing is listed: a client that starts needs no database. */
export const resources: readonly ResourceDefinition<PgContext>[] = [
  {
    uriTemplate: "pg://schema/{table}",
    name: "schema",
    title: "Schema of a table",
    description: "Columns, keys and indexes of a table or view (name or schema.name), as get_schema answers them.",
    tool: getSchema,
    arguments: (table) => ({ table }),
    complete: tableNames,
    listed: false,
  },
  {
    uriTemplate: "etl://load/{id}",
    name: "load",
    title: "Load",
    description: "State, figures and first rejects of a load, as get_load answers it.",
    tool: getLoad,
    arguments: (id) => ({ load_id: id, wait_seconds: 0 }),
    complete: loadIds,
    listed: false,
  },
];
