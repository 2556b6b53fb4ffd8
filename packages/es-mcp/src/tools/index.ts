import { bulkExport } from "./bulk-export.ts";
import { cancelExport } from "./cancel-export.ts";
import { deleteExport } from "./delete-export.ts";
import { getExport } from "./get-export.ts";
import { listExports } from "./list-exports.ts";
import { profileIndex } from "./profile-index.ts";
import type { EsTool } from "./tool.ts";

/** Every tool of this server, in the order in which a model meets them. */
export const tools: readonly EsTool[] = [profileIndex, bulkExport, getExport, listExports, cancelExport, deleteExport];
