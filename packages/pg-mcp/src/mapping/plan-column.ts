import type { MappingField } from "@es-to-pg/staging";
import { compileConvert } from "./convert.ts";
import type { JsonValue } from "./json-value.ts";
import type { MappingColumn } from "./mapping.ts";
import type { ValuePart } from "./parts.ts";
import type { DocumentPath, PlannedColumn } from "./plan.ts";
import { Refusal } from "./refusal.ts";
import { stageTypeOf, type ValueType } from "./value-type.ts";

/**
 * Fills in a column's policies: by default fraction digits that do not fit are a reject (rounded only where the field is
 * a scaled_float, which rounds itself), and so are U+0000 and broken text. Throws a `Refusal`'s message as `RangeError`
 * where `constant` or `on_null` is no value of the column.
 */
export function planColumn(options: {
  column: MappingColumn;
  targetType: string;
  valueType: ValueType;
  from: DocumentPath | null;
  field: MappingField | null;
  part?: ValuePart | null;
  notNull: boolean;
}): PlannedColumn {
  const { column, targetType, valueType, from, field, notNull } = options;
  const planned: PlannedColumn = {
    column: column.column,
    targetType,
    valueType,
    stageType: stageTypeOf(valueType),
    staged: from !== null || column.constant !== undefined,
    load: column.load ?? true,
    from,
    field,
    part: options.part ?? null,
    ...(column.expression === undefined ? {} : { expression: column.expression }),
    array: column.array ?? null,
    nul: column.nul ?? "reject",
    encoding: column.encoding ?? "reject",
    round: column.round ?? (field?.type === "scaled_float" ? "round" : "reject"),
    format: column.format ?? null,
    onNull: null,
    notNull,
    onMissing: column.on_missing ?? "null",
    onError: column.on_error ?? "reject",
  };
  if (column.on_null !== undefined) planned.onNull = constantText(planned, column.on_null, "on_null");
  if (column.constant !== undefined) {
    planned.constant = column.constant === null ? null : constantText(planned, column.constant, "constant");
  }
  return planned;
}

/** A constant of the mapping, converted by the column's own grammar; a text stands for itself as in a document. */
function constantText(planned: PlannedColumn, constant: string | number | boolean, setting: string): string {
  const raw = JSON.stringify(constant);
  const value: JsonValue =
    typeof constant === "string"
      ? { kind: "string", text: constant, raw }
      : { kind: typeof constant === "number" ? "number" : "boolean", raw };
  const text = compileConvert({ ...planned, part: null })(value, { rounded: false, replaced: false });
  if (text instanceof Refusal) throw new RangeError(`${setting} does not fit: ${text.message}`);
  if (text === null) throw new RangeError(`${setting} is null to a field of this type`);
  return text;
}
