import { readFile } from "node:fs/promises";
import { createProductsTable, fifteenProducts, seedProducts } from "@es-to-pg/seed";
import { afterEach, beforeEach, describe, expect, inject, it } from "vitest";
import { Agent, type AgentOptions } from "../src/agent/agent.ts";
import { play } from "../src/agent/recording.ts";
import { type ScriptedModel, serveScript } from "../src/agent/scripted-model.ts";
import { transform } from "./agent/data-transformer.ts";
import { makePlace, type Place } from "./support.ts";

/** The most that all tool answers of one run may cost a model. */
const answerTokensMax = 6_000;

let place: Place;
let llm: ScriptedModel;

beforeEach(async () => {
  place = await makePlace();
  llm = await serveScript({ script: transform });
});

afterEach(async () => {
  await llm[Symbol.asyncDispose]();
  await place[Symbol.asyncDispose]();
});

/** The Data Transformer as the bundle sets it up: its prompt, both servers over HTTP, answers as text alone. */
async function openAgent(change: Partial<AgentOptions> = {}): Promise<Agent> {
  const options = { transport: "http", env: { MCP_STRUCTURED_OUTPUT: "off" } } as const;
  return new Agent({
    address: llm.address,
    systemPrompt: await readFile(new URL("../../../agent-prompt.md", import.meta.url), "utf8"),
    sessions: { "es-mcp": await place.open("es-mcp", options), "pg-mcp": await place.open("pg-mcp", options) },
    ...change,
  });
}

/** The calls without those that only wait for a job: how often one must is for the machine to say. */
function withoutPolls(turns: readonly string[][]): string[][] {
  return turns.filter((turn) => !turn.includes("get_export") && !turn.includes("get_load"));
}

/** Seconds differ from run to run. */
function withoutSeconds(report: string): string {
  return report.replace(/ \d+(\.\d+)? s\. /, " … s. ");
}

async function seed(generate?: { count: number; dirty?: boolean }): Promise<void> {
  const options = { elasticsearchUrl: inject("elasticsearchUrl"), index: place.index };
  await seedProducts(generate === undefined ? options : { ...options, generate });
}

