import { expect, it } from "vitest";
import { readDriver } from "./settings.ts";

it("plays the recordings where no model is named, over the protocol that is", () => {
  expect(readDriver({})).toEqual({ recordedOver: "openai" });
  expect(readDriver({ EVAL_MODEL: "", EVAL_PROTOCOL: "anthropic" })).toEqual({ recordedOver: "anthropic" });
});

it("takes a model, its address and its key", () => {
  const environment = { EVAL_MODEL: "m", EVAL_BASE_URL: "http://127.0.0.1:1/v1", EVAL_API_KEY: "k" };
  expect(readDriver(environment)).toEqual({
    model: { protocol: "openai", baseUrl: "http://127.0.0.1:1/v1", apiKey: "k", model: "m" },
  });
  expect(readDriver({ EVAL_MODEL: "m", EVAL_PROTOCOL: "anthropic" })).toEqual({
    model: { protocol: "anthropic", baseUrl: undefined, apiKey: "none", model: "m" },
  });
});

it.each([
  [{ EVAL_API_KEY: "k" }, /EVAL_MODEL is not/],
  [{ EVAL_MODEL: "m", EVAL_BASE_URL: "localhost" }, /^EVAL_BASE_URL: /],
  [{ EVAL_MODEL: "m", EVAL_PROTOCOL: "gemini" }, /^EVAL_PROTOCOL: .*openai.*anthropic/],
])("says what is wrong with %j", (environment, sentence) => {
  expect(() => readDriver(environment)).toThrow(sentence);
});
