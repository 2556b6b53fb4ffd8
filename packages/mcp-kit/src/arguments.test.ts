import { expect, test } from "vitest";
import { z } from "zod";
import { readArguments } from "./arguments.ts";
import { ToolError } from "./tool-error.ts";

const condition = z.union([z.string(), z.strictObject({ column: z.string(), is: z.unknown() })]);
const tool = {
  name: "bulk_insert",
  input: z.strictObject({
    table: z.string().min(1).max(63),
    mode: z.enum(["upsert", "append", "replace"]).default("upsert"),
    max_rows: z.int().min(1).max(1000).optional(),
    rows: z.array(z.record(z.string(), z.unknown())).max(3).optional(),
    index: z.union([z.string(), z.array(z.string())]).optional(),
    where: condition.optional(),
    mapping: z
      .strictObject({
        columns: z.array(
          z.strictObject({ column: z.string(), from: z.string().optional(), load: z.boolean().optional() }),
        ),
      })
      .optional(),
    id: z.string().regex(/^exp_/, "an export id begins with exp_").optional(),
  }),
};

function failure(given: unknown): ToolError {
  try {
    readArguments(tool, given);
  } catch (error) {
    if (error instanceof ToolError) return error;
    throw error;
  }
  throw new Error("the arguments were accepted");
}

test("returns the arguments with their defaults", () => {
  expect(readArguments(tool, { table: "t" })).toEqual({ table: "t", mode: "upsert" });
});

test.each([
  ["nothing", undefined, "table is required (text)"],
  ["no object", [], "arguments must be an object, not an array"],
  ["a misspelt name", { table: "t", maping: {} }, "maping is unknown, did you mean mapping"],
  [
    "a misspelt name inside",
    { table: "t", mapping: { columns: [{ colum: "a", column: "b" }] } },
    "mapping.columns[0].colum is unknown, did you mean column",
  ],
  [
    "a name of nothing",
    { table: "t", mapping: { columns: [{ column: "b", qqq: 1 }] } },
    "mapping.columns[0].qqq is unknown; known: column, from, load",
  ],
  ["a wrong word", { table: "t", mode: "upsrt" }, 'mode must be "upsert" or "append" or "replace"'],
  ["a number too large", { table: "t", max_rows: 5000 }, "max_rows must be at most 1000"],
  ["a fraction", { table: "t", max_rows: 1.5 }, "max_rows must be a whole number, not this number"],
  ["text for a number", { table: "t", max_rows: "5" }, "max_rows must be a number, not text"],
  ["empty text", { table: "" }, "table must not be empty"],
  ["too many items", { table: "t", rows: [{}, {}, {}, {}] }, "rows must have at most 3 items"],
  ["a wrong item", { table: "t", rows: [1] }, "rows[0] must be an object, not this number"],
  ["broken JSON text", { table: "t", rows: "[{]" }, "rows must be an array; the text given is not valid JSON"],
  ["a value of no allowed shape", { table: "t", where: 5 }, "where must be text or an object, not this number"],
  [
    "the nearest shape with a fault",
    { table: "t", where: { column: 5, is: 1 } },
    "where.column must be text, not this number",
  ],
  ["a form of its own", { table: "t", id: "load_1" }, "id: an export id begins with exp_"],
])("explains %s", (_what, given, sentence) => {
  const { code, message } = failure(given);
  expect(code).toBe("invalid_arguments");
  expect(message).toBe(`bulk_insert: ${sentence}.`);
});

test("gives nearest and allowed values as data too", () => {
  expect(failure({ table: "t", mode: "Apend", tabel: 1 }).details).toEqual({
    problems: [
      { argument: "mode", nearest: ["append"], allowed: ["upsert", "append", "replace"] },
      { argument: "tabel", nearest: ["table"] },
    ],
  });
});

test("shows names of the caller on one line and clipped", () => {
  const { message } = failure({ table: "t", [`a\n${"b".repeat(500)}`]: 1 });
  expect(message).not.toContain("\n");
  expect(message.length).toBeLessThan(400);
});

test("reads JSON text where an object or an array is wanted", () => {
  const given = {
    table: "[not JSON, a name]",
    rows: ' [{"id":9007199254740993}]',
    index: '["a","b"]',
    mapping: '{"columns":"[{\\"column\\":\\"a\\"}]"}',
  };
  expect(readArguments(tool, given)).toEqual({
    table: "[not JSON, a name]",
    mode: "upsert",
    rows: [{ id: "9007199254740993" }],
    index: ["a", "b"],
    mapping: { columns: [{ column: "a" }] },
  });
});

test("leaves text alone that may be text", () => {
  const given = { table: "t", rows: [{ note: '{"a":1}' }], where: "[1] = any(x)", index: "[a" };
  expect(readArguments(tool, given)).toEqual({ mode: "upsert", ...given });
});

test.each([9007199254740992, -9007199254740992, 1e300])("refuses the number %d, whose digits are gone", (number) => {
  const error = failure({ table: "t", rows: [{ id: number }] });
  expect(error).toMatchObject({ code: "send_as_string", details: { argument: "rows[0].id" } });
});

test("refuses arguments nested beyond reason", () => {
  let nested: unknown = 1;
  for (let depth = 0; depth < 5000; depth++) nested = [nested];
  expect(failure({ table: "t", rows: nested })).toMatchObject({ code: "invalid_arguments" });
});
