export * from "./catalog.ts";
export { AnswerTooLarge, type BatchStatement, failedStatement } from "./connection.ts";
export * from "./identifiers.ts";
export * from "./listing.ts";
export * from "./policy.ts";
export * from "./postgres.ts";
export * from "./posture.ts";
