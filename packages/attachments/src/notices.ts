import { readdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import type { BundledPackage } from "./bundle.ts";

/** Licences whose terms are met by passing their text on. Another one is for a person to judge. */
const passedOn = new Set(["MIT", "ISC", "Apache-2.0", "BSD-2-Clause", "BSD-3-Clause", "0BSD"]);

/** The licences of everything in a bundle, as their terms want them passed on with it. */
export async function thirdPartyNotices(packages: readonly BundledPackage[]): Promise<string> {
  const notices = await Promise.all(packages.map(notice));
  return ["This package holds code of these packages, each under its own licence.", ...notices].join("\n\n");
}

async function notice({ name, version, folder }: BundledPackage): Promise<string> {
  const { license } = JSON.parse(await readFile(join(folder, "package.json"), "utf8"));
  if (!passedOn.has(license)) throw new Error(`${name} ${version} has the licence ${license}: may it be passed on?`);
  const names = (await readdir(folder)).filter((file) => /^(licen[cs]e|notice|copying)/i.test(file)).sort();
  const texts = await Promise.all(names.map((file) => readFile(join(folder, file), "utf8")));
  const head = `${name} ${version} (${license})`;
  return [`${"-".repeat(head.length)}\n${head}`, ...texts.map((text) => text.trim())].join("\n\n");
}
