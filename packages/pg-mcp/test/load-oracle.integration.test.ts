import { afterAll, beforeAll, describe, expect, inject, it } from "vitest";
import type { LoadMode } from "../src/load/plan-sql.ts";
import { verifyLoad } from "../src/load/verify-job.ts";
import { gathers, type Harness, openHarness, type StagedDocument } from "./load-harness.ts";

/**
 * Random documents against a few lines that say, from the documents alone, what the table must hold and which figure
 * counts each of them.
 */
let harness: Harness;

beforeAll(async () => {
  harness = await openHarness(inject("databaseUrl"));
});

afterAll(async () => {
  await harness.close();
});

/** A small generator with a seed, so that a failure can be had again. */
function random(seed: number): (below: number) => number {
  let state = seed;
  return (below) => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    return Math.floor((state / 2 ** 32) * below);
  };
}

type Row = [id: string, v: number | null];
/** CHECK (v <> 13) of the target. */
const FORBIDDEN = 13;

interface World {
  before: Row[];
  documents: StagedDocument[];
}

/**
 * `mixed`: a filled table and keys that come twice. `empty`: the same into an empty table, which is written part by part
 * until something is in the way. `new`: an empty table and keys that come once. `proven`: a filled table, and the key is
 * the document's `_id`.
 */
const WORLDS = ["mixed", "empty", "new", "proven"] as const;

function makeWorld(seed: number, kind: (typeof WORLDS)[number]): World {
  const mixed = makeMixed(seed);
  const before = kind === "empty" || kind === "new" ? [] : mixed.before;
  if (kind === "mixed" || kind === "empty") return { before, documents: mixed.documents };
  const documents = mixed.documents.map((document, n) => {
    if (typeof document.source === "string") return document;
    const { id, v } = document.source;
    const key = `k${n}`;
    return {
      ...document,
      id: key,
      source: { id: id === null ? null : key, v: kind === "new" && v === FORBIDDEN ? 1 : v },
    };
  });
  return { before, documents };
}

function makeMixed(seed: number): World {
  const below = random(seed);
  const before = Array.from({ length: 60 }, (_, n): Row => [`k${n}`, below(5) === 0 ? null : below(8)]);
  const documents = Array.from({ length: 400 }, (_, n): StagedDocument => {
    const id = below(40) === 0 ? null : `k${30 + below(150)}`;
    const v = [below(8), below(8), below(8), null, "bad", FORBIDDEN, `${below(8)}`][below(7)];
    return { id: `d${n}`, seqNo: below(1_000_000), source: { id, v } };
  });
  return { before, documents };
}

/** What a document says, or undefined where it cannot be read into the columns. */
function readable({ source, ...document }: StagedDocument, byId: boolean): Row | undefined {
  if (typeof source === "string") return undefined;
  const { v } = source;
  const id = byId ? document.id : source["id"];
  if (typeof id !== "string") return undefined;
  if (v === null || v === undefined) return [id, null];
  if (typeof v === "number") return [id, v];
  return typeof v === "string" && /^\d+$/.test(v) ? [id, Number(v)] : undefined;
}

function expected({ before, documents }: World, mode: LoadMode, byId: boolean) {
  const figures = { expected: documents.length, staged: documents.length, inserted: 0, updated: 0, unchanged: 0 };
  const more = { skipped: 0, stale: 0, deduplicated: 0, suppressed: 0, rejected: 0 };
  const table = new Map(before);
  const winners = new Map<string, { seqNo: number; row: Row }>();
  for (const document of documents) {
    const row = readable(document, byId);
    if (row === undefined) {
      more.rejected++;
      continue;
    }
    const known = winners.get(row[0]);
    if (known !== undefined) more.deduplicated++;
    if (known === undefined || known.seqNo < (document.seqNo ?? 0)) {
      winners.set(row[0], { seqNo: document.seqNo ?? 0, row });
    }
  }
  let deleted = 0;
  if (mode === "replace") {
    for (const id of table.keys()) if (!winners.has(id) && table.delete(id)) deleted++;
  }
  for (const { row } of winners.values()) {
    const [id, v] = row;
    if (table.has(id) && table.get(id) === v) figures.unchanged++;
    else if (table.has(id) && mode === "ignore") more.skipped++;
    else if (v === FORBIDDEN) more.rejected++;
    else {
      if (table.has(id)) figures.updated++;
      else figures.inserted++;
      table.set(id, v);
    }
  }
  return { figures: { ...figures, ...more }, rows: [...table].sort(([a], [b]) => (a < b ? -1 : 1)), deleted };
}

const CASES = (["upsert", "ignore", "replace"] as const).flatMap((mode) =>
  WORLDS.flatMap((kind) => {
    const isDirect = mode !== "replace" && (kind === "new" || kind === "proven");
    return [
      { mode, kind, limited: false, strategy: isDirect ? "direct" : "gather" },
      ...(isDirect ? [{ mode, kind, limited: true, strategy: "gather" }] : []),
    ];
  }),
);

describe.each(CASES)("$mode of random documents ($kind, $strategy)", ({ mode, kind, limited, strategy }) => {
  it.each([1, 2, 3])("ends as the documents say (seed %i)", async (seed) => {
    const world = makeWorld(seed * 7919, kind);
    const byId = kind === "proven";
    const name = `${mode}_${kind}_${strategy}_${seed}`;
    const table = `${harness.schema}.${name}`;
    await harness.sql(`CREATE TABLE ${table} (id text PRIMARY KEY, v integer CHECK (v <> ${FORBIDDEN}))`);
    await harness.sql(`INSERT INTO ${table} SELECT * FROM json_to_recordset($1::json) AS r (id text, v integer)`, [
      JSON.stringify(world.before.map(([id, v]) => ({ id, v }))),
    ]);
    const exportId = await harness.stage([
      world.documents.slice(0, 150),
      world.documents.slice(150, 151),
      world.documents.slice(151),
    ]);
    const oracle = expected(world, mode, byId);

    const mapping = byId ? { columns: [{ column: "id", from: "_id" }, { column: "v" }], key: ["id"] } : undefined;
    const request = { ...(limited ? gathers : {}), table: name, exportId, mode, mapping, deleteRatioMax: 1 };
    const confirm = mode === "replace" ? (await harness.load({ ...request, dryRun: true })).confirm : undefined;
    const answer = await harness.load({ ...request, confirm });

    expect(answer.figures).toEqual(oracle.figures);
    expect(answer.strategy).toBe(strategy);
    expect(answer.deleted ?? 0).toBe(oracle.deleted);
    expect(await harness.sql(`SELECT id, v FROM ${table} ORDER BY id COLLATE "C"`)).toEqual(oracle.rows);
    const verified = await verifyLoad(harness.context, answer.load_id, { extra: true });
    expect(verified).toMatchObject({
      matched: oracle.figures.inserted + oracle.figures.updated + oracle.figures.unchanged,
      missing: 0,
      different: oracle.figures.skipped,
      deduplicated: oracle.figures.deduplicated,
      rejected: oracle.figures.rejected,
    });
  });
});
