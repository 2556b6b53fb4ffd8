export { proposeColumnName } from "./column-name.ts";
export { idProblem, newId } from "./ids.ts";
export * from "./manifest.ts";
export type { LineChunk, PartWriter } from "./part.ts";
export { proposeType, TYPE_ROWS, type TypeProposal } from "./postgres-type.ts";
export type { ExportReader } from "./reader.ts";
export { StagingError, type StagingErrorCode } from "./staging-error.ts";
export { type ManifestDraft, openStore, type StagingStore, type StoreOptions, type Survey } from "./store.ts";
export type { ExportWriter, ManifestChange } from "./writer.ts";
