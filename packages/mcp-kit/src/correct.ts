import type { z } from "zod";
import { meant } from "./meant.ts";
import { definitionOf, knownNames, memberSchema, optionsOf } from "./schema.ts";
import { nearestNames, nearestValue, takesValueOf } from "./synonyms.ts";

/** One change of a wrong value: the member at `path` goes under another name, or has another value. */
interface Change {
  path: readonly PropertyKey[];
  name?: string;
  value?: unknown;
}

/** What a value of the wrong kind may have been meant for, by the schema that it was given to. */
const SUGGESTIONS = new WeakMap<z.core.$ZodType, (given: unknown) => unknown>();

/** The same schema, with a word on what a value of another kind may have been meant for; undefined where nobody knows. */
export function suggesting<S extends z.ZodType>(schema: S, suggest: (given: unknown) => unknown): S {
  SUGGESTIONS.set(schema, suggest);
  return schema;
}

/**
 * The value with every problem corrected; undefined where one cannot be, or what comes of it would be refused again.
 * A cautious correction chooses no word in place of a wrong one: what `mode` a call that writes was meant to have is not
 * to be guessed.
 */
export function correctedValue(
  schema: z.ZodType,
  value: unknown,
  issues: readonly z.core.$ZodIssue[],
  { isCautious }: { isCautious: boolean },
): unknown {
  const corrected: unknown = structuredClone(value);
  const changes: Change[] = [];
  for (const issue of issues) {
    // What is missing may be there under another name, which is another issue.
    if (issue.code === "invalid_type" && issue.input === undefined) continue;
    const found = changesOf(issue, schema);
    if (found === undefined || (isCautious && issue.code === "invalid_value")) return undefined;
    changes.push(...found);
  }
  if (changes.length === 0 || !changes.every((change) => apply(change, corrected))) return undefined;
  const again = meant(schema, corrected, 0);
  return schema.safeParse(again).success ? again : undefined;
}

function apply({ path, ...change }: Change, corrected: unknown): boolean {
  const holder = path.slice(0, -1).reduce<unknown>(memberOf, corrected);
  const key = path.at(-1);
  if (typeof holder !== "object" || holder === null || key === undefined) return false;
  const value = "value" in change ? change.value : memberOf(holder, key);
  if (change.name !== undefined) {
    if (Object.hasOwn(holder, change.name)) return false;
    Reflect.deleteProperty(holder, key);
  }
  return Reflect.set(holder, change.name ?? key, value);
}

function memberOf(value: unknown, key: PropertyKey): unknown {
  return typeof value === "object" && value !== null ? Reflect.get(value, key) : undefined;
}

function changesOf(issue: z.core.$ZodIssue, root: z.core.$ZodType): Change[] | undefined {
  const { path } = issue;
  const suggested = suggestionAt(root, path)?.(issue.input);
  if (suggested !== undefined) return [{ path, value: suggested }];
  switch (issue.code) {
    case "unrecognized_keys": {
      const known = [...knownNames(root, path)];
      const names = issue.keys.map((key) => ({ key, name: nearestNames(key, known)[0] }));
      if (!names.every(({ key, name }) => name !== undefined && takesValueOf(key, name))) return undefined;
      return names.map(({ key, name = key }) => ({ path: [...path, key], name }));
    }
    case "invalid_value": {
      const value = typeof issue.input === "string" ? nearestValue(issue.input, issue.values) : undefined;
      return value === undefined ? undefined : [{ path, value }];
    }
    case "too_small":
      return withinBound(issue.origin, issue.minimum, path);
    case "too_big":
      return withinBound(issue.origin, issue.maximum, path);
    case "invalid_type":
      return ofType(issue, path);
    default:
      return undefined;
  }
}

function suggestionAt(root: z.core.$ZodType, path: readonly PropertyKey[]): ((given: unknown) => unknown) | undefined {
  let at = [root];
  for (const key of path) at = at.flatMap(optionsOf).flatMap((option) => memberSchema(option, key) ?? []);
  return at.flatMap(layersOf).flatMap((schema) => SUGGESTIONS.get(schema) ?? [])[0];
}

/** The schema and those that it wraps. */
function layersOf(schema: z.core.$ZodType): z.core.$ZodType[] {
  const def = definitionOf(schema);
  return [schema, ...("innerType" in def ? layersOf(def.innerType) : [])];
}

/** A number beyond a limit is corrected to the limit; of a list or a text nobody knows what to leave out. */
function withinBound(origin: string, limit: number | bigint, path: readonly PropertyKey[]): Change[] | undefined {
  return origin === "number" || origin === "int" ? [{ path, value: Number(limit) }] : undefined;
}

/** Several names in one text are corrected to the list of them, values by number too, and a list of one to the one. */
function ofType(issue: z.core.$ZodIssueInvalidType, path: readonly PropertyKey[]): Change[] | undefined {
  const { expected, input } = issue;
  if (expected === "string" && Array.isArray(input)) {
    const isText = input.every((item) => typeof item === "string");
    return isText && input.length === 1 ? [{ path, value: input[0] }] : undefined;
  }
  if (expected !== "array") return undefined;
  if (typeof input === "object" && input !== null && !Array.isArray(input)) {
    const entries = Object.entries(input).map(([key, value]) => [Number(key.replace(/^\$/, "")), value] as const);
    const isNumbered = entries.length === 1 || entries.every(([at]) => Number.isInteger(at));
    const values = entries.toSorted(([a], [b]) => a - b).map(([, value]) => value);
    return isNumbered ? [{ path, value: values }] : undefined;
  }
  if (typeof input !== "string" || /^\s*[[{]/.test(input)) return undefined;
  return [{ path, value: input.split(",").map((item) => item.trim()) }];
}
