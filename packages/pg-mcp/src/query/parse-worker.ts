import { parentPort } from "node:worker_threads";
import { hasSqlDetails, loadModule, parseSync } from "libpg-query";

/** A text as the parser reads it. `broken` says that the parser must not be used again. */
function answerTo(sql: string): unknown {
  try {
    return { tree: parseSync(sql) };
  } catch (error) {
    if (hasSqlDetails(error)) return { error: error.message, position: error.sqlDetails?.cursorPosition };
    // What overflows the parser's stack leaves its memory as it was in the middle.
    return { broken: true };
  }
}

await loadModule();
parentPort?.on("message", (sql: unknown) => {
  // oxlint-disable-next-line unicorn/require-post-message-target-origin -- a thread's port, and no window
  parentPort?.postMessage(answerTo(String(sql)));
});
