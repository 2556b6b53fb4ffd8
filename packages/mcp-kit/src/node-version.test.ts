import { expect, test } from "vitest";
import { nodeProblem } from "./node-version.ts";

test("refuses a Node that would lose digits, and says which is needed", () => {
  expect(nodeProblem("20.20.2")).toContain("this is Node 20.20.2, and 22 or newer is needed");
  expect(nodeProblem("9.11.0")).toBeDefined();
});

test("takes Node 22 and newer", () => {
  expect(nodeProblem("22.0.0")).toBeUndefined();
  expect(nodeProblem("100.1.0")).toBeUndefined();
});
