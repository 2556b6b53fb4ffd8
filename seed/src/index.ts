export { createProductsTable, createSampleDatabase } from "./database.ts";
export { type DirtKind, type DirtOutcome, dirtAt, dirtKinds, dirtPeriod, expectedOutcome } from "./dirt.ts";
export { type ElasticsearchRequest, request as requestElasticsearch } from "./elasticsearch.ts";
export { type GenerateOptions, generateDocument, generateDocuments, productId, type SeedDocument } from "./generate.ts";
export { fifteenProducts, type Seeded, type SeedOptions, seedProducts } from "./seed-products.ts";
