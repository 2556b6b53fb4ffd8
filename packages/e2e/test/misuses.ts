import { readFile } from "node:fs/promises";
import { seedProducts } from "@es-to-pg/seed";
import { inject } from "vitest";
import { z } from "zod";
import type { Answer, ServerName, Session } from "../src/servers.ts";
import { makePlace } from "./support.ts";

const callSchema = z.strictObject({ tool: z.string(), arguments: z.record(z.string(), z.unknown()) });

/** A line of `data/misuses.jsonl`: a wrong call as models make it, and what must come of it. */
const misuseSchema = z.strictObject({
  misuse: z.string(),
  server: z.enum(["es-mcp", "pg-mcp"]),
  ...callSchema.shape,
  /** A call that must come before, its `export_id` kept under the name `as`. */
  before: callSchema.extend({ server: z.enum(["es-mcp", "pg-mcp"]), as: z.string() }).optional(),
  /** What is understood as it is: the answer holds this. */
  works: z.record(z.string(), z.unknown()).optional(),
  /** What is refused: the error holds this, `message` and `next` as the beginning or a part of theirs. */
  error: z.record(z.string(), z.unknown()).optional(),
  /** What the error or a field of a right answer must say, somewhere in its text. */
  says: z.array(z.string()).optional(),
  /** The next call: the example of the answer as it stands, or one that follows its words. It must succeed. */
  next: z
    .union([z.literal("example"), callSchema.extend({ server: z.enum(["es-mcp", "pg-mcp"]).exactOptional() })])
    .optional(),
});
export type Misuse = z.infer<typeof misuseSchema>;

export const misuses: Misuse[] = (await readFile(new URL("data/misuses.jsonl", import.meta.url), "utf8"))
  .split("\n")
  .filter((line) => line !== "")
  .map((line) => misuseSchema.parse(JSON.parse(line)));

/** Documents of the index that is too large to be answered inline, and takes a moment to export. */
const LARGE_COUNT = 20_000;

/** The servers, and an ETL done once between them, so that every kind of name and handle is there to be got wrong. */
export interface Scene extends AsyncDisposable {
  call(server: ServerName, tool: string, args: Record<string, unknown>): Promise<Answer>;
  /** The value with `{{name}}` filled in. */
  filled<T>(value: T): T;
  keep(name: string, value: unknown): void;
}

export async function makeScene(): Promise<Scene> {
  const place = await makePlace();
  const { index, schema } = place;
  const elasticsearchUrl = inject("elasticsearchUrl");
  const large = `${index}_large`;
  await seedProducts({ elasticsearchUrl, index });
  await seedProducts({ elasticsearchUrl, index: large, generate: { count: LARGE_COUNT } });
  const sessions: Record<ServerName, Session> = {
    "es-mcp": await place.open("es-mcp"),
    "pg-mcp": await place.open("pg-mcp", { env: { PG_MCP_QUERY_TIMEOUT_SECONDS: "20" } }),
  };
  await place.sql(`CREATE TABLE ${schema}.orders (id bigint PRIMARY KEY, "createdAt" timestamptz, customer text)`);
  await place.sql(`CREATE TABLE ${schema}.items_${schema} (id bigint PRIMARY KEY)`);
  await place.sql(`CREATE TABLE ${schema}.large (id text PRIMARY KEY)`);
  const names = new Map<string, string>([
    ["index", index],
    ["INDEX", index.toUpperCase()],
    ["index_typo", index.replace("e2e_", "e2_")],
    ["large", large],
    ["schema", schema],
    ["schema_typo", schema.replace("e2e_", "e2_")],
  ]);
  const scene: Scene = {
    call: (server, tool, args) => sessions[server].call(tool, args),
    filled: (value) =>
      JSON.parse(JSON.stringify(value), (_key, member: unknown) =>
        typeof member === "string" ? member.replaceAll(/\{\{(\w+)\}\}/g, (_all, name: string) => known(name)) : member,
      ),
    keep: (name, value) => names.set(name, z.string().parse(value)),
    async [Symbol.asyncDispose]() {
      await place.es("DELETE", large);
      await place[Symbol.asyncDispose]();
    },
  };
  const known = (name: string): string => {
    const value = names.get(name);
    if (value === undefined) throw new Error(`the table of misuses names {{${name}}}, which is not there`);
    return value;
  };
  const done = async (server: ServerName, tool: string, args: Record<string, unknown>, as: string, field: string) => {
    const answer = await scene.call(server, tool, args);
    if (answer.isError) throw new Error(`${tool}: ${answer.text}`);
    scene.keep(as, answer.data[field]);
  };
  const target = { table: "products", schema };
  await done("es-mcp", "bulk_export", { index, wait_seconds: 45 }, "export", "export_id");
  await done("pg-mcp", "propose_mapping", scene.filled({ ...target, export_id: "{{export}}" }), "map", "mapping_id");
  await done("pg-mcp", "create_table", scene.filled({ ...target, mapping: "{{map}}" }), "table", "table");
  const load = scene.filled({ ...target, export_id: "{{export}}", mapping: "{{map}}", wait_seconds: 45 });
  await done("pg-mcp", "bulk_insert", load, "load", "load_id");
  await done("pg-mcp", "bulk_insert", { table: "orders", schema, rows: [{ id: 1 }] }, "inline_load", "load_id");
  return scene;
}
