import type { Place } from "./place.ts";

/** One thing that had to be so, or had not to happen. */
export interface Finding {
  /** What is claimed. */
  claim: string;
  holds: boolean;
  /** What was found instead. */
  detail?: string;
}

/** A finding of a comparison. */
export function finding(claim: string, holds: boolean, detail: string): Finding {
  return holds ? { claim, holds } : { claim, holds, detail };
}

/** That a query gives these rows and no other, in whatever order; a query that fails is what was found. */
export async function rowsAre(
  place: Place,
  { claim, sql, rows }: { claim: string; sql: string; rows: readonly Record<string, unknown>[] },
): Promise<Finding> {
  let found: unknown[];
  try {
    const answer = await place.sql(`SELECT to_json(t) FROM (${sql}) AS t`);
    found = answer.map(([json]) => JSON.parse(String(json)));
  } catch (error) {
    return finding(claim, false, error instanceof Error ? error.message : String(error));
  }
  const missing = without(rows, found);
  const surplus = without(found, rows);
  const detail = `${found.length} rows for ${rows.length}${example("missing", missing)}${example("surplus", surplus)}`;
  return finding(claim, missing.length === 0 && surplus.length === 0, detail);
}

function example(name: string, list: readonly unknown[]): string {
  return list.length === 0 ? "" : `, ${list.length} ${name}, such as ${JSON.stringify(list[0]).slice(0, 300)}`;
}

/** The members of a list that another does not have, counting equal ones. */
function without(list: readonly unknown[], other: readonly unknown[]): unknown[] {
  const left = new Map<string, number>();
  for (const item of other) left.set(keyOf(item), (left.get(keyOf(item)) ?? 0) + 1);
  return list.filter((item) => {
    const count = left.get(keyOf(item)) ?? 0;
    left.set(keyOf(item), count - 1);
    return count <= 0;
  });
}

/** Equal values have equal keys, in whatever order their members stand. */
function keyOf(item: unknown): string {
  return JSON.stringify(item, (_, value: unknown) =>
    typeof value === "object" && value !== null && !Array.isArray(value)
      ? Object.fromEntries(Object.entries(value).toSorted(([one], [other]) => (one < other ? -1 : 1)))
      : value,
  );
}
