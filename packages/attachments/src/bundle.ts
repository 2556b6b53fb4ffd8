import { copyFile, readFile } from "node:fs/promises";
import { basename, dirname, join, sep } from "node:path";
import { build, type Plugin } from "esbuild";
import { repositoryRoot } from "./repository.ts";

/** One package whose code is in a bundle. */
export interface BundledPackage {
  name: string;
  version: string;
  folder: string;
}

/**
 * What must lie beside the parts of a bundle under its own name: the code of threads, which is loaded by its address, and
 * files that packages read where their code is.
 */
const beside: Record<string, { threads: readonly string[]; files: readonly string[] }> = {
  "pg-mcp": { threads: ["dist/query/parse-worker.js"], files: ["node_modules/libpg-query/wasm/libpg-query.wasm"] },
};

/**
 * Bundles a built server with all that it imports into `outFolder`: `main.js` and the parts that it loads when it needs
 * them. In one file alone, a server that only waits takes 12 MB more: all of it is read before V8 is told its limits.
 */
export async function bundleServer(program: string, outFolder: string): Promise<BundledPackage[]> {
  const root = join(repositoryRoot, "packages", program);
  const { threads = [], files: copied = [] } = beside[program] ?? {};
  const { metafile } = await build({
    entryPoints: Object.fromEntries(
      ["dist/main.js", ...threads].map((path) => [basename(path, ".js"), join(root, path)]),
    ),
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
    // CommonJS packages ask for Node's own modules by `require`, and for their folder, which an ES module does not have.
    banner: {
      js: 'import { createRequire as requireOf } from "node:module"; const require = requireOf(import.meta.url), __dirname = import.meta.dirname;',
    },
    metafile: true,
    plugins: [filesAsText(threads), namesOfCommonJs],
    logLevel: "warning",
  });
  for (const path of copied) await copyFile(join(root, path), join(outFolder, basename(path)));
  const files = Object.keys(metafile.inputs).filter((path) => !path.startsWith(`${namesOfCommonJs.name}:`));
  return await bundledPackages(files);
}

const readBesideItself = /readFileSync\(new URL\("([^"]+)", import\.meta\.url\), "utf8"\)/g;

/** A thread whose file is named without its extension, which is `.ts` where nothing was compiled. */
const startsThread = /new Worker\(new URL\(`\.\/([\w-]+)\$\{[^}]*\}`, import\.meta\.url\)/g;

/** Puts the files that our own modules read beside themselves into the bundle, as text; `threads` are parts of their own. */
const filesAsText = (threads: readonly string[]): Plugin => ({
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
      const rest = contents.replaceAll(startsThread, (call, name) =>
        threads.some((thread) => basename(thread, ".js") === name) ? "" : call,
      );
      if (!rest.includes("import.meta.url")) return { contents, loader: "js" };
      return { errors: [{ text: `${path} looks beside itself in a way that a bundle does not know` }] };
    });
  },
});

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
