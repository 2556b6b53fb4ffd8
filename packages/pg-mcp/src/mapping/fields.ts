import { nearest, ToolError } from "@es-to-pg/mcp-kit";
import type { FieldProfile, MappingField } from "@es-to-pg/staging";
import { partOf, type ValuePart } from "./parts.ts";
import { META_PATHS } from "./plan.ts";
import type { ValueType } from "./value-type.ts";

/** Fields that an error lists where none is near. */
const FIELDS_MAX = 30;

/** The fields of an export by path. Without any (rows given in a call), every path is taken to exist. */
export class Fields {
  readonly #byPath: Map<string, MappingField>;
  readonly #profiled: Set<string>;
  readonly #multi = new Map<string, string>();
  readonly isKnown: boolean;

  constructor(fields: readonly MappingField[], profile: readonly FieldProfile[] = []) {
    this.#byPath = new Map(fields.map((field) => [field.path, field]));
    this.#profiled = new Set(profile.map(({ path }) => path));
    this.isKnown = fields.length > 0;
    for (const field of fields) {
      if (field.multi_field === true) this.#multi.set(field.path, field.path.slice(0, field.path.lastIndexOf(".")));
    }
  }

  /**
   * Where the value of a path stands in `_source`, and its field: multi-fields stand in their parent, aliases in what
   * they name, and `location.lat` in the geo_point. Throws `unknown_field` with the nearest paths.
   */
  locate(path: string): { path: string; field: MappingField | null; part?: ValuePart } {
    if (META_PATHS.some((meta) => meta === path)) return { path, field: null };
    const parent = this.#multi.get(path);
    if (parent !== undefined) return this.locate(parent);
    const field = this.#byPath.get(path);
    const target = field?.type === "alias" ? field.parameters?.["path"] : undefined;
    if (typeof target === "string" && target !== path) return this.locate(target);
    if (field !== undefined) return { path, field };
    const inside = this.#locatePart(path);
    if (inside !== undefined) return inside;
    if (!this.isKnown || this.#profiled.has(path) || this.#isInsideOpenObject(path)) return { path, field: null };
    throw new ToolError("unknown_field", "The documents of this export have no such field.", {
      next: "Use one of the nearest paths, or _id, _index, _routing, _seq_no.",
      details: { field: path, ...this.#nearest(path) },
    });
  }

  #nearest(path: string): { nearest: string[]; fields?: string[] } {
    const near = nearest(path, this.paths());
    return near.length > 0 ? { nearest: near } : { nearest: near, fields: this.paths().slice(0, FIELDS_MAX) };
  }

  /** A piece of a value, such as `period.lower` of a range. */
  #locatePart(path: string): { path: string; field: MappingField; part: ValuePart } | undefined {
    const dot = path.lastIndexOf(".");
    const whole = this.#byPath.get(path.slice(0, dot));
    if (dot < 0 || whole === undefined) return undefined;
    const located = this.locate(whole.path);
    const found = located.field === null ? undefined : partOf(located.field, path.slice(dot + 1));
    return found === undefined ? undefined : { path: located.path, ...found };
  }

  /** Paths that `_source` can hold. */
  paths(): string[] {
    return [...this.#byPath.values()].filter((field) => field.multi_field !== true).map(({ path }) => path);
  }

  all(): MappingField[] {
    return [...this.#byPath.values()];
  }

  get(path: string): MappingField | undefined {
    return this.#byPath.get(path);
  }

  /** Whether an object above the path may hold names that the mapping does not list. */
  #isInsideOpenObject(path: string): boolean {
    const names = path.split(".");
    for (let length = names.length - 1; length > 0; length -= 1) {
      const field = this.#byPath.get(names.slice(0, length).join("."));
      if (field !== undefined) {
        const isOpen = field.enabled === false || field.parameters?.["dynamic"] !== undefined;
        return isOpen || !["object", "nested"].includes(field.type);
      }
    }
    return false;
  }
}

/** ES types whose strings Elasticsearch itself reads as numbers (`coerce`); `""` is null to them. */
export const NUMERIC_FIELDS = new Set([
  "long",
  "integer",
  "short",
  "byte",
  "unsigned_long",
  "double",
  "float",
  "half_float",
  "scaled_float",
]);
const NO_NUMBER: readonly string[] = [
  "boolean",
  "uuid",
  "inet",
  "cidr",
  "macaddr",
  "bytea",
  "point",
  "range",
  "interval",
];
const NO_TEXT_KIND: readonly string[] = ["boolean", "uuid", "inet", "cidr", "macaddr", "bytea", "point", "range"];

/** Why no value of a field can be a value of a type; undefined where some can. Text and json take everything scalar. */
export function misfit(field: MappingField, type: ValueType, array: string | null): string | undefined {
  const { kind } = type;
  const es = field.type;
  if (kind === "json" || kind === "other") return undefined;
  const isContainer = es === "object" || es === "nested" || es === "flattened" || es === "passthrough";
  if (isContainer) {
    if (field.enabled === false || array === "json" || kind === "point" || kind === "range") return undefined;
    return "the field holds objects: use jsonb, a path inside of it, or array:json in a text column";
  }
  if (kind === "text" || kind === "enum") return undefined;
  if (NUMERIC_FIELDS.has(es) && NO_NUMBER.includes(kind)) return "the field holds numbers";
  if (es === "boolean" && kind !== "boolean") return "the field holds true and false";
  if ((es === "date" || es === "date_nanos") && NO_TEXT_KIND.includes(kind)) return "the field holds dates";
  if (es === "ip" && kind !== "inet" && kind !== "cidr") return "the field holds addresses";
  if (es === "geo_point" && kind !== "point") return "the field holds points";
  if (es.endsWith("_range") && es !== "ip_range" && kind !== "range") return "the field holds ranges";
  if (es === "binary" && kind !== "bytea") return "the field holds base64";
  return undefined;
}
