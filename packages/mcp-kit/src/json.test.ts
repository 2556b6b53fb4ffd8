import { expect, test } from "vitest";
import { parseExactJson } from "./json.ts";

test.each([
  ["9007199254740991", 9007199254740991],
  ["-9007199254740991", -9007199254740991],
  ["9007199254740992", "9007199254740992"],
  ["9007199254740993", "9007199254740993"],
  ["-9223372036854775808", "-9223372036854775808"],
  ["1.10", 1.1],
  ["1e3", 1000],
  ["0.0000000000000000", 0],
  ["-0.0", -0],
  ["0.1000000000000000055511151231257827", "0.1000000000000000055511151231257827"],
  ["123456789012345678901234567890.12345", "123456789012345678901234567890.12345"],
  ["1.7976931348623157e308", "1.7976931348623157e308"],
  ["2.5e-10", 2.5e-10],
  ["1e400", "1e400"],
  ["1e-400", "1e-400"],
])("reads %s as %s", (text, value) => {
  expect(parseExactJson(text)).toEqual(value);
});

test("leaves everything but numbers as it is, at any depth", () => {
  expect(parseExactJson('{"a":[true,null,"9007199254740993",{"b":9007199254740993}]}')).toEqual({
    a: [true, null, "9007199254740993", { b: "9007199254740993" }],
  });
});

test.each([
  "[9007199254740993]",
  "[ 9007199254740993 ]",
  "[1,\n\t9007199254740993]",
  '{"a":9007199254740993}',
  '{"a" : \r\n 9007199254740993}',
  " 9007199254740993 ",
])("finds a number wherever one may stand in %j", (text) => {
  expect(JSON.stringify(parseExactJson(text))).toContain('"9007199254740993"');
});

test("finds negative numbers and exponents inside", () => {
  expect(parseExactJson('{"a":[-9007199254740993, -1E400 ,-0.1e1]}')).toEqual({
    a: ["-9007199254740993", "-1E400", -1],
  });
});

test("throws on what is not JSON", () => {
  expect(() => parseExactJson("{a:1}")).toThrow(SyntaxError);
});

test("reads a number of a million digits as the text it was written in", () => {
  const number = `0.1${"0".repeat(1_000_000)}1`;
  expect(parseExactJson(`{"a":${number}}`)).toEqual({ a: number });
});
