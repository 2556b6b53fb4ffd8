import { describe, expect, it } from "vitest";
import { PAGE_BYTES_TARGET, PageSize } from "./page-size.ts";

describe("PageSize", () => {
  it("starts small and grows towards the target by at most four times", () => {
    const size = new PageSize(10_000);
    expect(size.documents).toBe(500);
    size.saw(500, 500 * 400);
    expect(size.documents).toBe(2000);
    size.saw(2000, 2000 * 400);
    size.saw(8000, 8000 * 400);
    expect(size.documents).toBe(10_000);
  });

  it("asks for one document where one is beyond the target", () => {
    const size = new PageSize(10_000);
    size.saw(2, PAGE_BYTES_TARGET * 4);
    expect(size.documents).toBe(1);
    expect(size.halve()).toBe(false);
  });

  it("stays below a size that was refused, and comes back slowly", () => {
    const size = new PageSize(10_000);
    size.saw(500, 500);
    expect(size.halve()).toBe(true);
    expect(size.documents).toBe(1000);
    size.saw(1000, 1000);
    expect(size.documents).toBe(1063);
  });

  it("asks for no more than was of use, and grows from there", () => {
    const size = new PageSize(10_000);
    size.saw(500, 500 * 400);
    size.used(0);
    expect(size.documents).toBe(1);
    size.saw(1, 400);
    expect(size.documents).toBe(4);
    size.used(10);
    expect(size.documents).toBe(4);
  });

  it("never exceeds the index's result window", () => {
    const size = new PageSize(100);
    expect(size.documents).toBe(100);
    size.saw(100, 100);
    expect(size.documents).toBe(100);
  });

  it("knows when a busy Elasticsearch is not helped by less", () => {
    const size = new PageSize(10_000);
    expect(size.isLarge(1)).toBe(true);
    size.saw(500, 500 * 400);
    expect(size.isLarge(500)).toBe(true);
    expect(size.isLarge(100)).toBe(false);
  });
});
