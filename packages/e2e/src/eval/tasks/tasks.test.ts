import { readdirSync } from "node:fs";
import { tools as esTools } from "es-mcp/dist/tools/index.js";
import { tools as pgTools } from "pg-mcp/dist/tools/index.js";
import { expect, it } from "vitest";
import { withNames } from "../task.ts";
import { tasks } from "./index.ts";

const toolNames = [...esTools, ...pgTools].map(({ name }) => name);

it("has twelve tasks, each in the file of its name", () => {
  const files = readdirSync(new URL(".", import.meta.url))
    .filter((name) => !["index.ts", "tasks.test.ts"].includes(name))
    .map((name) => name.replace(/\.ts$/, ""));
  expect(tasks).toHaveLength(12);
  expect(tasks.map(({ name }) => name).toSorted()).toEqual(files.toSorted());
});

it("goes from easy to hard", () => {
  const levels = tasks.map(({ level }) => ["easy", "medium", "hard"].indexOf(level));
  expect(levels).toEqual(levels.toSorted((one, other) => one - other));
});

it.each(tasks)("$name names its own indices, calls tools that there are, and ends with words", (task) => {
  const named = [...JSON.stringify([task.wish, task.recording]).matchAll(/\{([a-z]\w*)\}/g)].map(
    ([, name = ""]) => name,
  );
  const known = [...task.indices, "export", "load"];
  expect(named.filter((name) => !known.includes(name))).toEqual([]);
  const called = task.recording.flatMap((step) => (typeof step === "string" ? [] : step.map(([tool]) => tool)));
  expect(called.filter((tool) => !toolNames.includes(tool))).toEqual([]);
  expect(task.recording.at(-1)).toBeTypeOf("string");
});

it("puts real names into sentences and data, and leaves other braces alone", () => {
  const names = new Map([["products", "products-1"]]);
  expect(
    withNames(["{products} and {nothing}", { sql: "'{a}'", n: 1, deep: [{ index: "{products}" }] }], names),
  ).toEqual(["products-1 and {nothing}", { sql: "'{a}'", n: 1, deep: [{ index: "products-1" }] }]);
});
