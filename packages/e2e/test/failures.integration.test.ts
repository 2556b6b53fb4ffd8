import { createServer, type Server } from "node:net";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { z } from "zod";
import { Caller } from "../src/course.ts";
import type { Answer, ServerName } from "../src/servers.ts";
import { makePlace, type Place } from "./support.ts";

const errorSchema = z.object({
  error: z.looseObject({ code: z.string(), message: z.string(), retryable: z.boolean(), next: z.string().optional() }),
});
const secret = "open-sesame";
/** What a model may wait for an answer that says no. */
const answerMsMax = 10_000;
/** Largest answer, as the design has it. */
const answerBytesMax = 24 * 1024;

const caller = new Caller({});
let place: Place;
/** Accepts connections and says nothing, as a wrong port or a stuck proxy does. */
let silent: Server;
let silentPort: number;

beforeAll(async () => {
  place = await makePlace();
  silent = createServer();
  await new Promise<void>((resolve) => silent.listen(0, "127.0.0.1", resolve));
  const address = silent.address();
  silentPort = typeof address === "object" && address !== null ? address.port : 0;
  await place.es("PUT", place.index, '{"mappings":{"properties":{"title":{"type":"text"},"price":{"type":"float"}}}}');
  await place.es("PUT", `${place.index}/_doc/1?refresh=true`, '{"title":"x","price":1}');
  await place.sql(`CREATE TABLE ${place.schema}.products (id text PRIMARY KEY, price numeric)`);
});

afterAll(async () => {
  silent.close();
  await place[Symbol.asyncDispose]();
});

/** Calls one tool of a fresh server and holds its refusal to what every refusal must be. */
async function refusal(
  server: ServerName,
  tool: string,
  args: Record<string, unknown>,
  env: Record<string, string> = {},
): Promise<z.infer<typeof errorSchema>["error"]> {
  const session = await place.open(server, { env });
  const from = performance.now();
  const answer = await session.call(tool, args);
  const ms = performance.now() - from;
  if (!answer.isError) throw new Error(`${tool} did not refuse: ${answer.text}`);
  expect(ms).toBeLessThan(answerMsMax);
  for (const text of [answer.text, session.log()]) {
    expect(text).not.toContain(secret);
    expect(text).not.toMatch(/\n\s+at |node_modules/);
  }
  const { error } = errorSchema.parse(answer.data);
  expect(error.code).not.toBe("internal_error");
  return error;
}

describe("a database that cannot be reached", () => {
  it.each([
    [
      "es-mcp",
      "list_indices",
      { ELASTICSEARCH_URL: "http://127.0.0.1:1", ELASTICSEARCH_USERNAME: "u", ELASTICSEARCH_PASSWORD: secret },
    ],
    ["pg-mcp", "list_tables", { DATABASE_URL: `postgres://u:${secret}@127.0.0.1:1/db` }],
  ] as const)("is named by %s with its host and port", async (server, tool, env) => {
    const error = await refusal(server, tool, {}, env);
    expect(JSON.stringify(error)).toContain("127.0.0.1:1");
    expect(error.retryable).toBe(true);
  });

  it("is given up by pg-mcp when it accepts and says nothing", async () => {
    const url = `postgres://u:${secret}@127.0.0.1:${silentPort}/db`;
    const error = await refusal("pg-mcp", "list_tables", {}, { DATABASE_URL: url });
    expect(JSON.stringify(error)).toContain(`127.0.0.1:${silentPort}`);
  });

  it("is told apart from a wrong password", async () => {
    const url = new URL(place.env["DATABASE_URL"] ?? "");
    url.password = secret;
    const error = await refusal("pg-mcp", "list_tables", {}, { DATABASE_URL: url.href });
    expect(`${error.code} ${error.message}`).toMatch(/password|auth/i);
  });

  it("is told apart from wrong TLS", async () => {
    const overTls = (place.env["ELASTICSEARCH_URL"] ?? "").replace("http:", "https:");
    const es = await refusal("es-mcp", "list_indices", {}, { ELASTICSEARCH_URL: overTls });
    expect(JSON.stringify(es)).toMatch(/TLS|https/);
    const pg = await refusal("pg-mcp", "list_tables", {}, { POSTGRES_SSLMODE: "verify-full" });
    expect(JSON.stringify(pg)).toMatch(/TLS|SSL/);
  });
});

