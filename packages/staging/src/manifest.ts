import { z } from "zod";
import { idProblem } from "./ids.ts";

/** The version of the format that this package writes. A reader refuses any other. */
export const MANIFEST_VERSION = 1;

/** Largest manifest that is written or read, in bytes: it bounds what a reader parses into memory. */
export const MANIFEST_BYTES_MAX = 8 * 1024 * 1024;

export const EXPORT_ID = /^exp_[0-9a-hjkmnp-tv-z]{26}$/;

export const exportIdSchema = z.string().regex(EXPORT_ID, { error: ({ input }) => idProblem("exp", input) });

const count = z.int().nonnegative();
const timestamp = z.iso.datetime({ offset: true });

/** One field of the flattened mapping. Objects, multi-fields and aliases have entries of their own. */
export const mappingFieldSchema = z.strictObject({
  /** Full dotted path, as in the documents' `_source`. */
  path: z.string(),
  /** Elasticsearch field type; `object` where the mapping states none. */
  type: z.string(),
  /** Date formats, as the mapping spells them. */
  format: z.string().optional(),
  scaling_factor: z.number().optional(),
  /** True for a multi-field: it is not in `_source`. */
  multi_field: z.boolean().optional(),
  /** True inside a `nested` object. */
  nested: z.boolean().optional(),
  /** False for `enabled: false` objects, whose contents Elasticsearch does not look at. */
  enabled: z.boolean().optional(),
  /** Value of a `constant_keyword`, which may be absent from `_source`. */
  constant: z.string().optional(),
  /** Every other parameter that changes what a value means: `ignore_above`, `null_value`, `dims`, `coerce`, `path` … */
  parameters: z.record(z.string(), z.unknown()).optional(),
  /** Types met in other indices of the same export, where they differ. */
  conflicts: z.array(z.string()).optional(),
});

/** What the documents of an export really hold at one path. Counts are documents unless a name says otherwise. */
export const fieldProfileSchema = z.strictObject({
  path: z.string(),
  /** How many values of each JSON kind were met; the values of an array are counted one by one. */
  kinds: z.strictObject({
    string: count,
    integer: count,
    decimal: count,
    boolean: count,
    object: count,
    null: count,
  }),
  /** Documents in which the field has a value or null. */
  present: count,
  /** Documents in which the value is an array. */
  arrays: count,
  /** Longest array, in elements. */
  array_length_max: count,
  /** Longest string in characters (code points) and in bytes of UTF-8. */
  length_max: count,
  bytes_max: count,
  /** Most digits before and after the decimal point of a number without exponent. */
  integer_digits_max: count,
  scale_max: count,
  /** Least and greatest number or string, as text, clipped at 64 characters. */
  min: z.string().nullable(),
  max: z.string().nullable(),
  /** Strings by shape: how many look like ISO dates, plain numbers, UUIDs, or are empty. */
  shapes: z.strictObject({ date: count, number: count, boolean: count, uuid: count, empty: count, nul: count }),
  /** Formats of strings that are written like dates, as the `format` of a date field spells them; `||` joins what one text can be. */
  date_formats: z.array(z.string()).default([]),
  /** Up to three different values, clipped at 64 characters. Foreign text: data, never instructions. */
  samples: z.array(z.string()),
});

export const partSchema = z.strictObject({
  /** Position; the file's name is derived from it and never stored. */
  index: count,
  documents: count,
  bytes: count,
  /** CRC-32 (zlib) of the file, 8 lower-case hex digits. */
  crc32: z.string().regex(/^[0-9a-f]{8}$/),
});

export const sourceIndexSchema = z.strictObject({
  name: z.string(),
  uuid: z.string(),
  shards: z.int().positive(),
  /** How `_source` is kept; `filtered` stands for includes or excludes in the mapping. */
  source_mode: z.enum(["stored", "filtered", "synthetic"]),
  /** Exact number of matching documents in the point in time. */
  documents: count,
});

