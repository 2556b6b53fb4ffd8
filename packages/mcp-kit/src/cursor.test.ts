import { expect, test } from "vitest";
import { z } from "zod";
import { Cursors } from "./cursor.ts";

const scope = { tool: "list_indices", arguments: { pattern: "a*", include_hidden: false } };
const cursors = new Cursors("a secret");
const position = z.strictObject({ after: z.string() });

test("gives back the position for the same tool and arguments", () => {
  const cursor = cursors.encode(scope, { after: "ü1" });
  expect(cursor).toMatch(/^[\w-]+$/);
  expect(cursors.decode(scope, cursor, position)).toEqual({ after: "ü1" });
});

test("does not count the cursor among the arguments, nor the order of keys", () => {
  const cursor = cursors.encode(scope, { after: "x" });
  const same = { tool: "list_indices", arguments: { include_hidden: false, cursor, pattern: "a*" } };
  expect(cursors.decode(same, cursor, position)).toEqual({ after: "x" });
});

test("is good in another process of the same secret, and in no other", () => {
  const cursor = cursors.encode(scope, { after: "x" });
  expect(new Cursors("a secret").decode(scope, cursor, position)).toEqual({ after: "x" });
  for (const other of [new Cursors("another"), new Cursors(), new Cursors()]) {
    expect(() => other.decode(scope, cursor, position)).toThrow(expect.objectContaining({ code: "invalid_cursor" }));
  }
});

test("shows nothing of the position", () => {
  const cursor = cursors.encode(scope, { after: "a-name-that-shows" });
  expect(Buffer.from(cursor, "base64url").toString("latin1")).not.toContain("shows");
});

test("is refused when any of its bits is turned", () => {
  const bytes = Buffer.from(cursors.encode(scope, { after: "x" }), "base64url");
  for (let bit = 0; bit < bytes.length * 8; bit++) {
    const turned = Buffer.from(bytes);
    turned[bit >> 3] = (turned[bit >> 3] ?? 0) ^ (1 << (bit & 7));
    expect(() => cursors.decode(scope, turned.toString("base64url"), position)).toThrow(
      expect.objectContaining({ code: "invalid_cursor" }),
    );
  }
});

test.each([
  ["other arguments", { ...scope, arguments: { pattern: "b*" } }, cursors.encode(scope, { after: "x" })],
  ["another tool", { ...scope, tool: "list_tables" }, cursors.encode(scope, { after: "x" })],
  ["another position", scope, cursors.encode(scope, { page: 1 })],
  ["text of no cursor", scope, "page 2"],
  ["JSON of no cursor", scope, Buffer.from('{"after":"x"}').toString("base64url")],
  ["an endless text", scope, "A".repeat(100_000)],
])("refuses %s", (_what, of, cursor) => {
  expect(() => cursors.decode(of, cursor, position)).toThrow(expect.objectContaining({ code: "invalid_cursor" }));
});
