import { describe, expect, it } from "vitest";
import { nameReadings } from "./catalog.ts";
import { allowsTable, defaultSchemas, everything } from "./policy.ts";

describe("allowsTable", () => {
  it.each([
    ["all where nothing is said", everything, true],
    ["a schema that is listed", { ...everything, schemasAllow: ["sh*"] }, true],
    ["no schema that is not", { ...everything, schemasAllow: ["other"] }, false],
    [
      "no schema that is denied, whatever is allowed",
      { ...everything, schemasAllow: ["shop"], schemasDeny: ["shop"] },
      false,
    ],
    ["a table by its name", { ...everything, tablesAllow: ["orders"] }, true],
    ["a table by schema and name", { ...everything, tablesAllow: ["shop.ord?rs"] }, true],
    ["no other table", { ...everything, tablesAllow: ["products"] }, false],
    ["no denied table", { ...everything, tablesDeny: ["*.orders"] }, false],
    ["no table by a glob that only looks like a pattern", { ...everything, tablesAllow: ["order."] }, false],
  ])("allows %s", (_, policy, allowed) => {
    expect(allowsTable(policy, { schema: "shop", table: "orders" })).toBe(allowed);
  });
});

it("looks for unqualified names in the allowed schemas, or in public", () => {
  expect(defaultSchemas(everything)).toEqual(["public"]);
  expect(defaultSchemas({ ...everything, schemasAllow: ["stage_*", "shop"] })).toEqual(["shop"]);
});

it("tries a name as written, as schema and table, and folded as SQL folds it", () => {
  expect(nameReadings({ table: "Shop.Orders" }, ["public"])).toEqual([
    { schema: "public", table: "Shop.Orders" },
    { schema: "Shop", table: "Orders" },
    { schema: "public", table: "shop.orders" },
    { schema: "shop", table: "orders" },
  ]);
  expect(nameReadings({ schema: "shop", table: '"Odd.Name"' }, [])).toContainEqual({
    schema: "shop",
    table: "Odd.Name",
  });
});
