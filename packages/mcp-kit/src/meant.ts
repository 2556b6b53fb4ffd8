import type { z } from "zod";
import { parseExactJson } from "./json.ts";
import { definitionOf, isAnything, kindOf, kindsOf, memberSchema, optionsOf } from "./schema.ts";

/** Deepest nesting of arguments: it keeps every walk over them, ours and later ones, within the stack. */
export const NESTING_MAX = 100;

/**
 * The value as the schema wants it, wherever it can only be meant in one way: JSON text for an object or an array, a
 * number or a boolean as text, one text for a list of texts, null for an argument that is left out, a name or a word
 * that differs in case and separators alone. Clients and models send all of these; whatever else is wrong stays as it is.
 */
export function meant(schema: z.core.$ZodType, given: unknown, depth: number): unknown {
  const value = typeof given === "string" ? meantByText(schema, given) : meantAsText(schema, given);
  if (typeof value !== "object" || value === null || depth > NESTING_MAX) return value;
  const inner = optionsOf(schema).filter((option) => kindsOf(option).has(kindOf(value)));
  const only = inner.length === 1 ? inner[0] : undefined;
  if (only === undefined) return value;
  if (Array.isArray(value)) {
    const element = memberSchema(only, 0);
    return element === undefined ? value : value.map((item) => meant(element, item, depth + 1));
  }
  return Object.fromEntries(
    Object.entries(value).flatMap(([key, member]) => {
      const name = meantName(only, key, value);
      const memberOf = memberSchema(only, name);
      if (memberOf === undefined) return [[name, member]];
      if (member === null && isLeftOut(memberOf)) return [];
      return [[name, meant(memberOf, member, depth + 1)]];
    }),
  );
}

function meantByText(schema: z.core.$ZodType, text: string): unknown {
  const options = optionsOf(schema);
  // A schema of anything takes the text as it is: only where the wanted kinds are known can something else be meant.
  if (options.some(isAnything)) return text;
  const json = readJsonText(options, text);
  if (json !== text) return json;
  const types = options.map((option) => definitionOf(option));
  const words = types.flatMap((def) =>
    def.type === "enum" ? Object.values(def.entries) : def.type === "literal" ? def.values : [],
  );
  const word = words.find((known) => typeof known === "string" && spelling(known) === spelling(text));
  if (word !== undefined) return word;
  if (types.some(({ type }) => type === "string" || type === "enum" || type === "literal")) return text;
  const trimmed = text.trim();
  if (types.some(({ type }) => type === "number") && /^-?\d+(?:\.\d+)?$/.test(trimmed)) {
    return Number.isSafeInteger(Math.trunc(Number(trimmed))) ? Number(trimmed) : text;
  }
  if (types.some(({ type }) => type === "boolean") && /^(?:true|false)$/i.test(trimmed)) {
    return trimmed.toLowerCase() === "true";
  }
  // Several in one text may be one name with a comma in it: that is asked back.
  const isList = types.some((def) => def.type === "array" && takesText(def.element));
  return isList && trimmed !== "" && !text.includes(",") && !/^[[{]/.test(trimmed) ? [text] : text;
}

/** An id or a name of digits may come as a number; of a decimal nobody knows how it was written. */
function meantAsText(schema: z.core.$ZodType, given: unknown): unknown {
  if (!Number.isSafeInteger(given)) return given;
  const types = optionsOf(schema).map((option) => definitionOf(option).type);
  return types.every((type) => type === "string") ? String(given) : given;
}

function readJsonText(options: readonly z.core.$ZodType[], text: string): unknown {
  const start = text.trimStart()[0];
  const kind = start === "{" ? "object" : start === "[" ? "array" : undefined;
  if (kind === undefined || !options.some((option) => kindsOf(option).has(kind))) return text;
  try {
    return parseExactJson(text);
  } catch {
    return text;
  }
}

function takesText(schema: z.core.$ZodType): boolean {
  return optionsOf(schema).some((option) => definitionOf(option).type === "string");
}

/** The known name that differs from `key` in case and separators alone, unless it is given as well. */
function meantName(schema: z.core.$ZodType, key: string, given: object): string {
  const def = definitionOf(schema);
  if (def.type !== "object" || Object.hasOwn(def.shape, key)) return key;
  const same = Object.keys(def.shape).filter((name) => spelling(name) === spelling(key) && !Object.hasOwn(given, name));
  const others = Object.keys(given).filter((other) => spelling(other) === spelling(key));
  return same.length === 1 && others.length === 1 ? (same[0] ?? key) : key;
}

/** A name without case and separators, in which names of the same thing differ. */
export function spelling(name: string): string {
  return name.toLowerCase().replaceAll(/[\s_-]+/g, "");
}

/** Whether null can only mean that nothing is given. */
function isLeftOut(schema: z.core.$ZodType): boolean {
  const isOptional = ["optional", "default", "prefault"].includes(definitionOf(schema).type);
  return isOptional && !isNullable(schema) && !optionsOf(schema).some(isAnything);
}

function isNullable(schema: z.core.$ZodType): boolean {
  const def = definitionOf(schema);
  if (def.type === "nullable" || def.type === "null") return true;
  if (def.type === "union") return def.options.some(isNullable);
  return "innerType" in def ? isNullable(def.innerType) : false;
}
