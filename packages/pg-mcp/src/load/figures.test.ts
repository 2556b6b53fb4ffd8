import { describe, expect, it } from "vitest";
import { conservationBreach, noFigures } from "./figures.ts";

describe("conservationBreach", () => {
  it("finds nothing where every staged document has one outcome", () => {
    const figures = { ...noFigures(), expected: 9, staged: 9, inserted: 2, updated: 1, unchanged: 1, skipped: 1 };
    expect(conservationBreach({ ...figures, stale: 1, deduplicated: 1, suppressed: 1, rejected: 1 })).toBeUndefined();
  });

  it("names what was expected and not staged", () => {
    expect(conservationBreach({ ...noFigures(), expected: 3, staged: 2, inserted: 2 })).toBe(
      "3 documents expected, 2 staged",
    );
  });

  it("names a document that ended nowhere, and one that ended twice", () => {
    expect(conservationBreach({ ...noFigures(), expected: 2, staged: 2, inserted: 1 })).toContain("1 accounted for");
    expect(conservationBreach({ ...noFigures(), expected: 1, staged: 1, inserted: 1, rejected: 1 })).toContain(
      "2 accounted for",
    );
  });

  it("takes a count below zero as a breach even where the sum fits", () => {
    expect(conservationBreach({ ...noFigures(), expected: 1, staged: 1, inserted: 2, suppressed: -1 })).toBe(
      "suppressed is -1",
    );
  });
});
