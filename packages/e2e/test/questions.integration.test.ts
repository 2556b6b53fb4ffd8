import { seedProducts } from "@es-to-pg/seed";
import { afterEach, beforeEach, describe, expect, inject, it } from "vitest";
import { runCourse } from "../src/course.ts";
import type { Answer, Person, Session, SessionOptions } from "../src/servers.ts";
import { makePlace, type Place } from "./support.ts";

let place: Place;
let questions: string[];

beforeEach(async () => {
  place = await makePlace();
  questions = [];
});

afterEach(async () => {
  await place[Symbol.asyncDispose]();
});

function person(answer: Awaited<ReturnType<Person>>): Person {
  return async (message) => {
    questions.push(message);
    return answer;
  };
}

const accepts = person({ action: "accept", content: { yes: true } });

/** The fifteen products in a table, two rows beside them, and the token of a dry run of a replace. */
async function replaceable(pg: Session): Promise<{ call: Record<string, unknown>; confirm: unknown }> {
  const { index, schema } = place;
  await seedProducts({ elasticsearchUrl: inject("elasticsearchUrl"), index });
  const es = await place.open("es-mcp");
  const loader = await place.open("pg-mcp");
  const done = await runCourse({ es, pg: loader, index, schema, table: "products" });
  await place.sql(`INSERT INTO ${schema}.products (id) VALUES ('own-1'), ('own-2')`);
  const call = { table: "products", schema, export_id: done.export.export_id, mode: "replace", wait_seconds: 45 };
  const dry = await pg.call("bulk_insert", { ...call, dry_run: true });
  expect(dry.data).toMatchObject({ status: "completed", deleted: 2 });
  return { call, confirm: dry.data["confirm"] };
}

async function rows(): Promise<number> {
  const [row] = await place.sql(`SELECT count(*) FROM ${place.schema}.products`);
  return Number(row?.[0]);
}

const ways: Pick<SessionOptions, "client" | "transport">[] = [
  { client: "v1", transport: "stdio" },
  { client: "v2", transport: "stdio" },
  { client: "v2", transport: "http" },
];

describe.each(ways)("replace of a filled table, with the $client client over $transport", (way) => {
  it("asks the person besides the token, and never in its place", async () => {
    const pg = await place.open("pg-mcp", { ...way, person: accepts });
    const { call, confirm } = await replaceable(pg);
    const without = await pg.call("bulk_insert", call);
    expect(without.data["error"]).toMatchObject({ code: "confirm_needed" });
    expect(questions).toEqual([]);
    const done = await pg.call("bulk_insert", { ...call, confirm });
    expect(done.data).toMatchObject({ status: "completed", deleted: 2 });
    const { export_id: exportId } = call;
    expect(questions).toEqual([
      `Replace the rows of ${place.schema}.products by ${String(exportId)}? 2 rows would be removed.`,
    ]);
    expect(await rows()).toBe(15);
  });

  it.each([
    [{ action: "decline" }, "declined"],
    [{ action: "cancel" }, "not_confirmed"],
  ] as const)("leaves the table as it is after %j", async (answer, code) => {
    const pg = await place.open("pg-mcp", { ...way, person: person(answer) });
    const { call, confirm } = await replaceable(pg);
    const refused: Answer = await pg.call("bulk_insert", { ...call, confirm });
    expect(refused.data["error"]).toMatchObject({ code });
    expect(await rows()).toBe(17);
    // Nothing was started that a later call would find.
    const { data } = await pg.call("list_loads");
    expect(Object(data["loads"])).toHaveLength(2);
  });

  it("goes by the token alone where nobody can be asked", async () => {
    const pg = await place.open("pg-mcp", way);
    const { call, confirm } = await replaceable(pg);
    expect((await pg.call("bulk_insert", { ...call, confirm })).data).toMatchObject({ status: "completed" });
    expect(await rows()).toBe(15);
  });
});

it("does not ask again for a load that works or has just ended", async () => {
  const pg = await place.open("pg-mcp", { person: accepts });
  const { call, confirm } = await replaceable(pg);
  await pg.call("bulk_insert", { ...call, confirm });
  expect((await pg.call("bulk_insert", { ...call, confirm })).data).toMatchObject({ reused: true });
  expect(questions).toHaveLength(1);
});

it("asks before more documents are left out than a few", async () => {
  const { index, schema } = place;
  const { elasticsearchUrl } = { elasticsearchUrl: inject("elasticsearchUrl") };
  await seedProducts({ elasticsearchUrl, index, generate: { count: 150 } });
  const es = await place.open("es-mcp");
  const exported = await es.call("bulk_export", { index, wait_seconds: 45 });
  await place.sql(`CREATE TABLE ${schema}.narrow (id text PRIMARY KEY, name varchar(1))`);
  const pg = await place.open("pg-mcp", { person: accepts });
  const call = { table: "narrow", schema, export_id: exported.data["export_id"], wait_seconds: 45 };

  const dry = await pg.call("bulk_insert", { ...call, dry_run: true });
  expect(dry.data).toMatchObject({ figures: { rejected: 150 } });
  expect(questions).toEqual([]);
  await pg.call("bulk_insert", call);
  expect(questions).toEqual([
    `Load ${String(call.export_id)} into ${schema}.narrow although 150 of 150 documents are rejected?`,
  ]);
  await pg.call("bulk_insert", { ...call, max_rejects: 200 });
  expect(questions[1]).toContain("although up to 200 documents may be rejected?");
  await pg.call("bulk_insert", { ...call, max_rejects: 50 });
  expect(questions).toHaveLength(2);
});
