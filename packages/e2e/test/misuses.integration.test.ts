import { afterAll, beforeAll, expect, it } from "vitest";
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
    const first = await scene.call(before.server, before.tool, scene.fill(before.arguments));
    scene.keep(before.as, first.data["export_id"]);
  }
  const answer = await call(server, tool, scene.fill(misuse.arguments));
  if (works !== undefined) expect(answer.data).toMatchObject(works);
  else expect(answer.data["error"], answer.text).toMatchObject(error ?? {});
  for (const text of scene.fill(says ?? [])) expect(answer.text).toContain(text);

  if (next === undefined) return;
  const right = next === "example" ? exampleOf(answer) : { server, ...scene.fill(next) };
  const second = await call(right.server ?? server, right.tool, right.arguments);
  expect(second.isError, second.text).toBe(false);
  // A load that fails is no error of the call that shows it.
  expect(second.data["status"]).not.toBe("failed");

  function exampleOf(refused: Answer): { server: Misuse["server"]; tool: string; arguments: Record<string, unknown> } {
    const { example } = Object(refused.data["error"]);
    expect(example, refused.text).toEqual({ tool: expect.any(String), arguments: expect.any(Object) });
    return { server, ...example };
  }
});

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
