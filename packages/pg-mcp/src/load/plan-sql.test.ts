import { describe, expect, it } from "vitest";
import { castTo } from "./plan-sql.ts";

describe("castTo", () => {
  it("casts to the column's type where a cast that does not fit is an error", () => {
    expect(castTo('"price"', "numeric(10,2)")).toBe('("price")::numeric(10,2)');
    expect(castTo('"tags"', "text[]")).toBe('("tags")::text[]');
  });

  it("leaves the length to the assignment where a cast would cut without a word", () => {
    expect(castTo('"name"', "character varying(50)")).toBe('("name")::character varying');
    expect(castTo('"names"', "character varying(50)[]")).toBe('("names")::character varying[]');
    expect(castTo('"bits"', "bit varying(8)")).toBe('("bits")::bit varying');
  });

  it("pads a fixed length only where the value fits it", () => {
    expect(castTo('"code"', "character(3)")).toContain("<= 3 THEN");
    expect(castTo('"flags"', "bit(4)")).toContain("= 4 THEN");
  });
});
