import { publishedTool, schemaBytes } from "@es-to-pg/mcp-kit";
import { describe, expect, it } from "vitest";
import { createTable } from "./create-table.ts";
import { proposeMapping } from "./propose-mapping.ts";

describe.each([createTable, proposeMapping])("$name", (tool) => {
  it("is published as in its snapshot", async () => {
    const published = JSON.stringify(publishedTool(tool, { structuredOutput: true }), null, 2);
    await expect(`${published}\n`).toMatchFileSnapshot(`__toolsnaps__/${tool.name}.json`);
  });
});

describe("the two tools of mappings", () => {
  it("leave the other twelve room in the list of tools", () => {
    expect(schemaBytes([createTable, proposeMapping])).toBeLessThan(2_300);
  });
});
