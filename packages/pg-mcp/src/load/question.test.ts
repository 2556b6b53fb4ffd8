import { expect, test } from "vitest";
import { questionBefore } from "./question.ts";

const table = { schema: "shop", table: "products" };
const exportId = "exp_00000000000000000000000000";

function ask(
  found: Partial<Parameters<typeof questionBefore>[1]> & { rejectsMax?: number; isInline?: boolean },
): string | undefined {
  const { rejectsMax = null, isInline = false, ...rest } = found;
  const limits = { onError: "reject" as const, rejectsMax, rejectRatioMax: null };
  const request = { exportId: isInline ? undefined : exportId, limits };
  // oxlint-disable-next-line typescript/no-unsafe-type-assertion -- of the table only its name is read
  const plan = { table } as Parameters<typeof questionBefore>[0];
  return questionBefore(plan, { request, deletesMax: null, rejected: undefined, expected: 1500, ...rest })?.message;
}

test.each([
  ["nothing is lost", {}],
  ["few documents are rejected", { rejected: 100 }],
  ["few may be", { rejectsMax: 100 }],
])("asks nothing where %s", (_what, found) => {
  expect(ask(found)).toBeUndefined();
});

test("asks before rows are removed, even where it is none", () => {
  expect(ask({ deletesMax: 1200 })).toBe(
    `Replace the rows of shop.products by ${exportId}? 1,200 rows would be removed.`,
  );
  expect(ask({ deletesMax: 1 })).toContain("1 row would be removed");
  expect(ask({ deletesMax: 0, isInline: true })).toBe(
    "Replace the rows of shop.products by the rows of the call? 0 rows would be removed.",
  );
});

test("asks before many documents are left out, by what a dry run found rather than by what is allowed", () => {
  expect(ask({ rejected: 101, rejectsMax: 5000 })).toBe(
    `Load ${exportId} into shop.products although 101 of 1,500 documents are rejected?`,
  );
  expect(ask({ rejectsMax: 5000 })).toBe(
    `Load ${exportId} into shop.products although up to 5,000 documents may be rejected?`,
  );
});

test("asks once for both", () => {
  expect(ask({ deletesMax: 5, rejected: 200 })).toMatch(/^Replace .* removed\. Load .* rejected\?$/);
});
