/** Makes dist/page.html of the compiled view, its style and its frame: one document that loads nothing. Run after `tsc -b`. */
import { readFile, writeFile } from "node:fs/promises";
import { fileURLToPath } from "node:url";
import { build } from "esbuild";

const here = (path) => fileURLToPath(new URL(path, import.meta.url));

async function bundled(entry) {
  const { outputFiles } = await build({
    entryPoints: [here(entry)],
    bundle: true,
    write: false,
    minify: true,
    format: "iife",
    // Chromium, Firefox and Safari have had `light-dark()` since then.
    target: ["chrome123", "firefox120", "safari17.5"],
    charset: "utf8",
    legalComments: "none",
    logLevel: "warning",
  });
  return outputFiles[0].text.trim();
}

const parts = { style: await bundled("src/page.css"), script: await bundled("dist/view/main.js") };
const frame = await readFile(here("src/page.html"), "utf8");
const page = frame.replace(/<(style|script)><\/\1>/g, (_, element) => {
  const text = parts[element];
  if (/<\/?(script|style|!--)/i.test(text)) throw new Error(`the ${element} holds what would end it early`);
  return `<${element}>${text}</${element}>`;
});
await writeFile(here("dist/page.html"), page);
