import { appendFileSync } from "node:fs";
import { registerHooks } from "node:module";

// Preloaded into a server under test: writes the address of every module that it loads into a file.
registerHooks({
  load(url, context, nextLoad) {
    appendFileSync(process.env.RECORD_MODULES, `${url}\n`);
    return nextLoad(url, context);
  },
});
