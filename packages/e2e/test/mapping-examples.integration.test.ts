/** The worked examples of docs/mapping.md, read out of the page and run on the real engines through the built servers. */
import type { Token } from "marked";
import { describe, expect, it } from "vitest";
import { z } from "zod";
import { Caller, exportIndex, loadExport, verifyLoad } from "../src/course.ts";
import { isCode, isHeading, isTable, readPage, tableRows } from "../src/markdown.ts";
import type { Session } from "../src/servers.ts";
import { makePlace, type Place } from "./support.ts";

type Step =
  | { kind: "mappings"; body: object }
  | { kind: "documents"; sources: string[] }
  | { kind: "changes"; changes: Record<string, unknown> }
  | { kind: "call"; tool: string; arguments: Record<string, unknown> }
  | { kind: "prepare" | "made" | "query"; sql: string }
  | { kind: "rows" | "rejects"; rows: string[][] };

interface Example {
  title: string;
  steps: Step[];
}

const changeNames = new Set(["columns", "remove", "key", "version_from", "children"]);
const callSchema = z.strictObject({ name: z.string(), arguments: z.record(z.string(), z.unknown()) });
const proposalSchema = z.looseObject({ mapping_id: z.string() });
const createdSchema = z.looseObject({
  action: z.string(),
  ddl: z.array(z.string()),
  children: z.array(z.looseObject({ ddl: z.array(z.string()) })).default([]),
});
const loadIdSchema = z.looseObject({ load_id: z.string() });
const rejectsSchema = z.looseObject({
  rejects: z.array(z.looseObject({ document_id: z.string(), column: z.string(), reason: z.string() })),
});
const answerSchema = z.looseObject({
  columns: z.array(z.looseObject({ name: z.string() })),
  rows: z.array(z.array(z.unknown())),
});

const examples = readExamples();

it("are twelve", () => {
  expect(examples.map(({ title }) => Number.parseInt(title, 10))).toEqual(Array.from({ length: 12 }, (_, i) => i + 1));
});

describe("the worked example", { timeout: 240_000 }, () => {
  it.each(examples.map((example) => [example.title, example] as const))("%s", async (_title, example) => {
    await using place = await makePlace();
    const run = await ExampleRun.open(place, example);
    for (const step of example.steps) await run.take(step);
    expect(run.found).toEqual(run.written);
    // The table or its rows, and a verdict at least.
    expect(run.found.length).toBeGreaterThan(1);
  });
});

/** Sections of the third level, each with its steps in order. A block that is no step is an error. */
function readExamples(): Example[] {
  const { blocks } = readPage("docs/mapping.md");
  const found: Example[] = [];
  for (const block of blocks) {
    if (isHeading(block)) {
      if (block.depth === 3) found.push({ title: block.text, steps: [] });
      continue;
    }
    const example = found.at(-1);
    const step = example === undefined ? undefined : readStep(block, example.steps);
    if (step !== undefined) example?.steps.push(step);
  }
  return found;
}

function readStep(block: Token, before: readonly Step[]): Step | undefined {
  if (isTable(block)) {
    const rows = tableRows(block);
    return { kind: rows[0]?.join() === "document,column,reason" ? "rejects" : "rows", rows };
  }
  if (!isCode(block)) return undefined;
  const { lang, text } = block;
  if (lang === "ndjson") return { kind: "documents", sources: text.split("\n") };
  if (lang === "sql") {
    if (/^SELECT\b/.test(text)) return { kind: "query", sql: text };
    return { kind: before.some(({ kind }) => kind === "documents") ? "made" : "prepare", sql: text };
  }
  if (lang !== "json")
    throw new Error(`docs/mapping.md has a block of ${lang} that is no step of an example:\n${text}`);
  const value: unknown = JSON.parse(text);
  if (typeof value !== "object" || value === null) throw new Error(`no step of an example: ${text}`);
  if ("mappings" in value) return { kind: "mappings", body: value };
  const call = callSchema.safeParse(value);
  if (call.success) return { kind: "call", tool: call.data.name, arguments: call.data.arguments };
  const strange = Object.keys(value).filter((name) => !changeNames.has(name));
  if (strange.length > 0) throw new Error(`no changes of a mapping: ${strange.join()}`);
  return { kind: "changes", changes: { ...value } };
}

/** One example on its way: what is in the index, what was answered last. */
class ExampleRun {
  /** What the page says of tables, rows and rejects, in its order, and what was there. */
  readonly written: unknown[] = [];
  readonly found: unknown[] = [];
  readonly #place: Place;
  readonly #es: Session;
  readonly #pg: Session;
  readonly #caller = new Caller({});
  readonly #table: string;
  #body: object = {};
  #changes: Record<string, unknown> | undefined;
  #isLoaded = true;
  #mappingId = "";
  #loadId = "";
  #made: string[] = [];
  #answer: string[][] = [];

  constructor(place: Place, sessions: { es: Session; pg: Session }, table: string) {
    this.#place = place;
    this.#es = sessions.es;
    this.#pg = sessions.pg;
    this.#table = table;
  }