describe("a name that is not there", () => {
  it("is answered with the nearest index", async () => {
    const error = await refusal("es-mcp", "get_mapping", { index: `${place.index}x` });
    expect(JSON.stringify(error)).toContain(`"${place.index}"`);
  });

  it("is answered with the nearest table", async () => {
    const error = await refusal("pg-mcp", "get_schema", { table: "product", schema: place.schema });
    expect(JSON.stringify(error)).toContain("products");
  });

  it("is answered with the right argument", async () => {
    const es = await refusal("es-mcp", "get_mapping", { indx: place.index });
    expect(JSON.stringify(es)).toMatch(/indx.*index/);
    const pg = await refusal("pg-mcp", "get_schema", { tabel: "products" });
    expect(JSON.stringify(pg)).toMatch(/tabel.*table/);
  });

  it("is answered with the nearest column", async () => {
    const mapping = { columns: [{ column: "prise", from: "price" }] };
    const error = await refusal("pg-mcp", "bulk_insert", {
      table: "products",
      schema: place.schema,
      rows: [{ id: "1" }],
      mapping,
    });
    expect(JSON.stringify(error)).toContain("price");
  });

  it("is answered for handles too", async () => {
    const unknownExport = `exp_${"0".repeat(26)}`;
    expect((await refusal("es-mcp", "get_export", { export_id: unknownExport })).code).toBe("unknown_export");
    const load = { table: "products", schema: place.schema, export_id: unknownExport };
    expect((await refusal("pg-mcp", "bulk_insert", load)).code).toBe("unknown_export");
    await refusal("pg-mcp", "get_load", { load_id: `load_${"0".repeat(26)}` });
  });

  it("includes numbers that JSON cannot carry exactly", async () => {
    const error = await refusal("es-mcp", "count_documents", {
      index: place.index,
      query: { term: { price: 9007199254740993n.toString() } },
      size: 1,
    });
    expect(JSON.stringify(error)).toContain("size");
  });
});

describe("more than fits into an answer", () => {
  it("is cut between documents and says so", async () => {
    const big = `${place.index}_big`;
    try {
      const body = Array.from({ length: 40 }, () => `{"index":{}}\n{"text":"${"wide ".repeat(2000)}"}\n`).join("");
      await place.es("POST", `${big}/_bulk?refresh=true`, body, "application/x-ndjson");
      const es = await place.open("es-mcp");
      const answer = await caller.call(es, "search_documents", { index: big, size: 40 });
      expect(Buffer.byteLength(answer.text)).toBeLessThanOrEqual(answerBytesMax);
      expect(answer.text).toMatch(/next_cursor|cut_by|clipped/);
    } finally {
      await place.es("DELETE", big);
    }
  });

  it("is paged where a mapping has 1,500 fields", async () => {
    const wide = `${place.index}_wide`;
    const names = Array.from({ length: 1500 }, (_, number) => `field_${number}`);
    try {
      const properties = Object.fromEntries(names.map((name) => [name, { type: "keyword" }]));
      const settings = { "index.mapping.total_fields.limit": 2000 };
      await place.es("PUT", wide, JSON.stringify({ settings, mappings: { properties } }));
      await place.es(
        "PUT",
        `${wide}/_doc/1?refresh=true`,
        JSON.stringify(Object.fromEntries(names.map((name) => [name, "v"]))),
      );
      const es = await place.open("es-mcp");
      const seen = new Set<string>();
      const pageSchema = z.looseObject({
        fields: z.array(z.looseObject({ path: z.string() })),
        next_cursor: z.string().optional(),
      });
      let cursor: string | undefined;
      do {
        const page: Answer = await caller.call(es, "get_mapping", {
          index: wide,
          ...(cursor === undefined ? {} : { cursor }),
        });
        expect(Buffer.byteLength(page.text)).toBeLessThanOrEqual(answerBytesMax);
        const { fields, next_cursor } = pageSchema.parse(page.data);
        for (const { path } of fields) seen.add(path);
        cursor = next_cursor;
      } while (cursor !== undefined);
      expect(names.filter((name) => !seen.has(name))).toEqual([]);

      const profile = await caller.call(es, "profile_index", { index: wide });
      expect(Buffer.byteLength(profile.text)).toBeLessThanOrEqual(answerBytesMax);
      const exported = await caller.call(es, "bulk_export", { index: wide, wait_seconds: 30 });
      expect(exported.data).toMatchObject({ status: "completed", documents: 1 });
      const pg = await place.open("pg-mcp");
      const proposal = await caller.call(pg, "propose_mapping", {
        export_id: exported.data["export_id"],
        table: "wide",
        schema: place.schema,
      });
      expect(Buffer.byteLength(proposal.text)).toBeLessThanOrEqual(answerBytesMax);
    } finally {
      await place.es("DELETE", wide);
    }
  });
});
