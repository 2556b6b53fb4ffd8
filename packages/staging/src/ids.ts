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
