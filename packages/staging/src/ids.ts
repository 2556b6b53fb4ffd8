import { randomBytes } from "node:crypto";

/** Crockford's base 32 in lower case: no i, l, o, u, so that a handle can be read aloud. */
const ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz";
const CHARACTERS = 26;

/**
 * A new handle such as `exp_` and 26 random characters: 130 bits, so that knowing one handle tells nothing about
 * another.
 */
export function newId(prefix: "exp" | "load" | "map"): string {
  let id = `${prefix}_`;
  for (const byte of randomBytes(CHARACTERS)) id += ALPHABET.charAt(byte & 31);
  return id;
}

const KINDS = { exp: "an export", load: "a load", map: "a mapping" } as const;

const MAKERS = { exp: "bulk_export", load: "bulk_insert", map: "propose_mapping" } as const;

/** Why a text is no handle of a kind, for whoever may hold another kind's. */
export function idProblem(kind: keyof typeof KINDS, given: unknown): string {
  const wanted = `${KINDS[kind]} id is ${kind}_ and 26 characters, from ${MAKERS[kind]}`;
  const other = (["exp", "load", "map"] as const).find((one) => String(given).startsWith(`${one}_`));
  return other === undefined || other === kind ? wanted : `${wanted}; this is the id of ${KINDS[other]}`;
}
