import type { MappingField } from "@es-to-pg/staging";
import { expect, it } from "vitest";
import { refuseUnknownFields, selectedMapping } from "./selected-fields.ts";

const mapping: MappingField[] = [
  { path: "name", type: "text" },
  { path: "name.raw", type: "keyword", multi_field: true },
  { path: "title", type: "alias", parameters: { path: "name" } },
  { path: "labels", type: "flattened" },
  { path: "total", type: "double", parameters: { runtime: true, script: true } },
  { path: "note", type: "keyword", parameters: { runtime: true } },
];

it.each(["name", "na*", "labels.colour", "note", "unmapped*"])("takes %s", (field) => {
  expect(() => refuseUnknownFields(["name", field], mapping)).not.toThrow();
});

it.each([
  ["a misspelt field", "nmae", { code: "unknown_field", details: { field: "nmae", nearest: ["name"] } }],
  ["a multi-field", "name.raw", { code: "field_not_in_source" }],
  ["an alias", "title", { code: "field_not_in_source" }],
  [
    "a field that a script computes",
    "total",
    { code: "field_not_in_source", next: expect.stringContaining("expression") },
  ],
])("refuses %s", (_what, field, expected) => {
  expect(() => refuseUnknownFields([field], mapping)).toThrow(expect.objectContaining(expected));
});

it("refuses globs that match nothing", () => {
  expect(() => refuseUnknownFields(["zzz*"], mapping)).toThrow(expect.objectContaining({ code: "unknown_field" }));
});

it.each([
  [["name"], ["name", "name.raw"]],
  [["labels.colour"], ["labels"]],
  [["address.city"], ["address", "address.city"]],
  [["address"], ["address", "address.city", "address.street"]],
  // What an open object holds nobody knows; what another one holds is in the mapping.
  [["*.city"], ["labels", "address", "address.city", "anything"]],
])("keeps of the mapping what documents cut to %j can hold", (fields, paths) => {
  const nested: MappingField[] = [
    ...mapping,
    { path: "address", type: "object" },
    { path: "address.city", type: "keyword" },
    { path: "address.street", type: "keyword" },
    { path: "anything", type: "object" },
    { path: "other", type: "object" },
    { path: "other.price", type: "double" },
  ];
  expect(selectedMapping(fields, nested).map(({ path }) => path)).toEqual(paths);
});
