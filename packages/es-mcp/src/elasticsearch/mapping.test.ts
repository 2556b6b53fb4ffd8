import { expect, test } from "vitest";
import { flattenMapping, mergeMappings, sourceModeOf } from "./mapping.ts";

test("lists multi-fields, implicit objects, nested objects and disabled ones", () => {
  const fields = flattenMapping({
    dynamic: "strict",
    properties: {
      name: { type: "text", analyzer: "english", fields: { keyword: { type: "keyword", ignore_above: 256 } } },
      address: { properties: { city: { type: "keyword", null_value: "none" } } },
      items: { type: "nested", properties: { sku: { type: "keyword" } } },
      blob: { type: "object", enabled: false },
      price: { type: "scaled_float", scaling_factor: 100 },
      created: { type: "date", format: "yyyy/MM/dd" },
      kind: { type: "constant_keyword", value: "product" },
      other: { type: "alias", path: "name" },
    },
    runtime: { computed: { type: "long", script: { source: "secret code" } } },
  });
  expect(fields).toEqual([
    { path: "name", type: "text" },
    { path: "name.keyword", type: "keyword", multi_field: true, parameters: { ignore_above: 256 } },
    { path: "address", type: "object" },
    { path: "address.city", type: "keyword", parameters: { null_value: "none" } },
    { path: "items", type: "nested" },
    { path: "items.sku", type: "keyword", nested: true },
    { path: "blob", type: "object", enabled: false },
    { path: "price", type: "scaled_float", scaling_factor: 100 },
    { path: "created", type: "date", format: "yyyy/MM/dd" },
    { path: "kind", type: "constant_keyword", constant: "product", parameters: { value: "product" } },
    { path: "other", type: "alias", parameters: { path: "name" } },
    { path: "computed", type: "long", parameters: { runtime: true, script: true } },
  ]);
});

test.each([[undefined], [null], [{}], [{ properties: {} }], ["text"]])("%j has no fields", (mapping) => {
  expect(flattenMapping(mapping)).toEqual([]);
});

test("merges indices and names the types that differ, once each", () => {
  const merged = mergeMappings([
    [
      { path: "a", type: "long" },
      { path: "b", type: "keyword" },
    ],
    [
      { path: "a", type: "text" },
      { path: "c", type: "date" },
    ],
    [{ path: "a", type: "text" }],
  ]);
  expect(merged).toEqual([
    { path: "a", type: "long", conflicts: ["text"] },
    { path: "b", type: "keyword" },
    { path: "c", type: "date" },
  ]);
});

test.each([
  [{}, {}, "stored"],
  [{ _source: { enabled: false } }, {}, "disabled"],
  [{ _source: { excludes: ["a"] } }, {}, "filtered"],
  [{ _source: { includes: [] } }, {}, "stored"],
  [{ _source: { mode: "synthetic" } }, {}, "synthetic"],
  [{}, { "index.mapping.source.mode": "synthetic" }, "synthetic"],
  [{}, { "index.mode": "logsdb" }, "synthetic"],
  [{}, { "index.mode": "logsdb", "index.mapping.source.mode": "stored" }, "stored"],
])("%j with %j keeps _source %s", (mapping, settings, mode) => {
  expect(sourceModeOf(mapping, settings)).toBe(mode);
});
