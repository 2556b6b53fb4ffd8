import { afterAll, beforeAll, expect, it } from "vitest";
import { z } from "zod";
import type { Answer } from "../src/servers.ts";
import { type Misuse, makeScene, misuses, type Scene } from "./misuses.ts";

let scene: Scene;

beforeAll(async () => {
  scene = await makeScene();
}, 120_000);

afterAll(async () => {
  await scene[Symbol.asyncDispose]();
});

it("knows at least 60 misuses, each once", () => {
  expect(misuses.length).toBeGreaterThanOrEqual(60);
  expect(new Set(misuses.map(({ misuse }) => misuse)).size).toBe(misuses.length);
  // Each is either understood or refused, and who is refused is told what to do.
  expect(misuses.filter(({ works, error }) => (works === undefined) === (error === undefined))).toEqual([]);
  expect(misuses.filter(({ error, says, next }) => error !== undefined && !(says && next))).toEqual([]);
});

it.each(misuses)("$tool: $misuse", async ({ server, tool, before, works, error, says, next, ...misuse }) => {
  if (before !== undefined) {
    const first = await scene.call(before.server, before.tool, scene.filled(before.arguments));
    scene.keep(before.as, first.data["export_id"]);
  }
  const answer = await call(server, tool, scene.filled(misuse.arguments));
  expect({ ...answer.data, text: answer.text }).toMatchObject(works ?? { error });
  for (const text of scene.filled(says ?? [])) expect(answer.text).toContain(text);

  if (next === undefined) return;
  const right = next === "example" ? { server, ...exampleOf(answer) } : { server, ...scene.filled(next) };
  const second = await call(right.server, right.tool, right.arguments);
  // A load that fails is no error of the call that shows it.
  expect({ isError: second.isError, failed: second.data["status"] === "failed", text: second.text }).toMatchObject({
    isError: false,
    failed: false,
  });
});

/** The corrected call of an error, to be made as it stands. */
function exampleOf({ data, text }: Answer): { tool: string; arguments: Record<string, unknown> } {
  const parsed = z.object({ error: z.object({ example: exampleSchema }) }).safeParse(data);
  if (!parsed.success) throw new Error(`there is no example in ${text}`);
  return parsed.data.error.example;
}

const exampleSchema = z.strictObject({ tool: z.string(), arguments: z.record(z.string(), z.unknown()) });

/** A call whose tool does not exist is an error of the protocol; hosts show its message to the model in the same way. */
async function call(server: Misuse["server"], tool: string, args: Record<string, unknown>): Promise<Answer> {
  try {
    return await scene.call(server, tool, args);
  } catch (error) {
    const { code, message } = Object(error);
    if (typeof code !== "number") throw error;
    return { isError: true, text: message, data: { error: { code, message } }, structured: undefined };
  }
}
