export { servers } from "./description.ts";
export { attachmentFiles } from "./files.ts";
export { type Packed, packServers } from "./pack.ts";
export { attachmentsSection } from "./readme.ts";
