export { type BatchStatement, failedStatement } from "./batch.ts";
export * from "./catalog.ts";
export { AnswerTooLarge } from "./connection.ts";
export * from "./identifiers.ts";
export * from "./listing.ts";
export * from "./policy.ts";
export * from "./postgres.ts";
export * from "./posture.ts";
export type { BatchAnswer, QueryResult, Transaction } from "./session.ts";
