import { describe, expect, it } from "vitest";
import type { LoadMode, MergePlan } from "./plan-sql.ts";
import { chooseStrategy, proveKeys, type StrategyFacts, type TableFacts } from "./strategy.ts";

type Key = {
  from: string | null;
  targetType?: string;
  expression?: string;
  onMissing?: string;
  nul?: string;
  encoding?: string;
  collation?: string;
};

/** The parts of a plan that the choice looks at. */
function plan(mode: LoadMode, key: Key[], change: { triggered?: boolean; guard?: { column: string } } = {}): MergePlan {
  const columns = key.map((column, n) => ({
    column: `k${n}`,
    targetType: "text",
    onMissing: "null",
    onError: "reject",
    nul: "reject",
    encoding: "reject",
    staged: true,
    ...column,
  }));
  const table = { columns: columns.map(({ column, collation = null }) => ({ name: column, collation })) };
  // oxlint-disable-next-line typescript/no-unsafe-type-assertion -- a whole plan comes from a catalog, and none is here
  return {
    mode,
    key: columns,
    guard: null,
    triggered: false,
    plan: { table, children: [] },
    ...change,
  } as unknown as MergePlan;
}

const indices = (...shards: number[]): StrategyFacts["indices"] =>
  shards.map((count, n) => ({ name: `i${n}`, uuid: `u${n}`, shards: count, source_mode: "stored", documents: 1 }));

const EMPTY: TableFacts = {
  isEmpty: true,
  isReferenced: false,
  referencesItself: false,
  mayDelete: true,
  hasOtherUniques: false,
};
const FILLED = { ...EMPTY, isEmpty: false };

function choose(merge: MergePlan, change: Partial<StrategyFacts> = {}) {
  const { name, proof } = chooseStrategy({
    merge,
    indices: indices(1),
    dryRun: false,
    replays: false,
    limits: { onError: "reject", rejectsMax: null, rejectRatioMax: null },
    table: FILLED,
    ...change,
  });
  return proof === null ? name : `${name} by ${proof}`;
}

const ID: Key[] = [{ from: "_id" }];
const FIELD: Key[] = [{ from: "id" }];

describe("chooseStrategy", () => {
  it.each<[string, MergePlan, Partial<StrategyFacts>, string]>([
    ["the _id of one index of one shard is the key", plan("upsert", ID), {}, "direct by key"],
    ["the same in mode ignore", plan("ignore", ID), {}, "direct by key"],
    ["routing may repeat an _id in another shard", plan("upsert", ID), { indices: indices(2) }, "gather"],
    ["two indices may have one _id", plan("upsert", ID), { indices: indices(1, 1) }, "gather"],
    [
      "(_index, _id) is the key",
      plan("upsert", [{ from: "_index" }, ...ID]),
      { indices: indices(1, 1) },
      "direct by key",
    ],
    ["a type may make one key of two _id", plan("upsert", [{ from: "_id", targetType: "bigint" }]), {}, "gather"],
    ["an expression may make one key of two _id", plan("upsert", [{ from: "_id", expression: "1" }]), {}, "gather"],
    [
      "equal versions of one key may come in two parts",
      plan("upsert", FIELD, { guard: { column: "changed" } }),
      {},
      "gather",
    ],
    ["the table holds rows", plan("upsert", FIELD), {}, "gather"],
    ["the table is empty", plan("upsert", FIELD), { table: EMPTY }, "direct by insert"],
    [
      "what was inserted could not be taken back: no right to delete",
      plan("upsert", FIELD),
      { table: { ...EMPTY, mayDelete: false } },
      "gather",
    ],
    [
      "what was inserted could not be taken back: others may refer to it",
      plan("upsert", FIELD),
      { table: { ...EMPTY, isReferenced: true } },
      "gather",
    ],
    ["triggers see the rows", plan("upsert", FIELD, { triggered: true }), { table: EMPTY }, "gather"],
    ["rows may refer to later ones", plan("upsert", ID), { table: { ...EMPTY, referencesItself: true } }, "gather"],
    ["replace is one change", plan("replace", ID), { table: EMPTY }, "gather"],
    ["half an append cannot be repeated", plan("append", []), { table: EMPTY }, "gather"],
    ["a dry run is rolled back", plan("upsert", ID), { dryRun: true }, "gather"],
    ["a replay needs all rejects", plan("upsert", ID), { replays: true }, "gather"],
    [
      "a reject stops the load",
      plan("upsert", ID),
      { limits: { onError: "stop", rejectsMax: null, rejectRatioMax: null } },
      "gather",
    ],
    [
      "rejects are limited",
      plan("upsert", ID),
      { limits: { onError: "reject", rejectsMax: 5, rejectRatioMax: null } },
      "gather",
    ],
  ])("where %s", (_, merge, change, expected) => {
    expect(choose(merge, change)).toBe(expected);
  });
});

