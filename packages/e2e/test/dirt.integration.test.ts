import { type DirtKind, dirtKinds, expectedOutcome, generateDocuments, seedProducts } from "@es-to-pg/seed";
import { afterAll, beforeAll, describe, expect, inject, it } from "vitest";
import { z } from "zod";
import { accountedFor, type CourseResult, runCourse } from "../src/course.ts";
import type { Session } from "../src/servers.ts";
import { makePlace, type Place } from "./support.ts";

const count = 2000;
const rejectsSchema = z.looseObject({
  rejects: z.array(z.looseObject({ document_id: z.string(), column: z.string().nullable(), reason: z.string() })),
  next_cursor: z.string().optional(),
});
let place: Place;
let pg: Session;
let result: CourseResult;
let rejects: Map<string, { column: string | null; reason: string }>;
const documents = [...generateDocuments({ count, dirty: true })];

beforeAll(async () => {
  place = await makePlace();
  const { index, schema } = place;
  await seedProducts({ elasticsearchUrl: inject("elasticsearchUrl"), index, generate: { count, dirty: true } });
  const es = await place.open("es-mcp");
  pg = await place.open("pg-mcp");
  result = await runCourse({ es, pg, index, schema, table: "products" });
  rejects = await allRejects(result.load.load_id);
});

afterAll(async () => {
  await place[Symbol.asyncDispose]();
});

describe("a load of dirty documents", () => {
  it("accounts for every document", () => {
    const { figures } = result.load;
    expect(figures.expected).toBe(count);
    expect(figures.staged).toBe(count);
    expect(accountedFor(figures)).toBe(count);
    expect(result.verified).toMatchObject({ missing: 0, different: 0 });
  });

  it("rejects exactly the documents that must be, each with its column and a reason", () => {
    const expected = documents.flatMap(({ id, dirt }) => {
      const outcome = dirt === null ? undefined : expectedOutcome(dirt);
      return outcome?.outcome === "rejected" ? [[id, { dirt, column: outcome.column }] as const] : [];
    });
    const kinds = new Map(documents.map(({ id, dirt }) => [id, dirt]));
    const found = [...rejects].map(([id, { column }]) => [id, { dirt: kinds.get(id), column }] as const);
    expect(Object.fromEntries(found)).toEqual(Object.fromEntries(expected));
    expect([...rejects.values()].filter(({ reason }) => reason === "")).toEqual([]);
    expect(result.load.figures.rejected).toBe(expected.length);
  });

  it("keeps the later one of two documents with one id", async () => {
    const duplicates = documents.filter(({ dirt }) => dirt === "id_duplicate");
    expect(result.load.figures.deduplicated).toBe(duplicates.length);
    const later = z
      .object({ id: z.string(), description: z.string() })
      .parse(JSON.parse(String(duplicates[0]?.source)));
    const rows = await place.sql(`SELECT description FROM ${place.schema}.products WHERE id = $1`, [later.id]);
    expect(rows).toEqual([[later.description]]);
  });

  it("has a row for every other document", async () => {
    const loaded = documents.filter(({ dirt }) => dirt === null || expectedOutcome(dirt).outcome === "loaded");
    const rows = await place.sql(`SELECT id FROM ${place.schema}.products ORDER BY id`);
    expect(rows.map(([id]) => id)).toEqual(loaded.map(({ id }) => id));
  });

  it.each([
    ["price_as_text", "price", "12.50"],
    ["price_with_exponent", "price", "12.50"],
    ["price_null", "price", null],
    ["price_missing", "price", null],
    ["name_with_emoji", "name", "lamp 💡 💡 ünïcödé"],
    ["name_with_escapes", "name", 'a\\b "c" \\N \\. \t d\ne'],
    ["tags_with_delimiters", "to_json(tags)::text", '["a,b","{c}","d\\"e","f\\\\g","NULL",null,""]'],
    ["tags_as_scalar", "to_json(tags)::text", '["single"]'],
  ] satisfies [DirtKind, string, string | null][])("loads %s exactly", async (kind, expression, value) => {
    expect(await valueOf(kind, expression)).toBe(value);
  });

  it.each(["raw_tabs", "comment", "pretty_printed"] satisfies DirtKind[])(
    "loads a document with %s like a plain one",
    async (kind) => {
      const document = documents.find(({ dirt }) => dirt === kind);
      const text = String(document?.source).replace('/* } " { */', "");
      const { name, price, tags } = JSON.parse(text);
      const value = await valueOf(kind, "json_build_array(name, price, tags)::text");
      expect(JSON.parse(String(value))).toEqual([name, price, tags]);
    },
  );

  it("covers every kind of dirt there is", () => {
    const kinds = new Set<string | null>(documents.map(({ dirt }) => dirt));
    expect(Object.keys(dirtKinds).filter((name) => !kinds.has(name))).toEqual([]);
  });
});

async function valueOf(kind: DirtKind, expression: string): Promise<string | null | undefined> {
  const document = documents.find(({ dirt }) => dirt === kind);
  const rows = await place.sql(`SELECT ${expression} FROM ${place.schema}.products WHERE id = $1`, [document?.id]);
  return rows[0]?.[0];
}

async function allRejects(loadId: string): Promise<Map<string, { column: string | null; reason: string }>> {
  const found = new Map<string, { column: string | null; reason: string }>();
  let cursor: string | undefined;
  do {
    const answer = await pg.call("list_rejects", { load_id: loadId, ...(cursor === undefined ? {} : { cursor }) });
    const page = rejectsSchema.parse(answer.data);
    for (const { document_id, column, reason } of page.rejects) found.set(document_id, { column, reason });
    cursor = page.next_cursor;
  } while (cursor !== undefined);
  return found;
}