describe("a scripted model with agent-prompt.md and the tools of both servers", () => {
  it("copies fifteen products, in the order of the method, for few tokens, and reports what is true", async () => {
    await seed();
    const { index, schema } = place;
    const agent = await openAgent();
    const report = await agent.say(`Copy the index ${index} to the table ${schema}.products.`);

    expect(withoutPolls(agent.turns)).toEqual([
      ["list_indices", "list_tables"],
      ["get_mapping", "profile_index", "get_schema"],
      ["bulk_export"],
      ["propose_mapping"],
      ["create_table"],
      ["bulk_insert"],
      ["verify_load", "count_rows"],
    ]);
    process.stderr.write(`measured: all tool answers of a whole ETL have ${agent.answerTokens} tokens (o200k_base)\n`);
    expect(agent.answerTokens).toBeLessThanOrEqual(answerTokensMax);
    expect(withoutSeconds(report)).toBe(
      `Copied ${index} to ${schema}.products. expected 15, staged 15, inserted 15, updated 0, unchanged 0, skipped 0, stale 0, ` +
        "deduplicated 0, suppressed 0, rejected 0. verify_load: equal, 15 matched. The table has 15 rows. … s. " +
        "Not done: the export is kept.\nResult: success; rejected 0",
    );
    const rows = await place.sql(`SELECT row_to_json(p)::text FROM ${schema}.products AS p ORDER BY id`);
    const products = (await fifteenProducts()).map(({ source }) => JSON.parse(String(source)));
    expect(rows.map(([json]) => withInstant(JSON.parse(String(json))))).toEqual(products.map(withInstant));
  });

  it("reads no document: no description of a product is in the conversation", async () => {
    await seed();
    const agent = await openAgent();
    await agent.say(`Copy the index ${place.index} to the table ${place.schema}.products.`);
    const said = JSON.stringify(agent.transcript);
    const descriptions = (await fifteenProducts()).map(({ source }) => String(JSON.parse(String(source)).description));
    expect(descriptions.filter((description) => said.includes(description))).toEqual([]);
  });

  it("changes no row when it is asked again in the same conversation", async () => {
    await seed();
    const { index, schema } = place;
    const agent = await openAgent();
    const wish = `Copy the index ${index} to the table ${schema}.products.`;
    await agent.say(wish);
    const before = await place.sql(`SELECT id, xmin::text, ctid::text FROM ${schema}.products ORDER BY id`);
    const turns = agent.turns.length;
    await agent.say(wish);
    expect(withoutPolls(agent.turns.slice(turns)).flat()).not.toContain("create_table");
    expect(await place.sql(`SELECT id, xmin::text, ctid::text FROM ${schema}.products ORDER BY id`)).toEqual(before);
  });

  it("asks before documents stay out, then reports them by reason", async () => {
    await seed({ count: 1000, dirty: true });
    const { index, schema } = place;
    await createProductsTable(inject("databaseUrl"), schema);
    const agent = await openAgent();
    const question = await agent.say(`Copy the index ${index} to the table ${schema}.products.`);
    expect(question).toMatch(/price \(will_reject\).*would stay out\. Shall I go on\?$/);
    expect(await place.sql(`SELECT count(*) FROM ${schema}.products`)).toEqual([["0"]]);

    const report = await agent.say("Yes, go on.");
    expect(withoutPolls(agent.turns).slice(-3)).toEqual([
      ["bulk_insert"],
      ["verify_load", "count_rows"],
      ["list_rejects"],
    ]);
    expect(report).toContain("deduplicated 1, suppressed 0, rejected 16. Rejected: ");
    expect(report).toContain("not_a_number");
    expect(report).toContain("verify_load: equal, 983 matched. The table has 983 rows.");
    expect(await place.sql(`SELECT count(*) FROM ${schema}.products`)).toEqual([["983"]]);
    process.stderr.write(`measured: with rejects and a question they have ${agent.answerTokens} tokens\n`);
    expect(agent.answerTokens).toBeLessThanOrEqual(answerTokensMax);
  });

  it("asks before replace deletes rows, by the token of a dry run", async () => {
    await seed();
    const { index, schema } = place;
    const agent = await openAgent();
    await agent.say(`Copy the index ${index} to the table ${schema}.products.`);
    await place.sql(`INSERT INTO ${schema}.products (id, name) VALUES ('stranger', 'not in the index')`);

    const question = await agent.say(`Copy the index ${index} to the table ${schema}.products and make it equal.`);
    expect(question).toBe("The table holds rows: 1 of them would be deleted. Shall I?");
    expect(await place.sql(`SELECT count(*) FROM ${schema}.products`)).toEqual([["16"]]);
    const report = await agent.say("yes");
    expect(report).toContain("deleted 1. verify_load: equal, 15 matched. The table has 15 rows.");
    expect(await place.sql(`SELECT count(*) FROM ${schema}.products WHERE id = 'stranger'`)).toEqual([["0"]]);
  });

  it("finds its way from a misspelt index by the nearest name that the error gives", async () => {
    await seed();
    const { index, schema } = place;
    const agent = await openAgent();
    const question = await agent.say(`Copy the index ${index}s to the table ${schema}.products.`);
    expect(question).toBe(`There is no index ${index}s. The nearest is ${index}: shall I copy that one?`);
    expect(await agent.say("Yes.")).toContain("verify_load: equal, 15 matched.");
  });
});

describe("the loop", () => {
  it("answers a call that cannot be made like one that failed, and goes on", async () => {
    const calls = [["nowhere__tool"], ["pg-mcp__drop_everything", {}], ["list_tables", { schema: "public" }]] as const;
    await using inventive = await serveScript({ script: () => play([calls, "Done."]) });
    const agent = await openAgent({ address: inventive.address });
    expect(await agent.say("Do something.")).toBe("Done.");
    expect(agent.calls.map(({ answer }) => [answer.isError, answer.data["error"]])).toEqual([
      [true, { code: "call_failed", message: "There is no tool nowhere__tool." }],
      [true, { code: "call_failed", message: expect.stringContaining("drop_everything") }],
      [false, undefined],
    ]);
    expect(agent.spent).toMatchObject({ calls: 3, errors: 2 });
  });

  it.each([
    [{ callsMax: 1 }, 0],
    [{ tokensMax: 1 }, 2],
    [{ durationMsMax: 0 }, 0],
  ])("ends by the limit %j", async (limits, calls) => {
    const agent = await openAgent({ limits });
    const [[name, value] = []] = Object.entries(limits);
    await expect(agent.say(`Copy the index ${place.index} to the table ${place.schema}.products.`)).rejects.toThrow(
      `the model has not come to an end within ${name} = ${value}`,
    );
    expect(agent.spent.calls).toBe(calls);
  });

  it("ends when its caller's signal says so", async () => {
    const agent = await openAgent({ signal: AbortSignal.abort(new Error("no more")) });
    await expect(agent.say("Copy everything.")).rejects.toThrow("no more");
  });
});

/** The same moment reads differently on both sides; as a number it does not. */
function withInstant(row: Record<string, unknown>): Record<string, unknown> {
  return { ...row, created_at: Date.parse(String(row["created_at"])) };
}
