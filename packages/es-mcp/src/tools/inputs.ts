import { z } from "zod";

/** Fields that several tools take, so that a model learns each once. */

export const indexExpression = z
  .string()
  .min(1)
  .max(2_000)
  .describe("Index, alias, data stream or pattern; several by commas.");

export const includeHidden = z.boolean().optional().describe("Also hidden indices. Default false.");

export const queryDsl = z.record(z.string(), z.unknown()).optional().describe("Query DSL. Default: all documents.");

export const fieldPatterns = z.array(z.string().min(1).max(500)).min(1).max(200).optional();

export const cursor = z.string().min(1).optional().describe("next_cursor of the same call.");
