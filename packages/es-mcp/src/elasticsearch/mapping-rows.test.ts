import { expect, test } from "vitest";
import { mappingRows, pruneMapping } from "./mapping-rows.ts";

const a = { properties: { id: { type: "long" }, name: { type: "text", fields: { raw: { type: "keyword" } } } } };
const b = { properties: { id: { type: "keyword" }, extra: { type: "date" } } };

test("folds multi-fields into their field and names the indices of a conflict", () => {
  const rows = mappingRows(
    new Map<string, unknown>([
      ["a1", a],
      ["a2", a],
      ["b", b],
    ]),
    undefined,
  );
  expect(rows).toEqual([
    { path: "id", type: "long", conflicts: { long: ["a1", "a2"], keyword: ["b"] } },
    { path: "name", type: "text", multi_fields: { raw: "keyword" } },
    { path: "extra", type: "date" },
  ]);
});

test("a pattern that names a multi-field shows the field that has it", () => {
  expect(mappingRows(new Map([["a", a]]), ["*.raw"])).toEqual([
    { path: "name", type: "text", multi_fields: { raw: "keyword" } },
  ]);
});

test("pruning keeps what is named whole, and the way to it", () => {
  const mapping = {
    dynamic: "strict",
    properties: {
      o: { properties: { x: { type: "long", meta: { unit: "s" } }, y: { type: "long" } } },
      z: { type: "long" },
    },
  };
  expect(pruneMapping(mapping, ["o.x"])).toEqual({
    dynamic: "strict",
    properties: { o: { properties: { x: { type: "long", meta: { unit: "s" } } } } },
  });
});
