import { z } from "zod";

/** Fields that several tools take, so that a model learns each once. */

export const tableName = z
  .string({
    error: ({ input }) => (input === undefined ? "is required (text); list_tables shows the names" : undefined),
  })
  .min(1);

/** Reads `{"id":"text"}` as a list of what has a type, each named by this member; undefined for anything else. */
export function typesByName(member: "name" | "path"): (given: unknown) => unknown {
  return (given) => {
    if (typeof given !== "object" || given === null || Array.isArray(given)) return undefined;
    const pairs = Object.entries(given);
    return pairs.every(([, type]) => typeof type === "string")
      ? pairs.map(([name, type]) => ({ [member]: name, type }))
      : undefined;
  };
}
