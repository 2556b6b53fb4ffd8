import type { z } from "zod";
import { clip } from "./answer.ts";
import { kindOf, knownNames } from "./schema.ts";
import { nearestNames, nearestValue } from "./synonyms.ts";

/** Known names that an answer lists where no near one was found. */
const KNOWN_NAMES_MAX = 24;

/** One thing wrong with one argument. `sentence` is the whole of it for a reader; the rest is the same for a program. */
export interface Problem {
  argument: string;
  sentence: string;
  nearest?: string[];
  allowed?: unknown[];
}

/** What is wrong, in the order in which zod found it: one problem for each argument. */
export function problemsOf(issue: z.core.$ZodIssue, root: z.core.$ZodType, prefix: PropertyKey[] = []): Problem[] {
  const path = [...prefix, ...issue.path];
  const argument = argumentName(path);
  if (isOwnMessage(issue)) return [{ argument, sentence: ownSentence(argument, issue.message) }];
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
      return [{ argument, sentence: ownSentence(path.length === 0 ? "" : argument, issue.message) }];
  }
}

/** Whether the message is the schema's own, and not what zod says by itself. */
function isOwnMessage({ code, message }: z.core.$ZodIssue): boolean {
  return /^(?:invalid_type|too_small|too_big)$/.test(code) && !/^(?:Invalid input|Too (?:small|big))/.test(message);
}

function ownSentence(argument: string, message: string): string {
  // "confirm is the token …", and "id: an export id is …".
  const joint = argument === "" ? "" : /^(?:is|are|must|has|holds) /.test(message) ? " " : ": ";
  return `${argument}${joint}${message.replace(/\.$/, "")}`;
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
  const near = nearestNames(key, known).slice(0, 2);
  if (near.length > 0) {
    return {
      argument,
      sentence: `${argument} is unknown, did you mean ${near.join(" or ")}`,
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
  const near = typeof input === "string" ? nearestValue(input, values) : undefined;
  return {
    argument,
    sentence: `${argument} must be ${choices(allowed)}`,
    ...(near === undefined ? {} : { nearest: [near] }),
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
export function argumentName(path: readonly PropertyKey[]): string {
  let name = "";
  for (const key of path) {
    if (typeof key === "number") name += `[${key}]`;
    else name += `${name === "" ? "" : "."}${clip(String(key), 80)}`;
  }
  return name === "" ? "arguments" : name;
}
