import { expect, it } from "vitest";
import { answersStructured } from "./structured.ts";

const gemini = { name: "gemini-cli-mcp-client", version: "0.61.0" };

it("answers text alone to the clients that misread errors beside a schema", () => {
  expect(answersStructured("auto", gemini)).toBe(false);
  // Earlier versions put the name of the server after their own.
  expect(answersStructured("auto", { ...gemini, name: "gemini-cli-mcp-client-es" })).toBe(false);
});

it("answers with structured content to every other client, and to one that says nothing of itself", () => {
  expect(answersStructured("auto", { name: "claude-code", version: "2.1.332" })).toBe(true);
  expect(answersStructured("auto", undefined)).toBe(true);
});

it("asks nobody where the setting says it", () => {
  expect(answersStructured(true, gemini)).toBe(true);
  expect(answersStructured(false, undefined)).toBe(false);
});
