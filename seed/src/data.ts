import { readFile } from "node:fs/promises";

/** The text of a file in `data`. */
export async function readData(name: string): Promise<string> {
  return await readFile(new URL(`../data/${name}`, import.meta.url), "utf8");
}
