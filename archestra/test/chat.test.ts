import { expect, it } from "vitest";
import { chat } from "../src/chat.ts";
import { openWorld } from "../src/open.ts";
import { openShell } from "../src/process.ts";
import { type Bench, openBench } from "./harness.ts";

async function talk(bench: Bench, text: string, options: { contextId?: string; approve?: boolean } = {}) {
  const [progress, answers]: [string[], string[]] = [[], []];
  const { world } = await openWorld({
    environment: bench.environment,
    waitSeconds: 0,
    shell: openShell({ ...process.env, ...bench.cluster.environment }),
    signal: new AbortController().signal,
    say: () => undefined,
  });
  await chat(world, {
    text,
    ...options,
    progress: (line) => progress.push(line),
    answer: (line) => answers.push(line),
  });
  return { progress, answer: answers.join("\n") };
}

async function applied(): Promise<Bench> {
  const bench = await openBench();
  await bench.run("apply");
  return bench;
}

it("sends a message with a UUID and prints the last text as the answer", async () => {
  const bench = await applied();
  bench.platform.agent = (text) => ({ texts: ["Starting.", `Did: ${text}`] });
  const { progress, answer } = await talk(bench, "Copy the products index");
  expect(answer).toBe("Did: Copy the products index");
  expect(progress).toContain("Starting.");
});

it("goes on with a conversation, and says so when there is none", async () => {
  const bench = await applied();
  const contexts: string[] = [];
  bench.platform.agent = (_, { contextId }) => {
    contexts.push(contextId);
    return { texts: ["Done."] };
  };
  const { progress } = await talk(bench, "one");
  const contextId = /--context (\S+)/.exec(progress.join("\n"))?.[1] ?? "";
  await talk(bench, "two", { contextId });
  expect(contexts).toEqual([contextId, contextId]);
  await expect(talk(bench, "three", { contextId: "3b1f8a52-2c55-4d36-9d3f-6c9f4e1a0004" })).rejects.toMatchObject({
    code: "context_not_found",
  });
});

it("shows each tool call once", async () => {
  const bench = await applied();
  bench.platform.agent = () => {
    for (const name of ["es_mcp__list_indices", "pg_mcp__list_tables"]) {
      const toolCall = { name, arguments: { pattern: "x".repeat(200) } };
      bench.platform.toolCalls.push({ id: name, method: "tools/call", createdAt: "2026-01-01T00:00:00Z", toolCall });
    }
    return { texts: ["Done."] };
  };
  const { progress } = await talk(bench, "look");
  const shown = progress.filter((line) => line.includes("__"));
  expect(shown).toHaveLength(2);
  expect(shown[0]).toMatch(/^ {2}es_mcp__list_indices \{"pattern":"x+…$/);
});

it.each([
  { approve: true, answer: "Replaced." },
  { approve: false, answer: "Tool execution denied." },
])("answers an approval with $approve", async ({ approve, answer }) => {
  const bench = await applied();
  bench.platform.agent = () => ({ ask: "pg_mcp__bulk_insert" });
  expect((await talk(bench, "replace it", { approve })).answer).toBe(answer);
});

it("declines where nobody can be asked", async () => {
  const bench = await applied();
  bench.platform.agent = () => ({ ask: "es_mcp__delete_export" });
  const { progress, answer } = await talk(bench, "delete it");
  expect(answer).toBe("Tool execution denied.");
  expect(progress.join()).toContain("es_mcp__delete_export. --approve says yes.");
});

it("reads a stream where the platform has one, approvals included", async () => {
  const bench = await applied();
  bench.platform.streams = true;
  bench.platform.agent = () => ({ texts: ["Planning.", "Done."] });
  const { progress, answer } = await talk(bench, "copy");
  expect(answer).toBe("Done.");
  expect(progress.slice(0, 2)).toEqual(["Planning.", "Done."]);
  bench.platform.agent = () => ({ texts: ["Planning."], ask: "pg_mcp__bulk_insert" });
  const asked = await talk(bench, "replace", { approve: true });
  expect(asked.answer).toBe("Replaced.");
  expect(asked.progress.slice(0, 3)).toEqual(["Planning.", "approved: pg_mcp__bulk_insert", "Replacing."]);
});

it("says what the provider said when a run fails", async () => {
  const bench = await applied();
  bench.platform.agent = () => ({ fails: "Failed after 3 attempts. Last error: 503" });
  await expect(talk(bench, "copy")).rejects.toMatchObject({
    code: "run_failed",
    message: expect.stringContaining("Failed after 3 attempts. Last error: 503"),
  });
});

it("says that nothing was applied yet", async () => {
  const bench = await openBench();
  await expect(talk(bench, "copy")).rejects.toMatchObject({ code: "no_agent" });
});
