import { Buffer } from "node:buffer";
import { suggesting } from "@es-to-pg/mcp-kit";
import { z } from "zod";

/** Rows of one call: beyond it a staged export is the way, as rows in a call pass through the model. */
const INLINE_ROWS_MAX = 1_000;
const INLINE_BYTES_MAX = 1024 * 1024;

/** Rows as a call gives them; each names its columns, or the paths of a mapping. */
const rowList = z
  .array(z.record(z.string(), z.unknown()))
  .min(1, "is empty; give at least one row, or export_id")
  .max(INLINE_ROWS_MAX, `at most ${INLINE_ROWS_MAX} rows in one call; stage more with bulk_export`)
  .refine(
    (rows) => Buffer.byteLength(JSON.stringify(rows)) <= INLINE_BYTES_MAX,
    "at most 1 MiB of rows in one call; stage more with bulk_export",
  );

/** One row may come without its list. */
export const inlineRows = suggesting(rowList, (given) =>
  typeof given === "object" && given !== null && !Array.isArray(given) ? [given] : undefined,
);
