import { expect, test } from "vitest";
import { ToolError } from "../tool-error.ts";
import { failureOf } from "./failure.ts";

const operation = { name: "work", attributes: {} };

test.each([
  ["nothing, where it went well", {}, undefined],
  ["the word that the work gave", { failure: "tool_error" }, "tool_error"],
  ["the code of an error of ours", { error: new ToolError("not_there", "row 7 holds secrets") }, "not_there"],
  ["an SQLSTATE", { error: Object.assign(new Error("value too long: 'secret'"), { code: "22001" }) }, "22001"],
  ["the name of an error without a code", { error: new TypeError("secret") }, "TypeError"],
  [
    "no word for what is none",
    { error: Object.assign(new Error("x"), { code: "a sentence, with a secret" }) },
    "_OTHER",
  ],
  ["no word for what is no error", { error: "secret" }, "_OTHER"],
])("tells %s", (_what, ended, word) => {
  expect(failureOf({ ...operation, ...ended })).toBe(word);
});
