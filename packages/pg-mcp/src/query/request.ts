import type { Postgres, TablePolicy } from "../postgres/index.ts";

export interface QueryRequest {
  postgres: Postgres;
  sql: string;
  params: readonly unknown[];
  /** The values are the texts that the server reads. Default: they are written as the types of the parameters want it. */
  areParamsTexts?: boolean;
  /** At most this many rows are answered; one more is fetched to know whether there are more. */
  rowsMax: number;
  /** Fetching stops when the rows' JSON has this many bytes. */
  bytesMax: number;
  timeoutMs: number;
  policy: TablePolicy;
  functionsAllow: readonly string[];
  signal: AbortSignal;
  /** Whether the server has tools that write, which an error may name. Default true. */
  isWritable?: boolean;
  /** Characters before the caller's own text in `sql`, for the positions in errors. */
  ownCharacters?: number;
}

export interface QueryAnswer {
  columns: { name: string; type: string }[];
  rows: unknown[][];
  /** What ended the fetching before the last row. */
  cutBy: "rows" | "bytes" | null;
  /** Values that were shortened. */
  clipped: number;
}