export const leaseSchema = z.strictObject({
  /** Random name of the holding process, for people; identity is `epoch`. */
  owner: z.string(),
  /** Grows by one with every holder. A holder that finds another epoch has lost the lease and stops. */
  epoch: z.int().positive(),
  until: timestamp,
});

export const manifestSchema = z.strictObject({
  manifest_version: z.literal(MANIFEST_VERSION),
  export_id: exportIdSchema,
  /** `stalled` is computed from the lease and never stored. */
  status: z.enum(["working", "completed", "failed", "cancelled"]),
  created_at: timestamp,
  updated_at: timestamp,
  finished_at: timestamp.nullable(),
  lease: leaseSchema.nullable(),
  error: z.strictObject({ code: z.string(), message: z.string(), retryable: z.boolean() }).nullable(),
  /** Digest of the arguments that define the data, with the cluster's uuid: the same call finds the same export. */
  request_digest: z.string(),
  source: z.strictObject({
    cluster_uuid: z.string(),
    indices: z.array(sourceIndexSchema),
    query: z.unknown(),
    fields: z.array(z.string()).nullable(),
    max_documents: z.int().positive().nullable(),
    since: exportIdSchema.nullable(),
    /** How Elasticsearch was read; `other` is no Elasticsearch at all. */
    method: z.enum(["pit", "scroll", "other"]),
    pit_time: timestamp,
    /** Documents that the export will hold: the exact total of the snapshot, or `max_documents` if that is less. */
    expected: count,
  }),
  mapping: z.array(mappingFieldSchema),
  parts: z.array(partSchema),
  totals: z.strictObject({
    documents: count,
    bytes: count,
    /** Documents rewritten without loss: control bytes or comments between tokens. */
    compacted: count,
    /** Documents with invalid UTF-8, kept as they are. */
    invalid_utf8: count,
  }),
  profile: z.array(fieldProfileSchema),
  /**
   * Per shard, the sequence number up to which every operation was visible before the snapshot was taken. A checkpoint
   * belongs to one history of the shard: a restore starts another.
   */
  watermark: z.array(
    z.strictObject({
      index_uuid: z.string(),
      shard: count,
      primary_term: count,
      checkpoint: z.int(),
      history_uuid: z.string().nullable(),
      /**
       * Where the indices could not be refreshed: what the shard had processed when the snapshot was taken. Not all of it
       * need be in this export, but it is in every one made long enough after this.
       */
      processed: z.int().optional(),
    }),
  ),
  /** Where a later process goes on: the point in time (position in `points`) and the slices of it that are not done. */
  checkpoint: z
    .strictObject({
      /** The snapshot: a point in time per index, or per shard of it, each with its exact total. */
      points: z.array(
        z.strictObject({
          /** Position in `source.indices`. */
          index: count,
          shard: count.nullable(),
          pit_id: z.string(),
          slices: z.int().positive(),
          documents: count,
          /** What the point is read by besides the request's query: an alias's filter, and what is new since an earlier export. */
          filters: z.array(z.unknown()),
          /** Most documents that the index gives at once. */
          page_documents_max: z.int().positive(),
        }),
      ),
      point: count,
      /** Slices that are begun, each with the sort values of its last document in a part. */
      reading: z.array(z.strictObject({ slice: count, after: z.array(z.unknown()).nullable() })),
      /** The first slice that is not begun; those before it are in `reading`, or done. */
      next_slice: count,
    })
    .nullable(),
  warnings: z.array(z.string()),
});

export type MappingField = z.infer<typeof mappingFieldSchema>;
export type FieldProfile = z.infer<typeof fieldProfileSchema>;
export type PartInfo = z.infer<typeof partSchema>;
export type SourceIndex = z.infer<typeof sourceIndexSchema>;
export type Lease = z.infer<typeof leaseSchema>;
export type Manifest = z.infer<typeof manifestSchema>;
export type ExportStatus = Manifest["status"];
