import { bulkExport } from "./bulk-export.ts";
import { cancelExport } from "./cancel-export.ts";
import { countDocuments } from "./count-documents.ts";
import { deleteExport } from "./delete-export.ts";
import { getDocument } from "./get-document.ts";
import { getExport } from "./get-export.ts";
import { getMapping } from "./get-mapping.ts";
import { listExports } from "./list-exports.ts";
import { listIndices } from "./list-indices.ts";
import { profileIndex } from "./profile-index.ts";
import { searchDocuments } from "./search-documents.ts";
import type { EsTool } from "./tool.ts";

/** Every tool of this server, in the order in which a model meets them. */
export const tools: readonly EsTool[] = [
  listIndices,
  getMapping,
  profileIndex,
  searchDocuments,
  getDocument,
  countDocuments,
  bulkExport,
  getExport,
  listExports,
  cancelExport,
  deleteExport,
];
