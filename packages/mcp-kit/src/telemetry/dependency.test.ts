import { expect, test } from "vitest";
import { dependencyReading } from "./instruments.ts";

const { promise: silence } = Promise.withResolvers<void>();
const failure = Promise.reject(new Error("no"));
failure.catch(() => {});

test.each([
  ["answers", Promise.resolve(), 1],
  ["fails", failure, 0],
  ["never answers", silence, 0],
])("a dependency that %s", async (_what, answer, value) => {
  const reading = await dependencyReading("staging", async () => answer, 20);
  expect(reading).toEqual({ value, attributes: { dependency: "staging" } });
});
