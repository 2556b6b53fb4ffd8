import { seedProducts } from "@es-to-pg/seed";
import { afterAll, beforeAll, describe, expect, inject, it } from "vitest";
import { z } from "zod";
import { runCourse } from "../src/course.ts";
import type { ServerName } from "../src/servers.ts";
import { makePlace, type Place } from "./support.ts";
import { modern, openWire, type Wire } from "./wire.ts";

let place: Place;
let exportId: string;
let loadId: string;
const wires: Wire[] = [];
let requests = 0;

/** Fifteen products in Elasticsearch, in staging and in a table, for everything here to look at. */
beforeAll(async () => {
  place = await makePlace();
  await seedProducts({ elasticsearchUrl: inject("elasticsearchUrl"), index: place.index });
  const [es, pg] = [await place.open("es-mcp"), await place.open("pg-mcp")];
  const result = await runCourse({ es, pg, index: place.index, schema: place.schema, table: "products" });
  exportId = result.export.export_id;
  loadId = result.load.load_id;
});

afterAll(async () => {
  for (const wire of wires) wire.process.stdin?.end();
  await Promise.all(wires.map((wire) => wire.exit()));
  await place[Symbol.asyncDispose]();
});

function open(
  server: ServerName,
  env: Record<string, string> = {},
): (method: string, params?: object) => Promise<unknown> {
  const wire = openWire(server, { ...place.env, ...env });
  wires.push(wire);
  return async (method, params) => {
    const id = ++requests;
    wire.send(modern(id, method, params));
    const { result, error } = await wire.answer(id);
    return result ?? error;
  };
}

const readSchema = z.object({ contents: z.tuple([z.object({ uri: z.string(), text: z.string() })]) });
const completionSchema = z.object({ completion: z.object({ values: z.array(z.string()) }) });

async function read(ask: ReturnType<typeof open>, uri: string): Promise<unknown> {
  return JSON.parse(readSchema.parse(await ask("resources/read", { uri })).contents[0].text);
}

async function complete(ask: ReturnType<typeof open>, ref: object, name: string, value: string): Promise<string[]> {
  const answer = await ask("completion/complete", { ref, argument: { name, value } });
  return completionSchema.parse(answer).completion.values;
}

describe("es-mcp", () => {
  it("shows mappings and exports as resources, and completes their names", async () => {
    const ask = open("es-mcp");
    const fields = [{ path: "brand", type: "keyword" }];
    expect(await read(ask, `es://mapping/${place.index}`)).toMatchObject({
      indices: [place.index],
      fields: expect.arrayContaining(fields.map((field) => expect.objectContaining(field))),
    });
    expect(await read(ask, `etl://export/${exportId}`)).toMatchObject({ export_id: exportId, documents: 15 });
    expect(await ask("resources/list")).toMatchObject({ resources: [{ uri: `etl://export/${exportId}` }] });
    const transform = { type: "ref/prompt", name: "transform_index" };
    expect(await complete(ask, transform, "index", place.index.slice(0, -1))).toEqual([place.index]);
    const byAddress = { type: "ref/resource", uri: "etl://export/{id}" };
    expect(await complete(ask, byAddress, "id", "exp_")).toEqual([exportId]);
  });

  it("shows nothing that its tools may not read", async () => {
    const ask = open("es-mcp", { ES_MCP_INDICES_DENY: place.index });
    expect(await ask("resources/read", { uri: `es://mapping/${place.index}` })).toHaveProperty("code");
    const transform = { type: "ref/prompt", name: "transform_index" };
    expect(await complete(ask, transform, "index", place.index)).toEqual([]);
  });

  it("lists resources and completes nothing where there is no Elasticsearch and no staging", async () => {
    const ask = open("es-mcp", { ELASTICSEARCH_URL: "http://127.0.0.1:9", STAGING_URL: "/dev/null/staging" });
    expect(await ask("resources/list")).toMatchObject({ resources: [] });
    expect(await complete(ask, { type: "ref/prompt", name: "transform_index" }, "index", "p")).toEqual([]);
  });
});

describe("pg-mcp", () => {
  it("shows schemas and loads as resources, and completes their names", async () => {
    const ask = open("pg-mcp");
    const table = `${place.schema}.products`;
    expect(await read(ask, `pg://schema/${table}`)).toMatchObject({ table: "products", primary_key: ["id"] });
    expect(await read(ask, `etl://load/${loadId}`)).toMatchObject({ load_id: loadId, figures: { inserted: 15 } });
    const schema = { type: "ref/resource", uri: "pg://schema/{table}" };
    expect(await complete(ask, schema, "table", `${place.schema}.`)).toEqual([table]);
    expect(await complete(ask, schema, "table", "produ")).toContain(table);
    const load = { type: "ref/prompt", name: "explain_rejects" };
    expect(await complete(ask, load, "load_id", "load_")).toEqual([loadId]);
  });

  it("says that a table or a load is not there", async () => {
    const ask = open("pg-mcp");
    const table = `pg://schema/${place.schema}.product`;
    expect(await ask("resources/read", { uri: table })).toMatchObject({ code: -32602, data: { uri: table } });
    const load = "etl://load/load_nosuch";
    expect(await ask("resources/read", { uri: load })).toMatchObject({ code: -32602 });
  });

  it("offers a read-only session what needs no tool that writes", async () => {
    const ask = open("pg-mcp", { PG_MCP_ACCESS: "read-only" });
    const discovered = JSON.stringify(await ask("server/discover"));
    expect(discovered).toContain("It cannot write");
    expect(discovered).not.toMatch(/insert_data|bulk_insert|create_table/);
    const { tools } = z
      .object({ tools: z.array(z.object({ name: z.string(), annotations: z.record(z.string(), z.boolean()) })) })
      .parse(await ask("tools/list"));
    expect(tools.map(({ name }) => name)).toContain("execute_query");
    expect(tools.filter(({ annotations }) => !annotations["readOnlyHint"])).toEqual([]);
    expect(tools.filter(({ annotations }) => annotations["destructiveHint"])).toEqual([]);
    expect(await ask("prompts/list")).toMatchObject({ prompts: [{ name: "explain_rejects" }] });
    expect(await ask("prompts/get", { name: "resume_load", arguments: { load_id: loadId } })).toMatchObject({
      message: "There is no prompt resume_load; there are explain_rejects.",
    });
  });
});
