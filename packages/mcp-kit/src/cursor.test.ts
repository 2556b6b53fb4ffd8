import { expect, test } from "vitest";
import { z } from "zod";
import { decodeCursor, encodeCursor } from "./cursor.ts";

const scope = { tool: "list_indices", arguments: { pattern: "a*", include_hidden: false } };
const position = z.strictObject({ after: z.string() });

test("gives back the position for the same tool and arguments", () => {
  const cursor = encodeCursor(scope, { after: "ü1" });
  expect(cursor).toMatch(/^[\w-]+$/);
  expect(decodeCursor(scope, cursor, position)).toEqual({ after: "ü1" });
});

test("does not count the cursor among the arguments, nor the order of keys", () => {
  const cursor = encodeCursor(scope, { after: "x" });
  const same = { tool: "list_indices", arguments: { include_hidden: false, cursor, pattern: "a*" } };
  expect(decodeCursor(same, cursor, position)).toEqual({ after: "x" });
});

function amended(cursor: string): string {
  const [bound] = JSON.parse(Buffer.from(cursor, "base64url").toString("utf8"));
  return Buffer.from(JSON.stringify([bound, { after: "y" }])).toString("base64url");
}

test.each([
  ["a position put in by hand", scope, amended(encodeCursor(scope, { after: "x" }))],
  ["other arguments", { ...scope, arguments: { pattern: "b*" } }, encodeCursor(scope, { after: "x" })],
  ["another tool", { ...scope, tool: "list_tables" }, encodeCursor(scope, { after: "x" })],
  ["another position", scope, encodeCursor(scope, { page: 1 })],
  ["text of no cursor", scope, "page 2"],
  ["JSON of no cursor", scope, Buffer.from('{"after":"x"}').toString("base64url")],
  ["an endless text", scope, "A".repeat(100_000)],
])("refuses %s", (_what, of, cursor) => {
  expect(() => decodeCursor(of, cursor, position)).toThrow(expect.objectContaining({ code: "invalid_cursor" }));
});
