import { describe, expect, it } from "vitest";
import { type DirtKind, dirtAt, dirtKinds, dirtPeriod } from "./dirt.ts";
import { generateDocument, generateDocuments, productId } from "./generate.ts";

const dirtyDocuments = [...generateDocuments({ count: dirtPeriod, dirty: true })];

function documentOf(kind: DirtKind): string {
  return String(dirtyDocuments.find(({ dirt }) => dirt === kind)?.source);
}

describe("generateDocuments", () => {
  it("gives equal bytes for equal options, whichever document is asked for first", () => {
    const documents = [...generateDocuments({ count: 50, seed: 7 })];
    expect(documents[42]).toEqual(generateDocument(42, { dirty: false, seed: 7 }));
    expect(documents[42]?.source.equals(generateDocument(42, { dirty: false, seed: 8 }).source)).toBe(false);
  });

  it("makes plain documents of about 400 bytes with the twelve fields of the mapping", () => {
    const documents = [...generateDocuments({ count: 1000 })];
    const bytes = documents.reduce((sum, { source }) => sum + source.length, 0);
    expect(bytes / documents.length).toBeGreaterThan(380);
    expect(bytes / documents.length).toBeLessThan(420);
    expect(Object.keys(JSON.parse(String(documents[0]?.source)))).toEqual([
      "id",
      "name",
      "category",
      "subcategory",
      "brand",
      "price",
      "description",
      "stock_quantity",
      "created_at",
      "ratings",
      "reviews_count",
      "tags",
    ]);
  });

  it("mixes one document of every kind of dirt into a thousand, each after a plain one", () => {
    const kinds = dirtyDocuments.flatMap(({ dirt }) => (dirt === null ? [] : [dirt]));
    expect(kinds.toSorted()).toEqual(Object.keys(dirtKinds).toSorted());
    const numbers = [...dirtyDocuments.keys()].filter((number) => dirtAt(number) !== null);
    expect(numbers.filter((number) => dirtAt(number - 1) !== null)).toEqual([]);
  });

  it("keeps dirt that a JSON library would repair", () => {
    expect(documentOf("stock_beyond_double")).toContain('"stock_quantity":9007199254740993,');
    expect(documentOf("raw_tabs")).toContain('"\t:\t');
    expect(documentOf("pretty_printed")).toContain('{\n  "id" : "');
    expect(documentOf("comment")).toMatch(/^\{\/\* \} " \{ \*\/"id"/);
    const invalid = dirtyDocuments.find(({ dirt }) => dirt === "name_with_invalid_utf8")?.source;
    expect(invalid?.includes(Buffer.from([0xc0, 0x80]))).toBe(true);
  });

  it("gives a duplicate the id of the document before it", () => {
    const number = dirtyDocuments.findIndex(({ dirt }) => dirt === "id_duplicate");
    expect(JSON.parse(documentOf("id_duplicate"))).toMatchObject({ id: productId(number - 1) });
    expect(dirtyDocuments[number]?.id).toBe(productId(number));
  });
});
