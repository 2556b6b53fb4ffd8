import type { z } from "zod";
import { correctedValue } from "./correct.ts";
import { meant, NESTING_MAX } from "./meant.ts";
import { argumentName, type Problem, problemsOf } from "./problems.ts";
import { ToolError } from "./tool-error.ts";

/** Problems that one answer names; with more, the first ones are enough to go on. */
const PROBLEMS_MAX = 5;

/**
 * The arguments of a call as the tool's input schema puts them out, or `invalid_arguments` that names each wrong one,
 * the nearest right name and the allowed values, with the corrected call where one can be told. What can only be meant
 * in one way is understood (`meant`).
 */
export function readArguments<Input extends z.ZodObject>(
  tool: { name: string; input: Input; annotations?: { readOnlyHint: boolean } },
  given: unknown,
): z.output<Input> {
  refuseInexactNumbers(given, []);
  const read = readShape(tool.input, given ?? {}, { isCautious: tool.annotations?.readOnlyHint === false });
  if ("data" in read) return read.data;
  const { sentences, problems, value, corrected } = read;
  const isObject = typeof corrected === "object" && corrected !== null;
  throw new ToolError("invalid_arguments", `${tool.name}: ${sentences}`, {
    ...(isObject ? { next: "If that is meant, make the call of example.", instead: instead(value, corrected) } : {}),
    details: {
      problems: problems.map(({ argument, nearest, allowed }) => ({
        argument,
        ...(nearest === undefined ? {} : { nearest }),
        ...(allowed === undefined ? {} : { allowed }),
      })),
    },
  });
}

/** What has another name in the corrected call is left out under the old one. */
function instead(given: unknown, corrected: object): { arguments: Record<string, unknown> } {
  const dropped = Object.keys(Object(given)).map((name): [string, unknown] => [name, undefined]);
  return { arguments: { ...Object.fromEntries(dropped), ...corrected } };
}

/** A value that was read by a schema, or what keeps it from being read. */
export type ReadShape<Output> =
  | { data: Output }
  | {
      /** One sentence for each of the first problems. */
      sentences: string;
      problems: Problem[];
      /** The value as it was understood, and as it would have been right; the latter undefined where nobody can tell. */
      value: unknown;
      corrected: unknown;
    };

/** Reads a value by a schema, understanding what can only be meant in one way. `isCautious`: see `correctedValue`. */
export function readShape<S extends z.ZodType>(
  schema: S,
  given: unknown,
  options: { isCautious?: boolean } = {},
): ReadShape<z.output<S>> {
  const value = meant(schema, given, 0);
  const parsed = schema.safeParse(value, { reportInput: true });
  if (parsed.success) return { data: parsed.data };
  const { issues } = parsed.error;
  const problems = issues.flatMap((issue) => problemsOf(issue, schema));
  const named = problems.slice(0, PROBLEMS_MAX);
  const more = problems.length > named.length ? ` And ${problems.length - named.length} more.` : "";
  return {
    sentences: `${named.map(({ sentence }) => `${sentence}.`).join(" ")}${more}`,
    problems: named,
    value,
    corrected: correctedValue(schema, value, issues, { isCautious: options.isCautious ?? false }),
  };
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
