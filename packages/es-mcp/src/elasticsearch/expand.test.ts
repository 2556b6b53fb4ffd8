import { ToolError } from "@es-to-pg/mcp-kit";
import { describe, expect, test } from "vitest";
import { expand, expressionParts, type Resolved, refuseNames, unknownMembers } from "./expand.ts";

const none: Resolved = { indices: [], aliases: [], data_streams: [] };
const everything = { allow: [], deny: [] };

function index(name: string, attributes: string[] = ["open"], more: { data_stream?: string } = {}) {
  return { name, aliases: [], attributes, ...more };
}

function expanded(resolved: Partial<Resolved>, options: Partial<Parameters<typeof expand>[0]> = {}) {
  return expand({
    resolved: { ...none, ...resolved },
    members: [],
    aliasFilters: new Map(),
    includeHidden: false,
    policy: everything,
    ...options,
  });
}

test("names by commas are several, and _all is everything", () => {
  expect(expressionParts(["a, b*", "_all"])).toEqual(["a", "b*", "*"]);
});

test.each([[""], [".kibana"], ["products,.security-7"], ["remote:products"], ["_search"], ["a/b"], ["a b"], ["a?b"]])(
  "refuses %j before anything is asked",
  (name) => {
    expect(() => refuseNames(expressionParts(name))).toThrow(ToolError);
  },
);

/** What resolving these aliases of index `i` answers. */
function through(...names: string[]) {
  return { aliases: names.map((name) => ({ name, indices: ["i"] })) };
}

describe("expansion", () => {
  test("names closed, hidden and system indices as left out", () => {
    const result = expanded({
      indices: [
        index("a"),
        index("b", ["closed"]),
        index("c", ["open", "hidden"]),
        index(".d"),
        index("e", ["open", "system"]),
      ],
    });
    expect(result.indices.map(({ name }) => name)).toEqual(["a"]);
    expect(result.leftOut).toEqual([
      { name: ".d", why: "system" },
      { name: "b", why: "closed" },
      { name: "c", why: "hidden" },
      { name: "e", why: "system" },
    ]);
  });

  test("hidden indices are read when asked for, or when an alias or a data stream reaches them", () => {
    const hidden = index("h", ["open", "hidden"]);
    expect(expanded({ indices: [hidden] }, { includeHidden: true }).indices).toHaveLength(1);
    expect(expanded({ aliases: [{ name: "al", indices: ["h"] }] }, { members: [hidden] }).indices).toHaveLength(1);
    const backing = index(".ds-logs-1", ["open", "hidden"], { data_stream: "logs" });
    const [only] = expanded(
      { data_streams: [{ name: "logs", backing_indices: [".ds-logs-1"] }] },
      { members: [backing] },
    ).indices;
    expect(only).toMatchObject({ name: ".ds-logs-1", dataStream: "logs" });
  });

  test("a system index behind an innocent alias is left out", () => {
    const result = expanded({ aliases: [{ name: "al", indices: [".secrets"] }] }, { members: [index(".secrets")] });
    expect(result).toMatchObject({ indices: [], leftOut: [{ name: ".secrets", why: "system" }] });
  });

  test("allow and deny lists mean the indices behind an alias, not its name", () => {
    const resolved = { aliases: [{ name: "products", indices: ["orders", "products-1"] }] };
    const members = [index("orders"), index("products-1")];
    const result = expanded(resolved, { members, policy: { allow: ["products*"], deny: [] } });
    expect(result.indices.map(({ name }) => name)).toEqual(["products-1"]);
    expect(result.denied).toEqual(["orders"]);
    expect(expanded(resolved, { members, policy: { allow: [], deny: ["*1"] } }).denied).toEqual(["products-1"]);
  });

  test("a backing index goes by the name of its stream", () => {
    const resolved = { data_streams: [{ name: "logs", backing_indices: [".ds-logs-1"] }] };
    const members = [index(".ds-logs-1", ["open", "hidden"], { data_stream: "logs" })];
    expect(expanded(resolved, { members, policy: { allow: ["logs"], deny: [] } }).indices).toHaveLength(1);
    expect(expanded(resolved, { members, policy: { allow: [], deny: ["logs"] } }).indices).toHaveLength(0);
  });

  test("an alias's filter holds only where nothing reaches the index without it", () => {
    const filter = { term: { a: 1 } };
    const aliasFilters = new Map([
      [
        "i",
        new Map<string, unknown>([
          ["f", filter],
          ["g", { term: { a: 2 } }],
          ["open", undefined],
        ]),
      ],
    ]);
    const members = [index("i")];
    expect(expanded(through("f"), { members, aliasFilters }).indices[0]?.aliasFilter).toEqual(filter);
    expect(expanded(through("f", "g"), { members, aliasFilters }).indices[0]?.aliasFilter).toEqual({
      bool: { should: [filter, { term: { a: 2 } }], minimum_should_match: 1 },
    });
    expect(expanded(through("f", "open"), { members, aliasFilters }).indices[0]).not.toHaveProperty("aliasFilter");
    const both = expanded({ ...through("f"), indices: members }, { aliasFilters });
    expect(both.indices[0]).not.toHaveProperty("aliasFilter");
  });

  test("members that only an alias or a stream names are asked about", () => {
    expect(
      unknownMembers({
        indices: [index("a")],
        aliases: [{ name: "al", indices: ["a", "b"] }],
        data_streams: [{ name: "s", backing_indices: [".ds-s-1", "b"] }],
      }),
    ).toEqual(["b", ".ds-s-1"]);
  });
});
