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
