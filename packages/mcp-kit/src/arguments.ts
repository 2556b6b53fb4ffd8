import type { z } from "zod";
import { clip } from "./answer.ts";
import { parseExactJson } from "./json.ts";
import { nearest } from "./nearest.ts";
import { ToolError } from "./tool-error.ts";

/** Deepest nesting of arguments: it keeps every walk over them, ours and later ones, within the stack. */
const NESTING_MAX = 100;

/** Problems that one answer names; with more, the first ones are enough to go on. */
const PROBLEMS_MAX = 5;

/** Known names that an answer lists where no near one was found. */
const KNOWN_NAMES_MAX = 24;

type Kind = "string" | "number" | "boolean" | "null" | "object" | "array";

/** One thing wrong with one argument. `sentence` is the whole of it for a reader; the rest is the same for a program. */
interface Problem {
  argument: string;
  sentence: string;
  nearest?: string[];
  allowed?: unknown[];
}

/**
 * The arguments of a call as the tool's input schema puts them out, or `invalid_arguments` that names each wrong one,
 * the nearest right name and the allowed values. JSON text is read where the schema wants an object or an array.
 */
export function readArguments<Input extends z.ZodObject>(
  tool: { name: string; input: Input },
  given: unknown,
): z.output<Input> {
  refuseInexactNumbers(given, []);
  const value = withJsonTextRead(tool.input, given ?? {}, 0);
  const parsed = tool.input.safeParse(value, { reportInput: true });
  if (parsed.success) return parsed.data;
  const problems = parsed.error.issues.flatMap((issue) => problemsOf(issue, tool.input, []));
  const named = problems.slice(0, PROBLEMS_MAX);
  const more = problems.length > named.length ? ` And ${problems.length - named.length} more.` : "";
  throw new ToolError(
    "invalid_arguments",
    `${tool.name}: ${named.map(({ sentence }) => `${sentence}.`).join(" ")}${more}`,
    { details: { problems: named.map(({ sentence: _sentence, ...data }) => data) } },
  );
}

/** A number that JSON.parse may have changed on its way here is refused: the digits that were meant are gone. */
function refuseInexactNumbers(value: unknown, path: PropertyKey[]): void {
  if (typeof value === "number" && Math.abs(value) > Number.MAX_SAFE_INTEGER) {
    throw new ToolError(
      "send_as_string",
      `The number at ${argumentName(path)} is beyond ±(2^53-1) and lost digits on its way.`,
      {
        next: "Send it as a string; strings of digits are stored exactly.",
        details: { argument: argumentName(path) },
      },
    );
  }
  if (typeof value !== "object" || value === null) return;
  if (path.length >= NESTING_MAX) {
    throw new ToolError(
      "invalid_arguments",
      `${argumentName(path.slice(0, 1))} is nested deeper than ${NESTING_MAX} levels.`,
    );
  }
  for (const [key, member] of Array.isArray(value) ? value.entries() : Object.entries(value)) {
    refuseInexactNumbers(member, [...path, key]);
  }
}

/** Replaces JSON text by what it says wherever the schema wants an object or an array; some clients send them so. */
function withJsonTextRead(schema: z.core.$ZodType, given: unknown, depth: number): unknown {
  const value = typeof given === "string" ? readJsonText(schema, given) : given;
  if (typeof value !== "object" || value === null || depth > NESTING_MAX) return value;
  const inner = optionsOf(schema).filter((option) => kindsOf(option).has(kindOf(value)));
  const only = inner.length === 1 ? inner[0] : undefined;
  if (only === undefined) return value;
  if (Array.isArray(value)) {
    const element = memberSchema(only, 0);
    return element === undefined ? value : value.map((item) => withJsonTextRead(element, item, depth + 1));
  }
  return Object.fromEntries(
    Object.entries(value).map(([key, member]) => {
      const memberOf = memberSchema(only, key);
      return [key, memberOf === undefined ? member : withJsonTextRead(memberOf, member, depth + 1)];
    }),
  );
}

function readJsonText(schema: z.core.$ZodType, text: string): unknown {
  const start = text.trimStart()[0];
  const kind = start === "{" ? "object" : start === "[" ? "array" : undefined;
  // A schema of anything takes the text as it is: only where the wanted kinds are known can JSON be meant.
  if (kind === undefined || !optionsOf(schema).some((option) => !isAnything(option) && kindsOf(option).has(kind)))
    return text;
  try {
    return parseExactJson(text);
  } catch {
    return text;
  }
}

function problemsOf(issue: z.core.$ZodIssue, root: z.core.$ZodType, prefix: PropertyKey[]): Problem[] {
  const path = [...prefix, ...issue.path];
  const argument = argumentName(path);
  switch (issue.code) {
    case "unrecognized_keys":
      return issue.keys.map((key) => unknownArgument(key, path, root));
    case "invalid_type":
      return [{ argument, sentence: typeSentence(argument, [issue.expected], issue.input) }];
    case "invalid_value":
      return [wrongValue(argument, issue.values, issue.input)];
    case "too_small":
      return [{ argument, sentence: `${argument} must ${sizeSentence("at least", issue.origin, issue.minimum)}` }];
    case "too_big":
      return [{ argument, sentence: `${argument} must ${sizeSentence("at most", issue.origin, issue.maximum)}` }];
    case "invalid_union":
      return unionProblems(issue, root, path);
    default:
      // Formats, refinements: their messages are written in the tool's schema, for exactly this reader.
      return [{ argument, sentence: `${path.length === 0 ? "" : `${argument}: `}${issue.message.replace(/\.$/, "")}` }];
  }
}

