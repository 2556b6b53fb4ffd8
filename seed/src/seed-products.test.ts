import { expect, it } from "vitest";
import { readData } from "./data.ts";
import { fifteenProducts } from "./seed-products.ts";

it("has fifteen products whose ids differ and whose fields are those of the mapping and the table", async () => {
  const products = await fifteenProducts();
  expect(new Set(products.map(({ id }) => id)).size).toBe(15);
  const { properties } = JSON.parse(await readData("mapping.json"));
  const fields = Object.keys(properties);
  expect(fields).toHaveLength(12);
  for (const { source } of products) expect(Object.keys(JSON.parse(String(source)))).toEqual(fields);
  const table = await readData("products.sql");
  expect([...table.matchAll(/^ {2}(\w+) /gm)].map((match) => match[1])).toEqual(fields);
});
