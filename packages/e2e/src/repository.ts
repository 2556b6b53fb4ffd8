import { readdirSync, readFileSync } from "node:fs";
import { repositoryRoot } from "./markdown.ts";

/** Folders that hold what others wrote, or what was made of the sources. */
const LEFT_OUT = new Set(["node_modules", "dist", "out", ".git", "fixtures"]);

/** Every file of the repository by its path from the root, without what is installed or built. */
export function repositoryFiles(folder = ""): string[] {
  return readdirSync(`${repositoryRoot}${folder}`, { withFileTypes: true }).flatMap((entry) => {
    const path = `${folder}${entry.name}`;
    if (entry.isDirectory()) return LEFT_OUT.has(entry.name) ? [] : repositoryFiles(`${path}/`);
    return entry.isFile() ? [path] : [];
  });
}

/** Texts that programs read, and no tests: what a name in them means is for the tests to find out. */
function isCode(path: string): boolean {
  return (
    /(?:\.(?:ts|sql|sh|ya?ml|json|toml)|Dockerfile|\.env\.example)$/.test(path) &&
    !/(?:\.test\.ts|pnpm-lock\.yaml|page-checks\.ts)$/.test(path)
  );
}

/** The words of all that is no text for people: sources, SQL, scripts, compose file, examples of settings. */
export function wordsOfCode(): Set<string> {
  const words = new Set<string>();
  for (const path of repositoryFiles().filter(isCode)) {
    for (const word of readFileSync(`${repositoryRoot}${path}`, "utf8").match(/\w+/g) ?? []) words.add(word);
  }
  return words;
}
