import { readFile } from "node:fs/promises";
import { dirname, join, sep } from "node:path";
import { build, type Plugin } from "esbuild";
import { repositoryRoot } from "./repository.ts";

/** One package whose code is in a bundle. */
export interface BundledPackage {
  name: string;
  version: string;
  folder: string;
}

/**
 * Bundles a built server with all that it imports into `outFolder`: `main.js` and the parts that it loads when it needs
 * them. In one file alone, a server that only waits takes 12 MB more: all of it is read before V8 is told its limits.
 */
export async function bundleServer(program: string, outFolder: string): Promise<BundledPackage[]> {
  const { metafile } = await build({
    entryPoints: [join(repositoryRoot, "packages", program, "dist/main.js")],
    outdir: outFolder,
    absWorkingDir: repositoryRoot,
    bundle: true,
    splitting: true,
    platform: "node",
    format: "esm",
    target: "node22",
    // Names stay as they are, so that a stack trace tells where something happened.
    minifyWhitespace: true,
    minifySyntax: true,
    legalComments: "none",
    // `pg` takes it where somebody installed it, and no one does here.
    external: ["pg-native"],
    // CommonJS packages ask for Node's own modules by `require`, which an ES module does not have.
    banner: {
      js: 'import { createRequire as requireOf } from "node:module"; const require = requireOf(import.meta.url);',
    },
    metafile: true,
    plugins: [filesAsText, namesOfCommonJs],
    logLevel: "warning",
  });
  const files = Object.keys(metafile.inputs).filter((path) => !path.startsWith(`${namesOfCommonJs.name}:`));
  return await bundledPackages(files);
}

const readBesideItself = /readFileSync\(new URL\("([^"]+)", import\.meta\.url\), "utf8"\)/g;

/** Puts the files that our own modules read beside themselves into the bundle, as text. */
const filesAsText: Plugin = {
  name: "files-as-text",
  setup(bundler) {
    bundler.onLoad({ filter: /\.js$/ }, async ({ path }) => {
      if (!isOurs(path)) return undefined;
      const source = await readFile(path, "utf8");
      const texts = new Map<string, string>();
      for (const [call, relative = ""] of source.matchAll(readBesideItself)) {
        texts.set(call, JSON.stringify(await readFile(join(dirname(path), relative), "utf8")));
      }
      const contents = source.replaceAll(readBesideItself, (call) => texts.get(call) ?? call);
      if (!contents.includes("import.meta.url")) return { contents, loader: "js" };
      return { errors: [{ text: `${path} looks beside itself in a way that a bundle does not know` }] };
    });
  },
};

/**
 * Gives a CommonJS package that our modules import when they need it the names it has in Node. esbuild alone would give
 * it only its default export, and `const { Client } = await import("…")` would find nothing.
 */
const namesOfCommonJs: Plugin = {
  name: "names-of-commonjs",
  setup(bundler) {
    bundler.onResolve({ filter: /^[^./]/ }, async ({ path, kind, importer, resolveDir, pluginData }) => {
      if (kind !== "dynamic-import" || !isOurs(importer) || pluginData === namesOfCommonJs) return undefined;
      const found = await bundler.resolve(path, { kind, importer, resolveDir, pluginData: namesOfCommonJs });
      if (found.external || isOurs(found.path) || (await isEsModule(found.path))) return undefined;
      return { path: found.path, namespace: namesOfCommonJs.name };
    });
    bundler.onLoad({ filter: /^/, namespace: namesOfCommonJs.name }, async ({ path }) => {
      const names = Object.keys(await import(path)).filter((name) => !["default", "module.exports"].includes(name));
      const exported = names.map((name) => `export const ${name} = module.${name};`);
      const contents = [`import module from ${JSON.stringify(path)};`, "export default module;", ...exported].join(
        "\n",
      );
      return { contents, resolveDir: dirname(path) };
    });
  },
};

async function isEsModule(path: string): Promise<boolean> {
  if (!path.endsWith(".js")) return path.endsWith(".mjs");
  const root = packageFolder(path);
  return root !== undefined && JSON.parse(await readFile(join(root, "package.json"), "utf8")).type === "module";
}

function isOurs(path: string): boolean {
  return path.startsWith(join(repositoryRoot, "packages") + sep) && !path.includes(`${sep}node_modules${sep}`);
}

/** The folder of the package that a file belongs to. The last `node_modules` of a path holds it; pnpm's paths have two. */
function packageFolder(path: string): string | undefined {
  return /^.*\/node_modules\/(?:@[^/]+\/)?[^/]+(?=\/)/.exec(path)?.[0];
}

async function bundledPackages(inputs: string[]): Promise<BundledPackage[]> {
  const folders = new Set(inputs.flatMap((path) => packageFolder(path) ?? []));
  const packages = await Promise.all(
    [...folders].map(async (folder) => {
      const path = join(repositoryRoot, folder);
      const { name, version } = JSON.parse(await readFile(join(path, "package.json"), "utf8"));
      return { name: String(name), version: String(version), folder: path };
    }),
  );
  return packages.sort((one, other) => one.name.localeCompare(other.name) || one.version.localeCompare(other.version));
}
