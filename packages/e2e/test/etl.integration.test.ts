import { fifteenProducts, seedProducts } from "@es-to-pg/seed";
import { afterEach, beforeEach, describe, expect, inject, it } from "vitest";
import { accountedFor, Caller, loadExport, runCourse } from "../src/course.ts";
import { makePlace, type Place } from "./support.ts";

let place: Place;

beforeEach(async () => {
  place = await makePlace();
});

afterEach(async () => {
  await place[Symbol.asyncDispose]();
});

const ways = [
  { client: "v1", transport: "stdio" },
  { client: "v2", transport: "stdio" },
  { client: "v1", transport: "http" },
  { client: "v2", transport: "http" },
] as const;

describe("the whole way from an index to a table", () => {
  it.each(ways)("works for the $client client over $transport", async (way) => {
    await seedProducts({ elasticsearchUrl: inject("elasticsearchUrl"), index: place.index });
    const es = await place.open("es-mcp", way);
    const pg = await place.open("pg-mcp", way);
    const { index, schema } = place;
    const result = await runCourse({ es, pg, index, schema, table: "products" });

    expect(result.load.figures).toEqual({
      expected: 15,
      staged: 15,
      inserted: 15,
      updated: 0,
      unchanged: 0,
      skipped: 0,
      stale: 0,
      deduplicated: 0,
      suppressed: 0,
      rejected: 0,
    });
    expect(result.verified).toMatchObject({ matched: 15, missing: 0, different: 0 });
    expect(result.rows).toBe(15);
    const rows = await place.sql(`SELECT row_to_json(p)::text FROM ${schema}.products AS p ORDER BY id`);
    const products = (await fifteenProducts()).map(({ source }) => JSON.parse(String(source)));
    expect(rows.map(([json]) => withInstant(JSON.parse(String(json))))).toEqual(products.map(withInstant));
    const exact = await place.sql(`SELECT price::text, ratings::text FROM ${schema}.products WHERE id = 'prod-007'`);
    expect(exact).toEqual([["44.10", "4.90"]]);
  });

  it("changes no row the second time, and only what changed after that", async () => {
    await seedProducts({ elasticsearchUrl: inject("elasticsearchUrl"), index: place.index });
    const es = await place.open("es-mcp");
    const pg = await place.open("pg-mcp");
    const { index, schema } = place;
    await runCourse({ es, pg, index, schema, table: "products" });
    const before = await place.sql(`SELECT id, xmin::text, ctid::text FROM ${schema}.products ORDER BY id`);

    const second = await runCourse({ es, pg, index, schema, table: "products" });
    expect(second.load.figures).toMatchObject({ staged: 15, inserted: 0, updated: 0, unchanged: 15 });
    const after = await place.sql(`SELECT id, xmin::text, ctid::text FROM ${schema}.products ORDER BY id`);
    expect(after).toEqual(before);

    await place.es("POST", `${index}/_update/prod-003?refresh=true`, '{"doc":{"price":99.9}}');
    const third = await runCourse({ es, pg, index, schema, table: "products" });
    expect(third.load.figures).toMatchObject({ staged: 15, inserted: 0, updated: 1, unchanged: 14 });
    const changed = await place.sql(`SELECT price::text FROM ${schema}.products WHERE id = 'prod-003'`);
    expect(changed).toEqual([["99.90"]]);
  });

  it("costs a model as much for 3,000 documents as for 15", async () => {
    const sizes: number[] = [];
    for (const count of [15, 3000]) {
      let characters = 0;
      await seedProducts({ elasticsearchUrl: inject("elasticsearchUrl"), index: place.index, generate: { count } });
      const es = await place.open("es-mcp");
      const pg = await place.open("pg-mcp");
      const { index, schema } = place;
      await runCourse({
        es,
        pg,
        index,
        schema,
        table: `products_${count}`,
        onCall: ({ answer }) => (characters += answer.text.length),
      });
      sizes.push(characters);
    }
    const [few = 0, many = 0] = sizes;
    process.stderr.write(
      `measured: all answers of a whole run take ${few} characters for 15 documents, ${many} for 3,000\n`,
    );
    expect(many).toBeLessThan(few * 1.15);
    // 6,000 tokens at four characters each.
    expect(many).toBeLessThan(24_000);
  });

  it("survives the servers: an export is loaded by processes that were not there when it was made", async () => {
    await seedProducts({ elasticsearchUrl: inject("elasticsearchUrl"), index: place.index, generate: { count: 500 } });
    const { index, schema } = place;
    const first = await place.open("es-mcp");
    const exported = await new Caller({}).call(first, "bulk_export", { index, wait_seconds: 45 });
    await first.close();
    const pg = await place.open("pg-mcp");
    const caller = new Caller({});
    await caller.call(pg, "create_table", {
      table: "t",
      schema,
      columns: [{ name: "id", type: "text" }],
      primary_key: ["id"],
    });
    const mapping = { columns: [{ column: "id", from: "id" }], key: ["id"] };
    const load = await loadExport(caller, pg, { table: "t", schema, export_id: exported.data["export_id"], mapping });
    expect(load.figures).toMatchObject({ expected: 500, inserted: 500 });
    expect(accountedFor(load.figures)).toBe(500);
  });
});

/** The same moment reads differently on both sides; as a number it does not. */
function withInstant(row: Record<string, unknown>): Record<string, unknown> {
  return { ...row, created_at: Date.parse(String(row["created_at"])) };
}
