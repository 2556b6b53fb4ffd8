import { describe, expect, it } from "vitest";
import { idProblem, newId } from "./ids.ts";
import { exportIdSchema } from "./manifest.ts";

describe("newId", () => {
  it("makes ids that the manifest takes", () => {
    for (let count = 0; count < 1000; count += 1) expect(exportIdSchema.safeParse(newId("exp")).success).toBe(true);
    expect(newId("load")).toMatch(/^load_[0-9a-hjkmnp-tv-z]{26}$/);
    expect(newId("map")).toMatch(/^map_[0-9a-hjkmnp-tv-z]{26}$/);
  });

  it("is random in every character", () => {
    const ids = Array.from({ length: 1000 }, () => newId("exp").slice(4));
    expect(new Set(ids).size).toBe(1000);
    for (let position = 0; position < 26; position += 1) {
      expect(new Set(ids.map((id) => id.charAt(position))).size).toBe(32);
    }
  });
});

describe("idProblem", () => {
  it("says what id it is that was given in place of another", () => {
    expect(idProblem("exp", newId("load"))).toBe(
      "an export id is exp_ and 26 characters, from bulk_export; this is the id of a load",
    );
    expect(idProblem("load", "map_1")).toMatch(/this is the id of a mapping$/);
    expect(idProblem("map", "exp_1")).toMatch(/this is the id of an export$/);
    expect(idProblem("exp", "products")).toBe("an export id is exp_ and 26 characters, from bulk_export");
    expect(idProblem("exp", "exp_1")).toBe("an export id is exp_ and 26 characters, from bulk_export");
  });
});
