import { quoteIdentifier, type Transaction } from "../postgres/index.ts";

/** Writes down what a transaction changes, in that transaction: neither is there without the other. */
export async function writeAudit(
  tx: Pick<Transaction, "query">,
  stateSchema: string,
  entry: { action: string; loadId?: string; details: Record<string, unknown> },
): Promise<void> {
  await tx.query(`INSERT INTO ${quoteIdentifier(stateSchema)}.audit (action, load_id, details) VALUES ($1, $2, $3)`, [
    entry.action,
    entry.loadId ?? null,
    JSON.stringify(entry.details),
  ]);
}
