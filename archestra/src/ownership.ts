import { BundleError } from "./bundle-error.ts";
import { MADE_BY } from "./deployment.ts";

interface Labelled {
  id: string;
  name: string;
  labels: readonly { key: string; value: string }[];
}

/**
 * The one row of this name, or undefined. Names are not unique on the platform, so the label tells ours; a stranger of
 * the same name, or two of ours, is for a person to decide.
 */
export function ownRow<Row extends Labelled>(rows: readonly Row[], name: string, what: string): Row | undefined {
  const named = rows.filter((row) => row.name === name);
  const own = named.filter(isOwn);
  if (own.length > 1) {
    throw new BundleError(
      "made_twice",
      `There are ${own.length} ${what}s named ${name}: ${own.map(({ id }) => id).join(", ")}.`,
      {
        next: "Two runs at a time made them. Delete all but one in the platform, then apply again.",
      },
    );
  }
  if (own.length === 0 && named.length > 0) {
    throw new BundleError("name_taken", `There is a ${what} named ${name} that this program did not make.`, {
      next: `Rename or delete it, or hand it over by the label ${MADE_BY.key}=${MADE_BY.value}.`,
    });
  }
  return own[0];
}

/** The labels a row is to have: ours, which every row of ours has, and those that people gave it, in the platform's order. */
export function withOwnLabel(row: Pick<Labelled, "labels"> | undefined): { key: string; value: string }[] {
  return (row?.labels ?? [MADE_BY]).map(({ key, value }) => ({ key, value }));
}

function isOwn({ labels }: Labelled): boolean {
  return labels.some(({ key, value }) => key === MADE_BY.key && value === MADE_BY.value);
}
