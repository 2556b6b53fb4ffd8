import { fileURLToPath } from "node:url";

/** The root of the repository: this package is never published, so it always lies in one. */
export const repositoryRoot = fileURLToPath(new URL("../../../", import.meta.url));
