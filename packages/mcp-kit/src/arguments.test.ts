import { expect, test } from "vitest";
import { z } from "zod";
import { readArguments } from "./arguments.ts";
import { suggesting } from "./correct.ts";
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
    key: suggesting(z.array(z.string()), (given) => (given === true ? ["id"] : undefined)).optional(),
    dry_run: z.boolean().default(false),
    token: z.string({ error: "the token of a dry run" }).optional(),
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
  expect(readArguments(tool, { table: "t" })).toEqual({ table: "t", mode: "upsert", dry_run: false });
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
  ["text for a number", { table: "t", max_rows: "five" }, "max_rows must be a number, not text"],
  ["several names in one text", { table: "t", key: "a, b" }, "key must be an array, not text"],
  ["another word for a name", { table: "t", limit: 5 }, "limit is unknown, did you mean max_rows"],
  ["a message of the schema's own", { table: "t", token: true }, "token: the token of a dry run"],
  ["empty text", { table: "" }, "table must not be empty"],
  ["too many items", { table: "t", rows: [{}, {}, {}, {}] }, "rows must have at most 3 items"],
  ["a wrong item", { table: "t", rows: [1] }, "rows[0] must be an object, not this number"],
  ["broken JSON text", { table: "t", rows: "[{]" }, "rows must be an array; the text given is not valid JSON"],
  ["a value of no allowed shape", { table: "t", where: 5 }, "where must be text or an object, not this number"],
  [
    "the nearest shape with a fault",
    { table: "t", where: { column: 0.5, is: 1 } },
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
    dry_run: false,
    rows: [{ id: "9007199254740993" }],
    index: ["a", "b"],
    mapping: { columns: [{ column: "a" }] },
  });
});

test("leaves text alone that may be text", () => {
  const given = { table: "t", rows: [{ note: '{"a":1}' }], where: "[1] = any(x)", index: "[a" };
  expect(readArguments(tool, given)).toEqual({ mode: "upsert", dry_run: false, ...given });
});

test.each([
  ["a number as text", { max_rows: " 10 " }, { max_rows: 10 }],
  ["a boolean as text", { dry_run: "True" }, { dry_run: true }],
  ["one text for a list", { key: "id" }, { key: ["id"] }],
  ["null for what is left out", { max_rows: null, mode: null, where: null }, { mode: "upsert" }],
  ["a name in another case", { maxRows: 10, "dry-run": true }, { max_rows: 10, dry_run: true }],
  ["a word in another case", { mode: "REPLACE" }, { mode: "replace" }],
  ["an id of digits", { table: 17 }, { table: "17" }],
])("understands %s", (_what, given, understood) => {
  expect(readArguments(tool, { table: "t", ...given })).toEqual({
    table: "t",
    mode: "upsert",
    dry_run: false,
    ...understood,
  });
});

test.each([
  ["two spellings of one name", { maxRows: 1, MAX_ROWS: 2 }],
  ["a number that text would not give back", { max_rows: "9007199254740993" }],
  ["null in a list", { key: [null] }],
  ["a decimal for an id", { table: 1.5 }],
])("does not guess at %s", (_what, given) => {
  expect(failure({ table: "t", ...given })).toMatchObject({ code: "invalid_arguments" });
});

test.each([
  ["a misspelt name", { tabel: "t" }, { table: "t" }],
  ["a name that means the same", { table: "t", limit: "5" }, { table: "t", max_rows: 5 }],
  ["a number beyond the limit", { table: "t", max_rows: 5000 }, { table: "t", max_rows: 1000 }],
  ["several names in one text", { table: "t", key: "a, b" }, { table: "t", key: ["a", "b"] }],
  ["values by number", { table: "t", key: { 2: "b", 1: "a" } }, { table: "t", key: ["a", "b"] }],
  ["what the schema suggests", { table: "t", key: true }, { table: "t", key: ["id"] }],
  ["two problems", { table: "t", maping: { columns: [{ column: "a", frm: "b" }] } }, undefined],
])("corrects %s", (_what, given, corrected) => {
  const changes = failure(given).instead?.arguments;
  const kept = Object.entries({ ...given, ...changes }).filter(([, value]) => value !== undefined);
  expect(changes === undefined ? undefined : Object.fromEntries(kept)).toEqual(corrected);
});

test("chooses no word for a tool that writes", () => {
  const annotations = { readOnlyHint: false };
  const wrong = () => readArguments({ ...tool, annotations }, { table: "t", mode: "apend" });
  expect(wrong).toThrow(expect.objectContaining({ instead: undefined }));
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
