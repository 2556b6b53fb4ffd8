/**
 * A process of its own on a staging root, for tests of what two processes do to each other. It is run by Node as it
 * stands: `node process.ts <url> <leaseMs> <command> [export id]`, and answers with one JSON line per step.
 */
import { Buffer } from "node:buffer";
import { StagingError } from "../src/staging-error.ts";
import { openStore } from "../src/store.ts";
import { addPart, draft, line } from "./support.ts";

const [url = "", leaseMs = "", command = "", exportId = ""] = process.argv.slice(2);

function say(step: Record<string, unknown>): void {
  process.stdout.write(`${JSON.stringify(step)}\n`);
}

const store = await openStore({ url, leaseMs: Number(leaseMs) });
// Something must keep the process alive: leases do not.
const alive = setInterval(() => {}, 1000);
try {
  if (command === "hold") {
    // Two committed parts, one closed and not committed, one open: where a kill leaves the most behind.
    const writer = await store.create(draft(10));
    await addPart(writer, 1, 3);
    await addPart(writer, 4, 5);
    const closed = await writer.openPart();
    await closed.write(Buffer.from(line(6)), 1);
    await closed.close();
    const open = await writer.openPart();
    await open.write(Buffer.from(line(7)), 1);
    say({ held: writer.manifest.export_id });
    await new Promise((resolve) => writer.signal.addEventListener("abort", resolve));
    say({ lost: writer.signal.reason instanceof StagingError ? writer.signal.reason.code : "unknown" });
  } else if (command === "churn") {
    // Commits as fast as it can until it loses the lease.
    const writer = await store.create(draft(1_000_000));
    say({ held: writer.manifest.export_id });
    for (let document = 1; ; document += 1) await addPart(writer, document, document);
  } else if (command === "take") {
    const writer = await store.takeOver(exportId);
    say({ taken: writer.manifest.lease?.epoch });
    await new Promise((resolve) => setTimeout(resolve, 200));
    await writer.release();
    say({ released: true });
  } else if (command === "fill") {
    const writer = await store.create(draft(1));
    const part = await writer.openPart();
    await part.write(Buffer.alloc(1024 * 1024, "\n"), 1024 * 1024).catch(async (error: unknown) => {
      say({ write: error instanceof StagingError ? error.code : String(error) });
      await writer.finish("failed", { code: "staging_full", message: "full", retryable: true });
    });
    say({ status: writer.manifest.status, export_id: writer.manifest.export_id });
  }
} catch (error) {
  say({ error: error instanceof StagingError ? error.code : String(error) });
} finally {
  clearInterval(alive);
}
