import { completionsFor } from "@es-to-pg/mcp-kit";
import { listLoadsTool } from "./tools/list-loads.ts";
import { listTablesTool } from "./tools/list-tables.ts";
import type { PgContext } from "./tools/tool.ts";

const completeWith = completionsFor<PgContext>();

/** Tables and views, by `schema.table`: those whose names begin with what is typed, or all of a schema that is typed with its dot. */
export const tableNames = completeWith(
  listTablesTool,
  (typed) => ({ pattern: `${typed}*` }),
  ({ tables }) => tables.map(({ schema, table }) => `${schema}.${table}`),
);

/** Loads, newest first. */
export const loadIds = completeWith(
  listLoadsTool,
  () => ({}),
  ({ loads }) => loads.map(({ load_id }) => load_id),
);
