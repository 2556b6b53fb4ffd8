import { expect, test } from "vitest";
import { pickFields, referencedFields, unknownAmong } from "./fields.ts";

const source = {
  id: 1,
  name: { first: "a", last: "b" },
  items: [{ sku: "x", n: 1 }, { n: 2 }],
  "flat.path": true,
};

test.each([
  [["id"], { id: 1 }],
  [["name"], { name: { first: "a", last: "b" } }],
  [["name.f*"], { name: { first: "a" } }],
  [["items.sku"], { items: [{ sku: "x" }] }],
  [["flat.*"], { "flat.path": true }],
  [["*"], source],
  [["nothing"], {}],
])("%j picks %j", (patterns, picked) => {
  expect(pickFields(source, patterns)).toEqual(picked);
});

test("finds the fields that a query, aggregations and a sort refer to", () => {
  const names = referencedFields(
    {
      bool: {
        must: [{ match: { title: { query: "x" } } }, { multi_match: { query: "x", fields: ["body^2", "tags"] } }],
        filter: [
          { range: { price: { gte: 1 } } },
          { exists: { field: "stock" } },
          { terms: { brand: ["a"], boost: 2 } },
        ],
      },
    },
    { per: { terms: { field: "category" }, aggs: { most: { max: { field: "rating" } } } } },
    { query_string: { query: 'city:Oslo AND (zip:1* OR "street: x")' } },
  );
  expect([...names].sort()).toEqual(
    ["body", "brand", "category", "city", "price", "rating", "stock", "tags", "title", "zip"].sort(),
  );
});

test("says what may have been meant, and trusts what a mapping cannot list", () => {
  const mapping = [
    { path: "category", type: "keyword" },
    { path: "labels", type: "flattened" },
    { path: "blob", type: "object", enabled: false },
  ];
  expect(unknownAmong(["catgory", "category", "labels.any", "blob.x", "cat*", "dog*"], mapping)).toEqual([
    { field: "catgory", nearest: ["category"] },
    { field: "dog*", nearest: [] },
  ]);
});
