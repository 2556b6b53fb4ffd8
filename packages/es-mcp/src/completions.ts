import { completionsFor } from "@es-to-pg/mcp-kit";
import { listExports } from "./tools/list-exports.ts";
import { listIndices } from "./tools/list-indices.ts";
import type { EsContext } from "./tools/tool.ts";

const completeWith = completionsFor<EsContext>();

/** Indices and data streams whose names begin with what is typed. */
export const indexNames = completeWith(
  listIndices,
  (typed) => ({ pattern: `${typed}*` }),
  ({ indices }) => indices.map(({ name }) => name),
);

/** Staged exports, newest first. */
export const exportIds = completeWith(
  listExports,
  () => ({}),
  ({ exports }) => exports.map(({ export_id }) => export_id),
);
