import { describe, expect, it } from "vitest";
import { newId } from "./ids.ts";
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
