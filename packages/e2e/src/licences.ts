import { existsSync, readFileSync, realpathSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { z } from "zod";

// Lists the licences of all that the servers bring along, and fails on one that nobody has looked at.

/** Licences that ask for no more than their text to be kept. */
const allowed = new Set(["0BSD", "Apache-2.0", "BSD-2-Clause", "BSD-3-Clause", "ISC", "MIT", "Unlicense"]);

const root = fileURLToPath(new URL("../../..", import.meta.url));
const manifestSchema = z.looseObject({
  name: z.string(),
  version: z.string(),
  license: z.string().optional(),
  private: z.boolean().optional(),
  dependencies: z.record(z.string(), z.string()).optional(),
  optionalDependencies: z.record(z.string(), z.string()).optional(),
});

function readManifest(directory: string): z.output<typeof manifestSchema> {
  return manifestSchema.parse(JSON.parse(readFileSync(join(directory, "package.json"), "utf8")));
}

/** Where a package that another one depends on lies: as Node looks for it. */
function find(name: string, from: string): string {
  for (let directory = from; directory !== dirname(directory); directory = dirname(directory)) {
    const candidate = join(directory, "node_modules", name);
    if (existsSync(candidate)) return realpathSync(candidate);
  }
  throw new Error(`${name} is not installed: run npm run setup`);
}

/** Every package that the servers need at run time, by name and version. */
function dependencies(start: readonly string[]): Map<string, string> {
  const found = new Map<string, string>();
  const waiting = [...start];
  const seen = new Set<string>();
  for (let directory = waiting.pop(); directory !== undefined; directory = waiting.pop()) {
    if (seen.has(directory)) continue;
    seen.add(directory);
    const manifest = readManifest(directory);
    if (manifest.private !== true) found.set(`${manifest.name}@${manifest.version}`, manifest.license ?? "none stated");
    for (const name of Object.keys(manifest.dependencies ?? {})) {
      waiting.push(find(name, directory));
    }
  }
  return found;
}

const packages = dependencies(["es-mcp", "pg-mcp"].map((name) => join(root, "packages", name)));
const byLicence = Map.groupBy(packages, ([, licence]) => licence);
for (const [licence, entries] of [...byLicence].sort(([a], [b]) => (a < b ? -1 : 1))) {
  process.stdout.write(
    `${licence}: ${entries
      .map(([name]) => name)
      .toSorted()
      .join(", ")}\n`,
  );
}
const unknown = [...byLicence.keys()].filter((licence) => !allowed.has(licence));
if (unknown.length > 0) {
  process.stderr.write(`These licences are not in the list of packages/e2e/src/licences.ts: ${unknown.join(", ")}\n`);
  process.exitCode = 1;
}
