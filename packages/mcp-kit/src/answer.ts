/** What an answer aims at, in bytes of compact JSON: about 2,000 tokens. */
export const ANSWER_BYTES_TARGET = 6144;

/** What no answer may exceed, in bytes of compact JSON. */
export const ANSWER_BYTES_MAX = 24_576;

/** As many whole items, from the first on, as fit in `bytesMax` bytes of compact JSON; always at least the first. */
export function fitItems<T>(
  items: readonly T[],
  options: { bytesMax?: number } = {},
): { items: T[]; cutBy: "bytes" | null } {
  const bytesMax = options.bytesMax ?? ANSWER_BYTES_TARGET;
  const fitting: T[] = [];
  // The two brackets; every item after the first brings a comma, and counting one for the first too is on the safe side.
  let bytes = 2;
  for (const item of items) {
    bytes += Buffer.byteLength(JSON.stringify(item) ?? "null") + 1;
    if (bytes > bytesMax && fitting.length > 0) return { items: fitting, cutBy: "bytes" };
    fitting.push(item);
  }
  return { items: fitting, cutBy: null };
}

/**
 * Foreign text made safe to show: one line, control, bidi and other invisible characters escaped, and no more than
 * `charactersMax` of its characters, followed by "… (12345 characters)" where something was cut.
 */
export function clip(text: string, charactersMax: number): string {
  let shown = "";
  let characters = 0;
  for (const character of text) {
    if (characters < charactersMax) shown += visible(character);
    characters++;
  }
  return characters > charactersMax ? `${shown}… (${characters} characters)` : shown;
}

/** Characters that end a line, move the cursor, change the direction of text or cannot be seen; and halves of surrogate pairs. */
const INVISIBLE = /^[\p{Cc}\p{Cf}\p{Cs}\p{Zl}\p{Zp}]$/u;

function visible(character: string): string {
  if (character >= " " && character <= "~") return character;
  if (character === "\n") return "\\n";
  if (character === "\r") return "\\r";
  if (character === "\t") return "\\t";
  if (!INVISIBLE.test(character)) return character;
  const code = (character.codePointAt(0) ?? 0).toString(16);
  return code.length > 4 ? `\\u{${code}}` : `\\u${code.padStart(4, "0")}`;
}

/**
 * Compact JSON whose text holds no invisible characters: those that end a line for some readers, turn its direction or
 * smuggle text past a person are written as escapes, which every parser reads back as the same values.
 */
export function visibleJson(value: unknown): string {
  return escapeDisguises(JSON.stringify(value));
}

/** The same JSON with those characters as escapes. */
export function escapeDisguises(json: string): string {
  return json.replace(DISGUISES, escapeUnits);
}

/** As `INVISIBLE`, but for the two joiners, which scripts and emoji need. */
const DISGUISES = /(?![\u200c\u200d])[\p{Cc}\p{Cf}\p{Zl}\p{Zp}]/gu;

/** A character beyond the first 65,536 takes two escapes. */
function escapeUnits(character: string): string {
  let escapes = "";
  for (let at = 0; at < character.length; at++) {
    escapes += `\\u${character.charCodeAt(at).toString(16).padStart(4, "0")}`;
  }
  return escapes;
}
