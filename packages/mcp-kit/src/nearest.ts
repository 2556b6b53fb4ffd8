/** Longest name that is compared letter by letter; it bounds the cost of a hostile name. */
const COMPARED_LENGTH_MAX = 100;

/** The candidates that `name` may have been meant for, closest first; empty if none is close. */
export function nearest(name: string, candidates: Iterable<string>, max = 3): string[] {
  const wanted = plain(name);
  if (wanted === "") return [];
  const scored: { candidate: string; score: number }[] = [];
  for (const candidate of candidates) {
    const score = distance(wanted, plain(candidate));
    if (score !== undefined) scored.push({ candidate, score });
  }
  return scored
    .sort((a, b) => a.score - b.score || (a.candidate < b.candidate ? -1 : 1))
    .slice(0, max)
    .map(({ candidate }) => candidate);
}

/** Case and separators are where names differ most often, and least. */
function plain(name: string): string {
  return name.toLowerCase().replaceAll(/[\s_.\-/]+/g, "");
}

/** How far two plain names are from each other, 0 for equal, undefined for too far to be meant. */
function distance(wanted: string, candidate: string): number | undefined {
  if (candidate === "") return undefined;
  if (wanted === candidate) return 0;
  if (wanted.length > COMPARED_LENGTH_MAX || candidate.length > COMPARED_LENGTH_MAX) return undefined;
  const shorter = Math.min(wanted.length, candidate.length);
  const longer = Math.max(wanted.length, candidate.length);
  const allowed = Math.max(1, Math.floor(longer / 3));
  if (longer - shorter <= allowed) {
    const edits = editDistance(wanted, candidate);
    if (edits <= allowed && edits < shorter) return edits;
  }
  // A part of the right name ("created" for "created_at") is a good guess too, but after every misspelling.
  if (shorter >= 3 && (wanted.includes(candidate) || candidate.includes(wanted))) return 10 + longer - shorter;
  return undefined;
}

/** Edits of one letter (insert, delete, replace, swap of neighbours) that turn one text into the other. */
function editDistance(a: string, b: string): number {
  let beforeLast: number[] = [];
  let last = Array.from({ length: b.length + 1 }, (_, column) => column);
  for (let row = 1; row <= a.length; row++) {
    const current = [row];
    for (let column = 1; column <= b.length; column++) {
      const same = a[row - 1] === b[column - 1];
      let cost = Math.min(
        (last[column] ?? 0) + 1,
        (current[column - 1] ?? 0) + 1,
        (last[column - 1] ?? 0) + (same ? 0 : 1),
      );
      if (row > 1 && column > 1 && a[row - 1] === b[column - 2] && a[row - 2] === b[column - 1]) {
        cost = Math.min(cost, (beforeLast[column - 2] ?? 0) + 1);
      }
      current.push(cost);
    }
    beforeLast = last;
    last = current;
  }
  return last[b.length] ?? 0;
}
