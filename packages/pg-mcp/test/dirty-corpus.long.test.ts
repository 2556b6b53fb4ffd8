import { describe, expect, inject, it } from "vitest";
import { checkDirtyCorpus } from "./dirty-corpus.ts";

describe("a dirty corpus of 50 000 documents", () => {
  it("ends with exactly the expected rejects and reasons, and a replay brings in exactly those it should", async () => {
    await expect(checkDirtyCorpus(inject("databaseUrl"), 50_000)).resolves.toBeUndefined();
  });
});
