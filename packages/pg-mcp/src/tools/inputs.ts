import { z } from "zod";

/** Fields that several tools take, so that a model learns each once. */

export const tableName = z
  .string({
    error: ({ input }) => (input === undefined ? "is required (text); list_tables shows the names" : undefined),
  })
  .min(1);
