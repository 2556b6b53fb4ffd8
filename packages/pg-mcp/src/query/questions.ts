import type { Transaction } from "../postgres/index.ts";

/** A statement of our own with what becomes of its rows. */
export interface Question {
  sql: string;
  params: readonly string[];
  take: (rows: readonly unknown[][]) => void;
}

/** Answers to questions that were asked before it was known that they would be. */
export interface Foresight {
  /** The rows that the question would get; undefined where nobody asked about all that it is about. */
  answer(question: Question): readonly unknown[][] | undefined;
}

/** Asks all that nobody foresaw, at once: every round trip costs as much as what is asked. */
export async function ask(tx: Transaction, questions: readonly Question[], foresight?: Foresight): Promise<void> {
  const open: Question[] = [];
  for (const question of questions) {
    const rows = foresight?.answer(question);
    if (rows === undefined) open.push(question);
    else question.take(rows);
  }
  if (open.length === 0) return;
  const answers = await tx.batch(open.map(({ sql, params }) => ({ sql, params, kept: true })));
  for (const [index, question] of open.entries()) question.take(answers[index]?.rows ?? []);
}

export function oids(numbers: Iterable<number>): string {
  return `{${[...numbers].join(",")}}`;
}

/** Bodies of SQL functions can be stored as they were parsed since 14. */
export const parsedBodiesSince = 14;

/** Extended statistics can be over expressions since 14, columns computed when they are read since 18. */
export const statisticsSince = 14;
export const virtualColumnsSince = 18;