/** Of several allowed shapes, the one that the value comes closest to is the one worth explaining. */
function unionProblems(issue: z.core.$ZodIssueInvalidUnion, root: z.core.$ZodType, path: PropertyKey[]): Problem[] {
  const argument = argumentName(path);
  const branches = issue.errors.filter((branch) => !isOfOtherKind(branch));
  const closest = branches.toSorted((a, b) => a.length - b.length)[0];
  if (closest !== undefined) return closest.flatMap((inner) => problemsOf(inner, root, path));
  const expected = issue.errors.flat().flatMap((inner) => (inner.code === "invalid_type" ? [inner.expected] : []));
  return [
    {
      argument,
      sentence: expected.length > 0 ? typeSentence(argument, expected, issue.input) : `${argument}: ${issue.message}`,
    },
  ];
}

function isOfOtherKind(branch: z.core.$ZodIssue[]): boolean {
  return branch.some(({ code, path }) => code === "invalid_type" && path.length === 0);
}

function unknownArgument(key: string, path: PropertyKey[], root: z.core.$ZodType): Problem {
  const argument = argumentName([...path, key]);
  const known = [...knownNames(root, path)];
  const near = nearest(key, known, 2);
  if (near.length > 0) {
    return {
      argument,
      sentence: `${argument} is unknown, did you mean ${near.join(" or ")}?`.replace(/\?$/, ""),
      nearest: near,
    };
  }
  const allowed = known.slice(0, KNOWN_NAMES_MAX);
  return {
    argument,
    sentence: `${argument} is unknown${allowed.length > 0 ? `; known: ${allowed.join(", ")}` : ""}`,
    allowed,
  };
}

function wrongValue(argument: string, values: readonly unknown[], input: unknown): Problem {
  const allowed = values.slice(0, KNOWN_NAMES_MAX);
  if (input === undefined) return { argument, sentence: `${argument} is required: ${choices(allowed)}`, allowed };
  const near =
    typeof input === "string"
      ? nearest(
          input,
          values.filter((value) => typeof value === "string"),
          1,
        )
      : [];
  return {
    argument,
    sentence: `${argument} must be ${choices(allowed)}`,
    ...(near.length > 0 ? { nearest: near } : {}),
    allowed,
  };
}

function choices(values: readonly unknown[]): string {
  return values.map((value) => JSON.stringify(value)).join(" or ");
}

function typeSentence(argument: string, expected: readonly string[], input: unknown): string {
  const wanted = [...new Set(expected.map(wantedKind))].join(" or ");
  if (input === undefined) return `${argument} is required (${wanted})`;
  if (typeof input === "string" && /^\s*[[{]/.test(input) && /an object|an array/.test(wanted)) {
    return `${argument} must be ${wanted}; the text given is not valid JSON`;
  }
  return `${argument} must be ${wanted}, not ${typeof input === "number" ? "this number" : wantedKind(kindOf(input))}`;
}

function wantedKind(kind: string): string {
  switch (kind) {
    case "string":
      return "text";
    case "int":
      return "a whole number";
    case "number":
      return "a number";
    case "boolean":
      return "true or false";
    case "array":
      return "an array";
    case "object":
    case "record":
      return "an object";
    default:
      return kind;
  }
}

function sizeSentence(bound: "at least" | "at most", origin: string, limit: number | bigint): string {
  const unit = origin === "string" ? "character" : origin === "array" || origin === "set" ? "item" : undefined;
  if (unit === undefined) return `be ${bound} ${limit}`;
  const one = Number(limit) === 1;
  return one && bound === "at least" ? "not be empty" : `have ${bound} ${limit} ${unit}${one ? "" : "s"}`;
}

/** `columns[0].type`, as a person would point at it. Names in it come from the caller: clipped and on one line. */
function argumentName(path: readonly PropertyKey[]): string {
  let name = "";
  for (const key of path) {
    if (typeof key === "number") name += `[${key}]`;
    else name += `${name === "" ? "" : "."}${clip(String(key), 80)}`;
  }
  return name === "" ? "arguments" : name;
}

function kindOf(value: unknown): Kind {
  if (value === null) return "null";
  if (Array.isArray(value)) return "array";
  const kind = typeof value;
  return kind === "string" || kind === "number" || kind === "boolean" ? kind : "object";
}

function definitionOf(schema: z.core.$ZodType) {
  // oxlint-disable-next-line typescript/no-unsafe-type-assertion -- zod's union of all its schemas; its base type cannot be told apart
  return (schema as z.core.$ZodTypes)._zod.def;
}

/** The schemas that a value may meet, with optional, default, nullable, lazy and union taken apart. */
function optionsOf(schema: z.core.$ZodType): z.core.$ZodType[] {
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

function isAnything(schema: z.core.$ZodType): boolean {
  const { type } = definitionOf(schema);
  return type === "any" || type === "unknown" || type === "custom" || type === "transform";
}

function kindsOf(option: z.core.$ZodType): Set<Kind> {
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

function memberSchema(option: z.core.$ZodType, key: PropertyKey): z.core.$ZodType | undefined {
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
function knownNames(root: z.core.$ZodType, path: readonly PropertyKey[]): Set<string> {
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
