import { countDocuments } from "./count-documents.ts";
import { getDocument } from "./get-document.ts";
import { getMapping } from "./get-mapping.ts";
import { listIndices } from "./list-indices.ts";
import { searchDocuments } from "./search-documents.ts";
import type { EsTool } from "./tool.ts";

/** Every tool of this server, in the order in which a model meets them. */
export const tools: readonly EsTool[] = [listIndices, getMapping, searchDocuments, getDocument, countDocuments];
