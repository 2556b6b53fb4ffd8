import { describe, expect, test } from "vitest";
import { answerOf } from "./answer.ts";
import type { Job } from "./job.ts";

const figures = {
  expected: 10,
  staged: 10,
  inserted: 6,
  updated: 1,
  unchanged: 1,
  skipped: 0,
  stale: 0,
  deduplicated: 0,
  suppressed: 0,
  rejected: 2,
};

function resultOf(data: object): object {
  return { content: [{ type: "text", text: JSON.stringify(data) }] };
}

function load(data: object = {}): Job {
  const answer = answerOf(
    resultOf({
      load_id: "load_a",
      status: "completed",
      table: "shop.products",
      mode: "upsert",
      seconds: 2,
      figures,
      ...data,
    }),
  );
  if (answer.kind !== "job") throw new Error(`it is read as ${answer.kind}`);
  return answer.job;
}

function lawOfExport(documents: number): unknown {
  const answer = answerOf(resultOf({ export_id: "exp_a", status: "completed", documents, expected: 15, indices: [] }));
  return answer.kind === "job" ? answer.job.law : answer;
}

describe("the law of conservation", () => {
  test("holds where every expected document has one fate", () => {
    expect(load().law).toEqual({ verdict: "holds", sentence: "Every document is accounted for." });
  });

  test("is broken where fates are missing, are too many, or one is below zero", () => {
    expect(load({ figures: { ...figures, inserted: 5 } }).law).toEqual({
      verdict: "broken",
      sentence: "1 document of 10 is not accounted for.",
    });
    expect(load({ figures: { ...figures, inserted: 8 } }).law.sentence).toBe(
      "2 documents more than the 10 expected are accounted for.",
    );
    expect(load({ figures: { ...figures, inserted: 8, stale: -2 } }).law).toEqual({
      verdict: "broken",
      sentence: "stale is below zero.",
    });
  });

  test("counts a fate that this page has never heard of", () => {
    const job = load({ figures: { ...figures, inserted: 4, archived: 2 } });
    expect(job.law.verdict).toBe("holds");
    expect(job.shares).toContainEqual({ name: "archived", count: 2 });
  });

  test.each(["working", "failed", "cancelled"])("is not judged while a load is %s", (status) => {
    expect(
      load({ status, figures: { ...figures, staged: 4, inserted: 2, updated: 0, unchanged: 0, rejected: 0 } }).law
        .verdict,
    ).toBe("open");
  });

  test("of an export compares what is staged with what matched", () => {
    expect(lawOfExport(15)).toEqual({ verdict: "holds", sentence: "Every document is staged." });
    expect(lawOfExport(14)).toEqual({ verdict: "broken", sentence: "1 document of 15 is not staged." });
  });
});

describe("a load", () => {
  test("shows what is staged and has no fate yet", () => {
    const job = load({ status: "working", phase: "merging", figures: { expected: 10, staged: 8, inserted: 3 } });
    expect(job).toMatchObject({ state: "working", phase: "merging into the table", done: 8, expected: 10 });
    expect(job.shares).toEqual([
      { name: "inserted", count: 3 },
      { name: "in stage", count: 5 },
    ]);
  });

  test("that stopped has not loaded what was staged, and one that is completed leaves a gap", () => {
    const staged = { expected: 10, staged: 10, inserted: 3 };
    expect(load({ status: "failed", figures: staged }).shares).toContainEqual({ name: "not loaded", count: 7 });
    const completed = load({ figures: staged });
    expect(completed.shares).toEqual([{ name: "inserted", count: 3 }]);
    expect(completed.law.verdict).toBe("broken");
  });

  test("whose process is gone is stalled", () => {
    expect(load({ status: "working", stalled: true }).state).toBe("stalled");
    expect(load({ status: "completed", stalled: true }).state).toBe("completed");
  });

  test("keeps reasons and examples of rejects as the text that they are", () => {
    const rejects = [
      { reason: "nul", column: "<b>", count: 2, document_id: "<img src=x>", message: "m", value: "</script>" },
      "not a reject",
    ];
    expect(load({ rejects }).rejects).toEqual([
      { reason: "nul", column: "<b>", count: 2, documentId: "<img src=x>", value: "</script>", message: "m" },
    ]);
  });
});

describe("an answer", () => {
  test("is taken from structured content where there is some", () => {
    const answer = answerOf({ ...resultOf({}), structuredContent: { load_id: "load_b", status: "failed", figures } });
    expect(answer).toMatchObject({ kind: "job", job: { id: "load_b", state: "failed" } });
  });

  test("that is an error says what a model is told", () => {
    const error = { code: "unknown_load", message: "There is no load_x.", next: "Call list_loads." };
    expect(answerOf({ ...resultOf({ error }), isError: true })).toEqual({
      kind: "failure",
      failure: { ...error, retryable: false },
    });
    expect(answerOf({ content: [{ type: "text", text: "plain" }], isError: true })).toMatchObject({
      failure: { code: "error", message: "plain" },
    });
  });

  test("with documents in it is told apart from an export", () => {
    expect(answerOf(resultOf({ documents: [{}], returned: 1, total: 9 }))).toEqual({
      kind: "inline",
      returned: 1,
      total: 9,
    });
  });

  test.each([
    [undefined],
    [null],
    ["x"],
    [{ content: "x" }],
    [{ content: [{ text: "{" }] }],
    [{ structuredContent: [] }],
  ])("that is none of ours shows nothing: %j", (result) => {
    expect(answerOf(result)).toEqual({ kind: "nothing" });
  });

  test("of a list keeps each job's state and what there is more", () => {
    const loads = [
      {
        load_id: "load_a",
        status: "failed",
        table: "a.b",
        mode: "append",
        created_at: "2026-01-01",
        figures: {},
        error: "lost",
      },
      {
        load_id: "load_b",
        status: "completed",
        table: "a.c",
        mode: "upsert",
        created_at: "2026-01-01",
        figures: { expected: 3, staged: 3, rejected: 1 },
      },
    ];
    const answer = answerOf(resultOf({ loads, returned: 2, next_cursor: "more" }));
    expect(answer).toMatchObject({
      kind: "list",
      list: {
        jobs: [
          { id: "load_a", state: "failed", heading: "a.b", note: "append, lost" },
          { id: "load_b", state: "completed", done: 3, rejected: 1, note: "upsert" },
        ],
        nextCursor: "more",
      },
    });
  });

  test("of a comparison keeps its verdict and every figure", () => {
    const answer = answerOf(
      resultOf({
        load_id: "load_a",
        verdict: "different",
        table: "a.b",
        staged: 3,
        matched: 2,
        missing: 1,
        different: 0,
        sample_keys: { missing: ["k"] },
      }),
    );
    expect(answer).toMatchObject({
      kind: "verification",
      verification: {
        verdict: "different",
        shares: [
          { name: "matched", count: 2 },
          { name: "missing", count: 1 },
          { name: "different", count: 0 },
        ],
        samples: [{ name: "missing", keys: ["k"] }],
      },
    });
  });
});