const choice = (merge: MergePlan, table: Partial<TableFacts> = {}, mayStop = false) =>
  chooseStrategy({
    merge,
    indices: indices(1),
    dryRun: false,
    replays: false,
    limits: { onError: mayStop ? "stop" : "reject", rejectsMax: null, rejectRatioMax: null },
    table: { ...FILLED, ...table },
  });

describe("the order of the parts", () => {
  it("is free where a document meets no other row than that of its key", () => {
    expect(choice(plan("upsert", ID)).inOrder).toBe(false);
    expect(choice(plan("upsert", ID), {}, true).inOrder).toBe(false);
  });

  it.each<[string, MergePlan, Partial<TableFacts>]>([
    ["another unique index may exclude a row", plan("upsert", ID), { hasOtherUniques: true }],
    ["a trigger may look at other rows", plan("upsert", ID, { triggered: true }), {}],
    ["rows refer to each other", plan("upsert", ID), { referencesItself: true }],
  ])("is kept where %s", (_, merge, table) => {
    const kept = { inOrder: true, reason: expect.stringContaining("parts keep their order") };
    expect(choice(merge, table)).toMatchObject({
      name: table.referencesItself === true ? "gather" : "direct",
      ...kept,
    });
    expect(choice(merge, table, true)).toMatchObject({ name: "gather", ...kept });
  });
});

describe("proveKeys", () => {
  const shown = (key: Key[], ...shards: number[]) =>
    proveKeys(plan("upsert", key), indices(...shards))?.ids.map(({ column }) => column);

  it("needs nothing of the stage where the key is the document's own", () => {
    expect(shown(ID, 1)).toEqual([]);
    expect(shown([...FIELD, ...ID], 1)).toEqual([]);
  });

  it("asks the stage whether a field of the key is the _id", () => {
    expect(shown(FIELD, 1)).toEqual(["k0"]);
    expect(shown([{ from: "n", targetType: "bigint" }, { from: "code", targetType: "uuid" }, ...FIELD], 1)).toEqual([
      "k0",
      "k2",
    ]);
    expect(shown([{ from: "_index" }, ...FIELD], 1, 1)).toEqual(["k0", "k1"]);
  });

  it.each<[string, Key[], number[]]>([
    ["an index has several shards", FIELD, [2]],
    ["the indices are several and the key does not tell them apart", FIELD, [1, 1]],
    ["a number has several texts", [{ from: "n", targetType: "numeric" }], [1]],
    ["an expression makes the key", [{ from: "id", expression: "1" }], [1]],
    ["a default may stand in for what is missing", [{ from: "id", onMissing: "default" }], [1]],
    ["two ids without their U+0000 may be one", [{ from: "_id", nul: "strip" }], [1]],
    ["two ids with their broken bytes replaced may be one", [{ from: "_id", encoding: "replace" }], [1]],
    ["a collation may call two texts equal", [{ from: "id", collation: '"und-x-icu"' }], [1]],
  ])("finds no proof where %s", (_, key, shards) => {
    expect(shown(key, ...shards)).toBeUndefined();
  });
});
