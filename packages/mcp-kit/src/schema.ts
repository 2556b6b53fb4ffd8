import type { z } from "zod";

/** Looking into zod's schemas: what a value may be, and what an object may hold. */

export type Kind = "string" | "number" | "boolean" | "null" | "object" | "array";

export function kindOf(value: unknown): Kind {
  if (value === null) return "null";
  if (Array.isArray(value)) return "array";
  const kind = typeof value;
  return kind === "string" || kind === "number" || kind === "boolean" ? kind : "object";
}

export function definitionOf(schema: z.core.$ZodType) {
  // oxlint-disable-next-line typescript/no-unsafe-type-assertion -- zod's union of all its schemas; its base type cannot be told apart
  return (schema as z.core.$ZodTypes)._zod.def;
}

/** The schemas that a value may meet, with optional, default, nullable, lazy and union taken apart. */
export function optionsOf(schema: z.core.$ZodType): z.core.$ZodType[] {
  const def = definitionOf(schema);
  switch (def.type) {
    case "optional":
    case "nullable":
    case "default":
    case "prefault":
    case "nonoptional":
    case "readonly":
    case "catch":
      return optionsOf(def.innerType);
    case "pipe":
      return optionsOf(def.in);
    case "lazy":
      return optionsOf(def.getter());
    case "union":
      return def.options.flatMap(optionsOf);
    default:
      return [schema];
  }
}

export function isAnything(schema: z.core.$ZodType): boolean {
  const { type } = definitionOf(schema);
  return type === "any" || type === "unknown" || type === "custom" || type === "transform";
}

export function kindsOf(option: z.core.$ZodType): Set<Kind> {
  const def = definitionOf(option);
  switch (def.type) {
    case "object":
    case "record":
      return new Set(["object"]);
    case "array":
    case "tuple":
      return new Set(["array"]);
    case "intersection":
      return kindsOf(def.left);
    default:
      return new Set(isAnything(option) ? ["object", "array"] : []);
  }
}

export function memberSchema(option: z.core.$ZodType, key: PropertyKey): z.core.$ZodType | undefined {
  const def = definitionOf(option);
  switch (def.type) {
    case "object":
      return Object.hasOwn(def.shape, key) ? def.shape[String(key)] : undefined;
    case "record":
      return def.valueType;
    case "array":
      return def.element;
    default:
      return undefined;
  }
}

/** The names that an object at `path` may hold. */
export function knownNames(root: z.core.$ZodType, path: readonly PropertyKey[]): Set<string> {
  let at = [root];
  for (const key of path) {
    at = at.flatMap(optionsOf).flatMap((option) => memberSchema(option, key) ?? []);
  }
  const names = new Set<string>();
  for (const option of at.flatMap(optionsOf)) {
    const def = definitionOf(option);
    if (def.type === "object") for (const name of Object.keys(def.shape)) names.add(name);
  }
  return names;
}
