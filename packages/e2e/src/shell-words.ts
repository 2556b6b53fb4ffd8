/** One command of a shell script: what it sets for itself, and its words. */
export interface ShellCommand {
  /** Variables before the program's name. */
  env: Record<string, string>;
  /** The program and its arguments, without quotation marks; variables and substitutions stand as they are written. */
  words: string[];
  /** Scripts inside of `$(…)`. */
  substitutions: string[];
}

/**
 * Splits a script as it stands in documentation into commands: by lines, `&&`, `||`, `;` and `|`. Comments, quotation
 * marks and lines that go on are understood, redirections are left out. It is no shell: `for`, functions and here
 * documents are not known, and throw.
 */
export function shellCommands(script: string): ShellCommand[] {
  const commands: ShellCommand[] = [];
  let words: string[] = [];
  let word: string | undefined;
  let substitutions: string[] = [];
  const endWord = (): void => {
    if (word !== undefined) words.push(word);
    word = undefined;
  };
  const endCommand = (): void => {
    endWord();
    if (words.length > 0) commands.push(command(words, substitutions));
    words = [];
    substitutions = [];
  };
  for (let at = 0; at < script.length; at++) {
    const [character = "", next = ""] = [script[at], script[at + 1]];
    if (character === "\\" && next === "\n") at++;
    else if (character === "\n" || character === ";") endCommand();
    else if ((character === "&" || character === "|") && next === character) {
      endCommand();
      at++;
    } else if (character === "|") endCommand();
    else if (character === " ") endWord();
    else if (character === "#" && word === undefined) at = lineEnd(script, at) - 1;
    else if (character === ">" && word === undefined) {
      while (script[at + 1] === " ") at++;
      while (/\S/.test(script[at + 1] ?? "")) at++;
    } else if (character === "'") {
      const end = closing(script, "'", at);
      word = (word ?? "") + script.slice(at + 1, end);
      at = end;
    } else if (character === '"') {
      const end = closing(script, '"', at);
      const inside = script.slice(at + 1, end);
      for (const [, inner = ""] of inside.matchAll(/\$\(([^)]*)\)/g)) substitutions.push(inner);
      word = (word ?? "") + inside;
      at = end;
    } else if ("`&<({".includes(character) && word === undefined) {
      throw new Error(`${JSON.stringify(character)} is more of a shell than is known here: ${script}`);
    } else word = (word ?? "") + character;
  }
  endCommand();
  return commands;
}

function command(words: readonly string[], substitutions: string[]): ShellCommand {
  const env: Record<string, string> = {};
  const first = words.findIndex((word) => !/^[A-Z_][A-Z0-9_]*=/.test(word));
  const rest = first === -1 ? [] : words.slice(first);
  const before = first === -1 ? words : words.slice(0, first);
  for (const word of before) env[word.slice(0, word.indexOf("="))] = word.slice(word.indexOf("=") + 1);
  return { env, words: rest, substitutions };
}

function lineEnd(script: string, from: number): number {
  const at = script.indexOf("\n", from);
  return at === -1 ? script.length : at;
}

function closing(script: string, mark: string, from: number): number {
  const at = script.indexOf(mark, from + 1);
  if (at === -1) throw new Error(`a ${mark} is not closed: ${script}`);
  return at;
}
