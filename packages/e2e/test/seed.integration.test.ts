import { execFile } from "node:child_process";
import { randomBytes } from "node:crypto";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { requestElasticsearch } from "@es-to-pg/seed";
import { afterEach, expect, inject, it } from "vitest";

const program = fileURLToPath(new URL("../../../seed/src/main.ts", import.meta.url));
const index = `seed_${randomBytes(5).toString("hex")}`;
const url = inject("elasticsearchUrl");

afterEach(async () => {
  await requestElasticsearch(url, { method: "DELETE", path: index }, [404]);
});

async function seed(...args: string[]): Promise<string> {
  const env = { ...process.env, ELASTICSEARCH_URL: url, DATABASE_URL: undefined };
  return (await promisify(execFile)("tsx", [program, "--index", index, ...args], { env })).stdout;
}

async function uuid(): Promise<string | undefined> {
  const text = await requestElasticsearch(url, { method: "GET", path: `${index}/_settings?flat_settings=true` });
  return /"index\.uuid":"([^"]+)"/.exec(text)?.[1];
}

it("makes its index anew each time, and leaves it as it is with --keep", async () => {
  expect(await seed("--keep")).toBe(`index ${index}: 15 documents, 4863 bytes\n`);
  const first = await uuid();
  expect(await seed("--keep")).toBe(`index ${index} is there already and stays as it is\n`);
  expect(await uuid()).toBe(first);
  await seed();
  expect(await uuid()).not.toBe(first);
});

it("leaves an index that somebody else wrote alone with --keep, and says so without it", async () => {
  await requestElasticsearch(url, { method: "PUT", path: index, body: "{}" });
  const first = await uuid();
  expect(await seed("--keep")).toBe(`index ${index} is there already and stays as it is\n`);
  await expect(seed()).rejects.toMatchObject({ stderr: expect.stringContaining("was not written by this program") });
  expect(await uuid()).toBe(first);
});
