import { expect, test } from "vitest";
import { withoutComments } from "./without-comments.ts";

test.each([
  ['{"a":1/* } " { */,"b":2}', { a: 1, b: 2 }],
  ['{"a":1 // it\'s "unbalanced }\n,"b":2}', { a: 1, b: 2 }],
  ['{"url":"http://a/*b*/","q":"\\"// no\\\\"}', { url: "http://a/*b*/", q: '"// no\\' }],
  ["{}", {}],
])("%j reads as %j", (text, value) => {
  expect(JSON.parse(withoutComments(text))).toEqual(value);
});

test("reads past a string of many megabytes", () => {
  const string = `"${"x".repeat(30_000_000)}\\"//"`;
  expect(withoutComments(`{"a":${string}/* c */}`) === `{"a":${string} }`).toBe(true);
});

test("gives up at once on what is never closed", () => {
  for (const open of ['"\\'.repeat(1_000_000), "/* ".repeat(1_000_000), '"\\"'.repeat(1_000_001)]) {
    expect(withoutComments(open) === open).toBe(true);
  }
});
