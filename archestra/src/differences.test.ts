import { expect, it } from "vitest";
import { differences } from "./differences.ts";

it("finds none where everything wanted is so, whatever else is there", () => {
  const wanted = { name: "a", labels: [{ key: "app", value: "x" }], none: undefined };
  expect(differences(wanted, { name: "a", extra: 1, labels: [{ key: "app", value: "x", keyId: "1" }] })).toEqual([]);
});

it("names each difference by its path", () => {
  const wanted = { config: { image: "b", ports: [1, 2] }, labels: [{ key: "app" }] };
  expect(differences(wanted, { config: { image: "a", ports: [1, 3] }, labels: [{ key: "other" }] })).toEqual([
    "config.image: a -> b",
    "config.ports[1]: 3 -> 2",
    "labels[0].key: other -> app",
  ]);
});

it("finds lists of another length, and what is not there at all", () => {
  expect(differences({ list: [1, 2], name: "a" }, { list: [1] })).toEqual([
    "list: 1 of them -> 2 of them",
    "name: none -> a",
  ]);
  expect(differences({ config: { image: "b" } }, { config: null })).toEqual(["config.image: none -> b"]);
});

it("takes an empty list and none for the same, because the platform leaves empty ones out", () => {
  expect(differences({ arguments: [] }, {})).toEqual([]);
});

it("says of long texts only that they differ", () => {
  expect(differences({ prompt: "x".repeat(200) }, { prompt: "one\ntwo" })).toEqual([
    "prompt: 7 characters -> 200 characters",
  ]);
});
