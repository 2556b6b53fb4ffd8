import { ToolError } from "@es-to-pg/mcp-kit";
import { describe, expect, it } from "vitest";
import { changeMapping, type Mapping, parseMapping, parseMappingReference } from "./mapping.ts";

function codeOf(work: () => unknown): unknown {
  try {
    work();
  } catch (error) {
    return error instanceof ToolError ? { code: error.code, message: error.message } : error;
  }
  return "no error";
}

const mapping: Mapping = {
  columns: [{ column: "id" }, { column: "price", from: "cost", round: "round" }],
  key: ["id"],
};

describe("a mapping", () => {
  it.each([
    [{}, "columns"],
    [{ columns: [] }, "columns"],
    [{ columns: [{ column: "a", form: "b" }] }, "form"],
    [{ columns: [{ column: "a", on_missing: "skip" }] }, "columns[0].on_missing"],
    [{ columns: [{ column: "a" }, { column: "a" }] }, "mapped twice"],
    [{ columns: [{ column: "a", constant: 1, expression: "b" }] }, "constant excludes"],
    [{ columns: [{ column: "a", load: false, expression: "b" }] }, "load:false"],
    [{ columns: [{ column: "a", staged_as: "text" }] }, "staged_as"],
  ])("%j is refused by what is wrong with it", (value, part) => {
    expect(codeOf(() => parseMapping(value))).toMatchObject({
      code: "invalid_mapping",
      message: expect.stringContaining(part),
    });
  });

  it("changes by column, takes settings back by null, adds and removes columns", () => {
    const changed = changeMapping(mapping, {
      columns: [
        { column: "price", round: null, on_null: 0 },
        { column: "name", nul: "strip" },
      ],
      remove: ["id"],
      key: null,
      version_from: "_seq_no",
    });
    expect(changed).toEqual({
      columns: [
        { column: "price", from: "cost", on_null: 0 },
        { column: "name", nul: "strip" },
      ],
      version_from: "_seq_no",
    });
    expect(mapping.columns).toHaveLength(2);
  });

  it("lets an expression read what its column read before, and a new column only what it names", () => {
    const expression = "id || '-' || price";
    const changed = changeMapping(mapping, {
      columns: ["id", "price", "label"].map((column) => ({ column, expression })),
    });
    expect(changed.columns).toEqual([
      { column: "id", from: "id", expression },
      { column: "price", from: "cost", round: "round", expression },
      { column: "label", expression },
    ]);
    expect(changeMapping(mapping, { columns: [{ column: "id", from: "sku", expression }] }).columns[0]).toEqual({
      column: "id",
      from: "sku",
      expression,
    });
  });

  it("refuses changes that take away what is not there or misspell a setting", () => {
    expect(codeOf(() => changeMapping(mapping, { remove: ["prize"] }))).toMatchObject({ code: "invalid_mapping" });
    expect(codeOf(() => changeMapping(mapping, { columns: [{ column: "id", nulls: "strip" }] }))).toMatchObject({
      code: "invalid_mapping",
    });
  });

  it("is named by its id, by an id with changes, or given whole", () => {
    const id = `map_${"0".repeat(26)}`;
    expect(parseMappingReference(id)).toEqual({ kind: "stored", id, changes: undefined });
    expect(parseMappingReference({ id, changes: { remove: ["a"] } })).toEqual({
      kind: "stored",
      id,
      changes: { remove: ["a"] },
    });
    expect(parseMappingReference(mapping)).toEqual({ kind: "inline", mapping });
    expect(codeOf(() => parseMappingReference({ id, change: {} }))).toMatchObject({ code: "invalid_mapping" });
  });
});
