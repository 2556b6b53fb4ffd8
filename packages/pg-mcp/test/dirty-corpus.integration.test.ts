import { describe, expect, inject, it } from "vitest";
import { checkDirtyCorpus, kinds } from "./dirty-corpus.ts";

describe("a dirty corpus", () => {
  it("has at least 40 kinds of bad value", () => {
    expect(kinds.length).toBeGreaterThanOrEqual(40);
  });

  // `npm run test:dirt` does the same with 50 000 documents.
  it("ends with exactly the expected rejects and reasons, and a replay brings in exactly those it should", async () => {
    await expect(checkDirtyCorpus(inject("databaseUrl"), 1_200)).resolves.toBeUndefined();
  });
});
