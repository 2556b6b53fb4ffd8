import { describe, expect, it } from "vitest";
import { asStagingError } from "./files.ts";
import { StagingError } from "./staging-error.ts";

const failed = (code: string): Error => Object.assign(new Error(code), { code });

describe("asStagingError", () => {
  it.each([
    ["ENOSPC", "staging_full", /full/],
    ["EDQUOT", "staging_full", /full/],
    ["EROFS", "staging_unshared", /cannot be written/],
    ["EIO", "staging_unshared", /disk of the staging root fails \(EIO\)/],
    ["ETIMEDOUT", "staging_unshared", /disk of the staging root fails/],
  ])("tells of %s what it means for staging, and that it can be tried again", (code, word, message) => {
    const error = asStagingError(failed(code));
    expect(error).toBeInstanceOf(StagingError);
    expect(error).toMatchObject({ code: word, message: expect.stringMatching(message), retryable: true });
  });

  it("leaves what it does not know as it is", () => {
    const error = failed("EBADF");
    expect(asStagingError(error)).toBe(error);
  });
});
