import type { MappingField } from "@es-to-pg/staging";
import type { Table } from "../postgres/catalog.ts";
import type { ChildPlan } from "./children.ts";
import type { ArrayPolicy, EncodingPolicy, Mapping, NulPolicy, RoundPolicy } from "./mapping.ts";
import type { ValuePart } from "./parts.ts";
import type { ValueType } from "./value-type.ts";

/** A dotted path in `_source`, or one of `_id`, `_index`, `_routing`, `_seq_no`. */
export type DocumentPath = string;

export const META_PATHS = ["_id", "_index", "_routing", "_seq_no"] as const;

/** A mapping that was checked against a table: everything a load decides is decided here. */
export interface LoadPlan {
  table: Table;
  /** Staged and loaded columns in the mapping's order. */
  columns: PlannedColumn[];
  /** Columns of the conflict key; empty where the table has none and none was named. */
  key: string[];
  /** `_seq_no`, a column of the plan, or null: nothing tells two documents of one key apart but their order. */
  versionFrom: string | null;
  /** The mapping in force; where none was given, the one that same names make. */
  mapping: Mapping;
  /** Fields of the documents that no column takes, as far as the export knows them. */
  unmapped: string[];
  /** Tables that take objects of the documents, a row each. */
  children: ChildPlan[];
}

export interface PlannedColumn {
  column: string;
  /** The target column's type as `format_type` spells it; for `load: false` the stage type. */
  targetType: string;
  /** The type whose grammar a value is held to before it is staged. */
  valueType: ValueType;
  /** Type in the stage table: the base type without modifier, or text where only a cast in the SELECT can judge. */
  stageType: string;
  /** False for a column whose value is an expression over other columns alone: it has no place in the stage. */
  staged: boolean;
  /** False for a column that only expressions read. */
  load: boolean;
  from: DocumentPath | null;
  /** The field of the mapping behind `from`, if the export knows one; of a part, the field that the part would be. */
  field: MappingField | null;
  /** The piece of the value that the column takes; null: the value as it is. */
  part: ValuePart | null;
  /** Text form of a value that is the same for every row. */
  constant?: string | null;
  expression?: string;
  array: ArrayPolicy | null;
  nul: NulPolicy;
  encoding: EncodingPolicy;
  round: RoundPolicy;
  /** Date formats as Elasticsearch spells them. */
  format: string | null;
  /** Text form of the value that stands in for null. */
  onNull: string | null;
  /** True where null is a reject: NOT NULL and key columns that no expression fills. */
  notNull: boolean;
  onMissing: "null" | "keep" | "default";
  onError: "reject" | "null" | "default";
}

/** The stage's own columns; `keep` and `default` are there only if a policy of the plan needs them. */
export type StageMeta = "part" | "line" | "index" | "id" | "routing" | "seqNo" | "keep" | "default";

export interface StageColumn {
  /** Name in the stage table, unquoted. */
  name: string;
  type: string;
  meta: StageMeta | null;
}

const META_TYPES: Record<StageMeta, { name: string; type: string }> = {
  part: { name: "_part", type: "integer" },
  line: { name: "_line", type: "bigint" },
  index: { name: "_index", type: "text" },
  id: { name: "_id", type: "text" },
  routing: { name: "_routing", type: "text" },
  seqNo: { name: "_seq_no", type: "bigint" },
  keep: { name: "_keep", type: "text[]" },
  default: { name: "_default", type: "text[]" },
};

/**
 * The columns of a plan's stage table in COPY order: the plan's under their own names, then the stage's own. Where the
 * plan has a column of the same name (`_id` is common), the stage's own takes one more underscore.
 *
 * `_keep` names the columns of a row whose target value an update leaves alone (`on_missing: "keep"`; an insert takes
 * their default), `_default` those that take the column's default; both are null for most rows.
 */
export function stageColumns(plan: { columns: readonly PlannedColumn[] }): StageColumn[] {
  const staged = plan.columns.filter((column) => column.staged);
  const taken = new Set(plan.columns.map((column) => column.column));
  const metas: StageMeta[] = ["part", "line", "index", "id", "routing", "seqNo"];
  if (staged.some((column) => column.onMissing === "keep")) metas.push("keep");
  if (staged.some((column) => column.onMissing === "default" || column.onError === "default")) metas.push("default");
  return [
    ...staged.map((column) => ({ name: column.column, type: column.stageType, meta: null })),
    ...metas.map((meta) => {
      let { name } = META_TYPES[meta];
      while (taken.has(name)) name = `_${name}`;
      taken.add(name);
      return { name, type: META_TYPES[meta].type, meta };
    }),
  ];
}