  static async open(place: Place, { title, steps }: Example): Promise<ExampleRun> {
    const statement = steps.find((step) => step.kind === "made" || step.kind === "prepare");
    const table = /^CREATE TABLE (\w+)/.exec(statement !== undefined && "sql" in statement ? statement.sql : "")?.[1];
    if (table === undefined) throw new Error(`${title}: no table is created`);
    const es = await place.open("es-mcp");
    // Where unqualified names are looked for, so that the page's statements run as they stand.
    const pg = await place.open("pg-mcp", { env: { PG_MCP_SCHEMAS_ALLOW: place.schema } });
    return new ExampleRun(place, { es, pg }, table);
  }

  async take(step: Step): Promise<void> {
    switch (step.kind) {
      case "prepare":
        await this.#place.sql(`SET search_path = ${this.#place.schema}; ${step.sql}`);
        return;
      case "mappings":
        this.#body = step.body;
        return;
      case "documents":
        await this.#index(step.sources);
        return;
      case "changes":
        this.#changes = step.changes;
        return;
      case "made":
        await this.#load();
        this.#compare(withoutLayout(step.sql), withoutLayout(this.#made.join(";\n"), this.#place.schema));
        return;
      case "rejects":
        await this.#load();
        this.#compare(step.rows, [["document", "column", "reason"], ...(await this.#rejects())]);
        return;
      case "call":
        await this.#call(step.tool, step.arguments);
        return;
      case "query":
        await this.#load();
        await this.#query(step.sql);
        return;
      case "rows":
        this.#compare(step.rows, this.#answer);
    }
  }

  #compare(written: unknown, found: unknown): void {
    this.written.push(written);
    this.found.push(found);
  }

  async #index(sources: readonly string[]): Promise<void> {
    const { index } = this.#place;
    if (this.#isLoaded && this.#mappingId === "") {
      await this.#place.es("PUT", index, JSON.stringify({ settings: { number_of_shards: 1 }, ...this.#body }));
    }
    for (const [position, source] of sources.entries()) {
      await this.#place.es("PUT", `${index}/_doc/${position + 1}?refresh=true`, source);
    }
    this.#isLoaded = false;
  }

  /** Export, proposal, table and load, once for each set of documents; what was changed the first time stays changed. */
  async #load(): Promise<void> {
    if (this.#isLoaded) return;
    this.#isLoaded = true;
    const { export_id: exportId } = await exportIndex(this.#caller, this.#es, this.#place.index);
    if (this.#mappingId === "") {
      const args = { table: this.#table, export_id: exportId };
      const { data } = await this.#caller.call(this.#pg, "propose_mapping", args);
      this.#mappingId = proposalSchema.parse(data).mapping_id;
    }
    const mapping = { id: this.#mappingId, ...(this.#changes === undefined ? {} : { changes: this.#changes }) };
    // A table of the user's has other columns than the mapping, and needs none.
    const [[isThere] = []] = await this.#place.sql("SELECT to_regclass($1) IS NOT NULL", [
      `${this.#place.schema}.${this.#table}`,
    ]);
    if (isThere !== "t") {
      const { data } = await this.#caller.call(this.#pg, "create_table", { table: this.#table, mapping });
      const created = createdSchema.parse(data);
      this.#made = [...created.ddl, ...created.children.flatMap(({ ddl }) => ddl)];
    }
    const load = await loadExport(this.#caller, this.#pg, { table: this.#table, export_id: exportId, mapping });
    this.#loadId = load.load_id;
    const verified = await verifyLoad(this.#caller, this.#pg, this.#loadId);
    this.#compare({ verdict: "equal", missing: 0, different: 0 }, pick(verified));
  }

  async #call(tool: string, args: Record<string, unknown>): Promise<void> {
    const text = JSON.stringify(args).replaceAll("map_…", this.#mappingId).replaceAll("load_…", this.#loadId);
    const { data } = await this.#caller.call(this.#pg, tool, JSON.parse(text));
    const answered = loadIdSchema.safeParse(data);
    if (answered.success) this.#loadId = answered.data.load_id;
  }

  async #rejects(): Promise<string[][]> {
    const { data } = await this.#caller.call(this.#pg, "list_rejects", { load_id: this.#loadId });
    return rejectsSchema.parse(data).rejects.map(({ document_id: id, column, reason }) => [id, column, reason]);
  }

  async #query(sql: string): Promise<void> {
    const { columns, rows } = answerSchema.parse((await this.#caller.call(this.#pg, "execute_query", { sql })).data);
    this.#answer = [columns.map(({ name }) => name), ...rows.map((row) => row.map(cell))];
  }
}

function pick({ verdict, missing, different }: Record<string, unknown>): object {
  return { verdict, missing, different };
}

/** A value as the page's tables write it. */
function cell(value: unknown): string {
  return typeof value === "string" ? value : JSON.stringify(value);
}

/** A statement without quotation marks, line ends, and the schema that the test put it into. */
function withoutLayout(sql: string, schema = ""): string {
  return sql
    .replaceAll('"', "")
    .replaceAll(schema === "" ? schema : `${schema}.`, "")
    .replaceAll("IF NOT EXISTS ", "")
    .replaceAll(/\s+/g, " ")
    .replaceAll(/(?<=\() | (?=\))/g, "")
    .replace(/;\s*$/, "")
    .trim();
}
