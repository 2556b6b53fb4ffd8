import type { Transaction } from "../postgres/index.ts";

/** A statement of our own with what becomes of its rows. */
export interface Question {
  sql: string;
  params: readonly string[];
  take: (rows: readonly unknown[][]) => void;
}

/** Asks all at once: every round trip costs as much as what is asked. */
export async function ask(tx: Transaction, questions: readonly Question[]): Promise<void> {
  if (questions.length === 0) return;
  const answers = await tx.batch(questions.map(({ sql, params }) => ({ sql, params, kept: true })));
  for (const [index, question] of questions.entries()) question.take(answers[index]?.rows ?? []);
}

export function oids(numbers: Iterable<number>): string {
  return `{${[...numbers].join(",")}}`;
}

/** Bodies of SQL functions can be stored as they were parsed since 14. */
export const parsedBodiesSince = 14;

/** Extended statistics can be over expressions since 14, columns computed when they are read since 18. */
export const statisticsSince = 14;
export const virtualColumnsSince = 18;
