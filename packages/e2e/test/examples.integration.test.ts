/** The servers of packages/examples beside and between the two: what docs/extending.md says of them. */
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { seedProducts } from "@es-to-pg/seed";
import { afterEach, beforeEach, expect, inject, it, onTestFinished } from "vitest";
import { Caller, exportIndex, loadExport, verifyLoad } from "../src/course.ts";
import { openCommand, type Session, serverEnvironment } from "../src/servers.ts";
import { makePlace, type Place } from "./support.ts";

let place: Place;
const caller = new Caller({});

beforeEach(async () => {
  place = await makePlace();
});

afterEach(async () => {
  await place[Symbol.asyncDispose]();
});

async function openExample(name: string, env: Record<string, string>): Promise<Session> {
  const session = await openCommand({
    command: process.execPath,
    args: [fileURLToPath(new URL(`../../examples/dist/${name}.js`, import.meta.url))],
    env: serverEnvironment({ STAGING_URL: place.env["STAGING_URL"] ?? "", ...env }),
  });
  onTestFinished(() => session.close());
  return session;
}

/** The rest of the way: a table by the proposal, the rows, the proof. */
async function load(exportId: unknown, changes: object): Promise<number> {
  const pg = await place.open("pg-mcp");
  const target = { table: "t", schema: place.schema };
  const proposed = await caller.call(pg, "propose_mapping", { ...target, export_id: exportId });
  const mapping = { id: proposed.data["mapping_id"], changes };
  await caller.call(pg, "create_table", { ...target, mapping });
  const { load_id } = await loadExport(caller, pg, { ...target, export_id: exportId, mapping });
  const verified = await verifyLoad(caller, pg, load_id);
  expect(verified).toMatchObject({ missing: 0, different: 0 });
  return verified.matched;
}

it("csv-mcp brings a file into a table of fitting types, and proves it", async () => {
  const folder = await mkdtemp(join(tmpdir(), "csv-"));
  onTestFinished(() => rm(folder, { recursive: true }));
  const rows = ["a-1,12345678901234567,19.90,first", 'a-2,-3,,"with, a comma and ""quotes"""', "a-3,,0.5,Größe"];
  await writeFile(join(folder, "parts.csv"), ["id,number,price,name", ...rows].join("\n"));
  const csv = await openExample("csv-mcp", { CSV_FOLDER: folder });
  expect((await caller.call(csv, "list_files", {})).data).toEqual({ files: ["parts.csv"] });
  const mistyped = await caller.try(csv, "export_csv", { file: "part.csv" });
  expect(mistyped.text).toContain("parts.csv");

  const args = { file: "parts.csv", id_column: "id", wait_seconds: 30 };
  const exported = await caller.call(csv, "export_csv", args);
  expect(exported.data).toMatchObject({ status: "completed", documents: 3, expected: 3 });
  // The same call finds the same export.
  expect((await caller.call(csv, "export_csv", args)).data["export_id"]).toBe(exported.data["export_id"]);
  expect(await load(exported.data["export_id"], { key: ["id"] })).toBe(3);
  expect(await place.sql(`SELECT id, number::text, price::text, name FROM ${place.schema}.t ORDER BY id`)).toEqual([
    ["a-1", "12345678901234567", "19.90", "first"],
    ["a-2", "-3", null, 'with, a comma and "quotes"'],
    ["a-3", null, "0.50", "Größe"],
  ]);
  const types = await place.sql(
    `SELECT column_name, data_type FROM information_schema.columns WHERE table_schema = '${place.schema}' AND table_name = 't'`,
  );
  expect(Object.fromEntries(types)).toMatchObject({ number: "bigint", price: "numeric", name: "text" });
});

it("csv-mcp loses no zero of a code, and says what is wrong with a file in place of staging a part of it", async () => {
  const folder = await mkdtemp(join(tmpdir(), "csv-"));
  onTestFinished(() => rm(folder, { recursive: true }));
  await writeFile(join(folder, "codes.csv"), "\ufeffzip,factor\n01234,0.5\n99999,0\n");
  await writeFile(join(folder, "twice.csv"), "a,a,b\n1,2,3\n");
  await writeFile(join(folder, "ragged.csv"), "a,b\n1,2\n1\n");
  await writeFile(join(folder, "latin.csv"), Buffer.from("name\nJ\xf6rg\n", "latin1"));
  const csv = await openExample("csv-mcp", { CSV_FOLDER: folder });
  const exported = await caller.call(csv, "export_csv", { file: "codes.csv", id_column: "zip", wait_seconds: 30 });
  expect(await load(exported.data["export_id"], { key: ["zip"] })).toBe(2);
  expect(await place.sql(`SELECT zip, factor::text FROM ${place.schema}.t ORDER BY zip`)).toEqual([
    ["01234", "0.5"],
    ["99999", "0.0"],
  ]);
  for (const [file, why] of [
    ["twice.csv", "two of its columns are called"],
    ["ragged.csv", "in line 3"],
    ["latin.csv", "not in UTF-8"],
  ] as const) {
    const { text } = await caller.try(csv, "export_csv", { file });
    expect(text).toContain('"code":"file_unreadable"');
    expect(text).toContain(why);
  }
});

it("pseudonymize-mcp makes no export of a field that there is not", async () => {
  await seedProducts({ elasticsearchUrl: inject("elasticsearchUrl"), index: place.index });
  const es = await place.open("es-mcp");
  const { export_id } = await exportIndex(caller, es, place.index);
  const middle = await openExample("pseudonymize-mcp", { PSEUDONYM_KEY: "k".repeat(32) });
  for (const field of ["brnad", "brand.keyword"]) {
    const { text } = await caller.try(middle, "pseudonymize_export", { export_id, fields: ["name", field] });
    expect(text).toContain('"code":"field_not_found"');
    expect(text).toContain('"brand"');
  }
});

it("pseudonymize-mcp makes an export that no longer says who", async () => {
  await seedProducts({ elasticsearchUrl: inject("elasticsearchUrl"), index: place.index });
  const es = await place.open("es-mcp");
  const { export_id } = await exportIndex(caller, es, place.index);
  const middle = await openExample("pseudonymize-mcp", { PSEUDONYM_KEY: "k".repeat(32) });
  const changed = await caller.call(middle, "pseudonymize_export", { export_id, fields: ["brand"], wait_seconds: 30 });
  expect(changed.data).toMatchObject({ status: "completed", documents: 15, expected: 15 });
  expect(changed.data["export_id"]).not.toBe(export_id);
  const exact = { columns: [{ column: "price", type: "numeric(10,2)" }] };
  expect(await load(changed.data["export_id"], { ...exact, key: ["id"] })).toBe(15);
  const brands = await place.sql(`SELECT brand, count(*)::text FROM ${place.schema}.t GROUP BY brand`);
  for (const [brand] of brands) expect(brand).toMatch(/^[0-9a-f]{64}$/);
  // The same brand is the same pseudonym, or joins would be lost.
  expect(brands.length).toBeLessThan(15);
  // Everything else is as it was, to the digit.
  expect(await place.sql(`SELECT price::text FROM ${place.schema}.t WHERE id = 'prod-007'`)).toEqual([["44.10"]]);
});
