import { describe, expect, it } from "vitest";
import { checkPath } from "./xpath.ts";

describe("checkPath", () => {
  it.each([
    "/a/text()",
    "/",
    "//b",
    "/a//b/@id",
    "//ns:item[@id='7']/ns:name/text()",
    "/r/x[1]",
    "/r/x[last()]",
    "/r/x[position() <= 3]",
    "//person[name='Ann' and not(@hidden)]/address/city",
    "//x[contains(text(), 'ab')]",
    '//x[starts-with(@href, "http")]',
    "count(//b)",
    "string(/a/b)",
    "a/b",
    ".",
    "/größe/ñ",
  ])("lets a walk down the document pass: %s", (path) => {
    expect(() => checkPath(path)).not.toThrow();
  });

  it.each([
    "//a//b",
    "//b/following::c",
    "//b/preceding-sibling::b",
    "//*/ancestor::*",
    "//*/..",
    "//*[.//*]",
    "//*[count(//*) > 0]",
    "/a/b[c=/a/b/c]",
    "/a[b=c]",
    "/a[b[c]]",
    "//a|//b",
    "(//a)[1]",
    "id('x')",
    "//a[1+count(//b)]",
    "",
    "//a[",
    `//${"a/".repeat(300)}b`,
  ])("refuses what may take for ever: %s", (path) => {
    expect(() => checkPath(path)).toThrow(/does not run XPath of this form/);
  });

  it("refuses a path that it cannot read, and from a row one that leaves it", () => {
    expect(() => checkPath(undefined)).toThrow(/XPath that is computed/);
    expect(() => checkPath("../@id", { perRow: true })).not.toThrow();
    expect(() => checkPath("name/text()", { perRow: true })).not.toThrow();
    expect(() => checkPath("/a/b", { perRow: true })).toThrow(/of this form/);
    expect(() => checkPath(".//b", { perRow: true })).toThrow(/of this form/);
  });

  it.each(["a[b='x' and ", "a/", "[", "a[not(b", "@a", "'", ".", "a.b-", " and a"])(
    "comes to an end, however often a path goes on: %s",
    (part) => {
      expect(() => checkPath(`//${part.repeat(Math.floor(490 / part.length))}!`)).toThrow(/of this form/);
    },
  );
});
