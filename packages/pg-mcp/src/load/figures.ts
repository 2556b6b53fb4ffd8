import { z } from "zod";

/** The figures of a load, in the order in which every answer gives them. */
export const FIGURE_NAMES = [
  "expected",
  "staged",
  "inserted",
  "updated",
  "unchanged",
  "skipped",
  "stale",
  "deduplicated",
  "suppressed",
  "rejected",
] as const;

export type FigureName = (typeof FIGURE_NAMES)[number];

const count = z.number();

export const figuresSchema = z.object({
  expected: count,
  staged: count,
  inserted: count,
  updated: count,
  unchanged: count,
  skipped: count,
  stale: count,
  deduplicated: count,
  suppressed: count,
  rejected: count,
} satisfies Record<FigureName, z.ZodNumber>);
export type Figures = z.infer<typeof figuresSchema>;

/** Where a staged document can end; the law of conservation says that each ends in exactly one of them. */
const OUTCOMES = FIGURE_NAMES.slice(2);

/** Figures with every count at zero. */
export function noFigures(): Figures {
  return {
    expected: 0,
    staged: 0,
    inserted: 0,
    updated: 0,
    unchanged: 0,
    skipped: 0,
    stale: 0,
    deduplicated: 0,
    suppressed: 0,
    rejected: 0,
  };
}

/** Both, outcome by outcome. */
export function addFigures(sum: Figures, more: Figures | undefined): Figures {
  if (more === undefined) return sum;
  const added = { ...sum };
  for (const name of FIGURE_NAMES) added[name] += more[name];
  return added;
}

/** What breaks the law `expected = staged = sum of the outcomes`, as a sentence; undefined while it holds. */
export function conservationBreach(figures: Figures): string | undefined {
  const negative = FIGURE_NAMES.find((name) => figures[name] < 0 || !Number.isSafeInteger(figures[name]));
  if (negative !== undefined) return `${negative} is ${figures[negative]}`;
  if (figures.expected !== figures.staged) return `${figures.expected} documents expected, ${figures.staged} staged`;
  const accounted = OUTCOMES.reduce((sum, name) => sum + figures[name], 0);
  if (accounted !== figures.staged) return `${figures.staged} documents staged, ${accounted} accounted for`;
  return undefined;
}
