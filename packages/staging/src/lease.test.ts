import { Buffer } from "node:buffer";
import { type ChildProcess, spawn } from "node:child_process";
import { mkdir, readdir, readFile, rename, rm, utimes, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { addPart, codeOf, completedExport, draft, line, temporaryRoot, until } from "../test/support.ts";
import { newId } from "./ids.ts";

const checkpoint = {
  points: [{ index: 0, shard: null, pit_id: "p1t", slices: 1, documents: 2, filters: [], page_documents_max: 1000 }],
  point: 0,
  reading: [{ slice: 0, after: [1] }],
  next_slice: 1,
};

let place: Awaited<ReturnType<typeof temporaryRoot>>;
const children: ChildProcess[] = [];
beforeEach(async () => {
  place = await temporaryRoot();
});
afterEach(async () => {
  for (const child of children.splice(0)) child.kill("SIGKILL");
  await place.remove();
});

interface OtherProcess {
  child: ChildProcess;
  /** The next line that the process says. */
  next(): Promise<Record<string, unknown>>;
}

/** Starts `test/process.ts`; with `fileKilobytesMax`, under a limit on the size of its files. */
function start(leaseMs: number, command: string, exportId = "", fileKilobytesMax?: number): OtherProcess {
  const script = fileURLToPath(new URL("../test/process.ts", import.meta.url));
  const node = [process.execPath, script, place.url, String(leaseMs), command, exportId];
  const limited = ["bash", "-c", `ulimit -f ${fileKilobytesMax}; exec "$@"`, "bash", ...node];
  const [program = "", ...options] = fileKilobytesMax === undefined ? node : limited;
  const child = spawn(program, options, { stdio: ["ignore", "pipe", "inherit"] });
  children.push(child);
  const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
  return {
    child,
    async next() {
      const { value, done } = await lines.next();
      return done === true ? { ended: true } : JSON.parse(value);
    },
  };
}

async function ended(child: ChildProcess): Promise<void> {
  if (child.exitCode === null && child.signalCode === null) await new Promise((resolve) => child.once("exit", resolve));
}

async function heldBy(other: OtherProcess): Promise<string> {
  const { held } = await other.next();
  if (typeof held !== "string") throw new Error("the process holds nothing");
  return held;
}

describe("a writer's lease", () => {
  it("is renewed while nothing is committed", async () => {
    const store = await place.open({ leaseMs: 1500 });
    const writer = await store.create(draft());
    const first = writer.manifest.lease?.until;
    await until(async () => (await store.read(writer.manifest.export_id)).lease?.until !== first);
    expect(store.isStalled(await store.read(writer.manifest.export_id))).toBe(false);
    expect(writer.signal.aborted).toBe(false);
    await writer.release();
  });

  it("keeps others from taking over until it is given up", async () => {
    const [store, other] = [await place.open(), await place.open()];
    const writer = await store.create(draft());
    const { export_id: exportId } = writer.manifest;
    expect(other.isStalled(await other.read(exportId))).toBe(false);
    await expect(other.takeOver(exportId)).rejects.toMatchObject({ code: "lease_held", retryable: true });
    await writer.release();
    const manifest = await other.read(exportId);
    expect(manifest.status).toBe("working");
    expect(other.isStalled(manifest)).toBe(true);
    const next = await other.takeOver(exportId);
    expect(next.manifest.lease?.epoch).toBe(2);
    await next.release();
    const last = await store.takeOver(exportId);
    expect(last.manifest.lease?.epoch).toBe(3);
    await last.finish("cancelled");
    await expect(store.takeOver(exportId)).rejects.toMatchObject({ code: "lease_held", retryable: false });
  });

  it("fences a late writer off: nothing that it does reaches the export", async () => {
    // The first store never renews within the test: its process hangs, as it were.
    const [slow, other] = [await place.open({ leaseMs: 3_600_000 }), await place.open()];
    const late = await slow.create(draft(3));
    const { export_id: exportId } = late.manifest;
    await addPart(late, 1, 1);
    const open = await late.openPart();
    await open.write(Buffer.from(line(2)), 1);
    const closed = await late.openPart();
    await closed.write(Buffer.from(line(3)), 1);
    const unlisted = await closed.close();
    await expireLease(exportId);

    const writer = await other.takeOver(exportId);
    expect(writer.manifest.parts.map((part) => part.index)).toEqual([0]);
    const { parts, totals } = late.manifest;
    expect(
      await codeOf(
        late.commit({
          parts: [...parts, unlisted],
          totals: { ...totals, documents: 2, bytes: totals.bytes + unlisted.bytes },
        }),
      ),
    ).toBe("lease_lost");
    expect(late.signal.aborted).toBe(true);
    expect(late.signal.reason).toMatchObject({ code: "lease_lost" });
    expect(await codeOf(late.finish("completed"))).toBe("lease_lost");
    expect(await codeOf(late.openPart())).toBe("lease_lost");
    expect(await codeOf(open.write(Buffer.from(line(2)), 1))).toBe("lease_lost");
    expect(await codeOf(open.close())).toBe("lease_lost");
    await late.release();

    await addPart(writer, 2, 3);
    await writer.finish("completed");
    expect((await readdir(join(place.root, exportId))).sort()).toEqual([
      "manifest.json",
      "part-00000.ndjson",
      "part-00001.ndjson",
      "readers",
    ]);
    expect(await other.read(exportId)).toMatchObject({ status: "completed", totals: { documents: 3 } });
  });

  it.each(["commit", "openPart", "close", "finish"] as const)(
    "is found lost by %s even if nothing else was tried before",
    async (step) => {
      const store = await place.open({ leaseMs: 3_600_000 });
      const late = await store.create(draft());
      const open = await late.openPart();
      await expireLease(late.manifest.export_id);
      const writer = await (await place.open()).takeOver(late.manifest.export_id);
      const steps = {
        commit: () => late.commit({ warnings: ["late"] }),
        openPart: () => late.openPart(),
        close: () => open.close(),
        finish: () => late.finish("cancelled"),
      };
      expect(await codeOf(steps[step]())).toBe("lease_lost");
      expect((await store.read(late.manifest.export_id)).warnings).toEqual([]);
      await writer.finish("cancelled");
    },
  );

  it.each([3_600_000, -3_600_000])(
    "is judged by the file system's clock when a machine's own is %i ms off",
    async (off) => {
      const writer = await (await place.open()).create(draft());
      const exact = Date.now;
      const clock = vi.spyOn(Date, "now").mockImplementation(() => exact() + off);
      try {
        const elsewhere = await place.open();
        const { export_id: exportId } = writer.manifest;
        expect(elsewhere.isStalled(await elsewhere.read(exportId))).toBe(false);
        expect(await codeOf(elsewhere.takeOver(exportId))).toBe("lease_held");
        await expireLease(exportId, exact() - 1000);
        expect(elsewhere.isStalled(await elsewhere.read(exportId))).toBe(true);
        const successor = await elsewhere.takeOver(exportId);
        clock.mockRestore();
        expect((await place.open()).isStalled(successor.manifest)).toBe(false);
        await successor.finish("cancelled");
      } finally {
        clock.mockRestore();
      }
    },
  );

  it("aborts the signal at the next renewal, with no call of its holder", async () => {
    const store = await place.open({ leaseMs: 150 });
    const late = await store.create(draft());
    await rename(
      join(place.root, late.manifest.export_id, "writer-00001"),
      join(place.root, late.manifest.export_id, "away"),
    );
    await until(() => late.signal.aborted);
    expect(late.signal.reason).toMatchObject({ code: "lease_lost" });
  });

  it("is lost when the export is removed underneath", async () => {
    const store = await place.open({ leaseMs: 3_600_000 });
    const late = await store.create(draft());
    await expireLease(late.manifest.export_id);
    await (await place.open()).remove(late.manifest.export_id);
    expect(await codeOf(late.commit({ warnings: ["late"] }))).toBe("lease_lost");
    expect(await readdir(place.root)).toEqual([]);
  });

  it("does not go to a claimant that died before writing, until a lease has passed", async () => {
    const store = await place.open({ leaseMs: 60_000 });
    const writer = await store.create(draft());
    const { export_id: exportId } = writer.manifest;
    await writer.release();
    const claim = join(place.root, exportId, "writer-00002");
    await mkdir(claim);
    expect(await codeOf(store.takeOver(exportId))).toBe("lease_held");
    const longAgo = new Date(Date.now() - 61_000);
    await utimes(claim, longAgo, longAgo);
    const next = await store.takeOver(exportId);
    expect(next.manifest.lease?.epoch).toBe(3);
    expect((await readdir(join(place.root, exportId))).filter((name) => name.includes("0000"))).toEqual([
      "writer-00003",
    ]);
    await next.finish("cancelled");
  });

  it("goes to exactly one of many that want it at once", async () => {
    const stores = await Promise.all(Array.from({ length: 8 }, () => place.open()));
    for (let round = 0; round < 10; round += 1) {
      const writer = await (await place.open()).create(draft());
      await writer.release();
      const attempts = await Promise.allSettled(stores.map((store) => store.takeOver(writer.manifest.export_id)));
      const winners = attempts.filter((attempt) => attempt.status === "fulfilled");
      expect(winners.length).toBe(1);
      for (const { reason } of attempts.filter((attempt) => attempt.status === "rejected")) {
        expect(reason).toMatchObject({ code: "lease_held" });
      }
      for (const { value } of winners) {
        await value.commit({ warnings: ["mine"] });
        await value.finish("cancelled");
      }
    }
  });

  it("tells a damaged part from a whole one after a take-over", async () => {
    const store = await place.open();
    const writer = await store.create(draft());
    const { export_id: exportId } = writer.manifest;
    await addPart(writer, 1, 2);
    await addPart(writer, 3, 4);
    await writer.release();
    const path = join(place.root, exportId, "part-00001.ndjson");
    await writeFile(path, (await readFile(path, "utf8")).replace("products", "projects"));
    const next = await store.takeOver(exportId);
    const { signal } = new AbortController();
    const [whole, damaged] = next.manifest.parts;
    if (whole === undefined || damaged === undefined) throw new Error("two parts are listed");
    await next.verifyPart(whole, signal);
    expect(await codeOf(next.verifyPart(damaged, signal))).toBe("staging_corrupt");
    await expect(next.verifyPart(whole, AbortSignal.abort(new Error("stop")))).rejects.toThrow("stop");
    await next.finish("cancelled");
  });

  it("can be taken of an export that failed for the moment, with an epoch that nobody has had", async () => {
    const store = await place.open({ leaseMs: 3_600_000 });
    const zombie = await store.create(draft());
    const { export_id: exportId } = zombie.manifest;
    await expireLease(exportId);
    const second = await store.takeOver(exportId);
    await addPart(second, 1, 1);
    await second.commit({ checkpoint });
    await second.finish("failed", { code: "unreachable", message: "away", retryable: true });

    const third = await store.takeOver(exportId);
    expect(third.manifest).toMatchObject({
      status: "working",
      error: null,
      finished_at: null,
      checkpoint,
      lease: { epoch: 3 },
      totals: { documents: 1 },
    });
    expect(await codeOf(zombie.commit({ warnings: ["late"] }))).toBe("lease_lost");
    await addPart(third, 2, 2);
    await third.finish("completed");
  });

  it("cannot be taken of an export that failed without a checkpoint", async () => {
    const store = await place.open();
    const writer = await store.create({ ...draft(), checkpoint });
    await writer.finish("failed", { code: "x", message: "x", retryable: true }, { checkpoint: null });
    expect(await codeOf(store.takeOver(writer.manifest.export_id))).toBe("lease_held");
    expect(await readdir(join(place.root, writer.manifest.export_id))).not.toContain("writer-00002");
  });

  it("is not renewed once given up, even where that could not be written", async () => {
    const store = await place.open({ leaseMs: 90 });
    const writer = await store.create(draft());
    const manifest = join(place.root, writer.manifest.export_id, "manifest.json");
    const kept = await readFile(manifest);
    await rm(manifest);
    // A directory in its place: nothing can be renamed over it.
    await mkdir(join(manifest, "x"), { recursive: true });
    await expect(writer.release()).rejects.toThrow("EISDIR");
    await rm(manifest, { recursive: true });
    await writeFile(manifest, kept);
    await sleep(120);
    expect(store.isStalled(await store.read(writer.manifest.export_id))).toBe(true);
    await (await store.takeOver(writer.manifest.export_id)).finish("cancelled");
  });

  it("tells its holder that another process asks for the end", async () => {
    const store = await place.open();
    const writer = await store.create(draft());
    const { export_id: exportId } = writer.manifest;
    expect(await store.isCancelRequested(exportId)).toBe(false);
    const other = await place.open();
    await other.requestCancel(exportId);
    await other.requestCancel(exportId);
    expect(await store.isCancelRequested(exportId)).toBe(true);
    await new Promise((resolve) => writer.cancelRequest.addEventListener("abort", resolve));
    await writer.finish("cancelled");
    expect(await readdir(join(place.root, exportId))).not.toContain("cancel-requested");
    expect(await codeOf(other.requestCancel("exp_00000000000000000000000000"))).toBe("unknown_export");
  });
});

describe("a reader's lease", () => {
  it("is renewed, and removed at the end", async () => {
    const store = await place.open({ leaseMs: 90 });
    const exportId = await completedExport(store);
    const loadId = newId("load");
    const reader = await store.openReader(exportId, loadId);
    const path = join(place.root, exportId, "readers", `${loadId}.json`);
    const first = await readFile(path, "utf8");
    expect(JSON.parse(first)).toMatchObject({ load_id: loadId });
    await until(async () => (await readFile(path, "utf8")) !== first);
    await reader.close();
    expect(await readdir(join(place.root, exportId, "readers"))).toEqual([]);
  });

  it("survives the end of an earlier reader of the same load", async () => {
    const store = await place.open();
    const exportId = await completedExport(store);
    const loadId = newId("load");
    const first = await store.openReader(exportId, loadId);
    const second = await store.openReader(exportId, loadId);
    await first.close();
    expect(await codeOf(store.remove(exportId))).toBe("export_in_use");
    await second.close();
    await store.remove(exportId);
  });

  it("lets a load follow a working export", async () => {
    const store = await place.open();
    const writer = await store.create(draft(2));
    const reader = await store.openReader(writer.manifest.export_id, newId("load"));
    expect(reader.manifest.parts).toEqual([]);
    await addPart(writer, 1, 2);
    await writer.finish("completed");
    expect(await reader.refresh()).toMatchObject({ status: "completed", totals: { documents: 2 } });
    expect(reader.manifest.status).toBe("completed");
    await reader.close();
  });
});

describe("two processes", () => {
  it("leave a state that can be taken over when the writer is killed", async () => {
    const writer = start(2000, "hold");
    const exportId = await heldBy(writer);
    const store = await place.open({ leaseMs: 2000 });
    expect(await codeOf(store.takeOver(exportId))).toBe("lease_held");
    writer.child.kill("SIGKILL");
    await ended(writer.child);
    await until(async () => store.isStalled(await store.read(exportId)));

    const next = await store.takeOver(exportId);
    expect(next.manifest).toMatchObject({ lease: { epoch: 2 }, totals: { documents: 5 } });
    expect((await readdir(join(place.root, exportId))).sort()).toEqual([
      "manifest.json",
      "part-00000.ndjson",
      "part-00001.ndjson",
      "readers",
      "writer-00002",
    ]);
    await addPart(next, 6, 10);
    await next.finish("completed");
    const reader = await store.openReader(exportId, newId("load"));
    const lines: string[] = [];
    for (const part of reader.manifest.parts) {
      for await (const batch of reader.lines(part)) lines.push(...batch.map((bytes) => `${bytes.toString()}\n`));
    }
    expect(lines).toEqual(Array.from({ length: 10 }, (_, index) => line(index + 1)));
    await reader.close();
  }, 30_000);

  it("stop a writer that was asleep longer than its lease, and lose nothing of its successor", async () => {
    const writer = start(300, "churn");
    const exportId = await heldBy(writer);
    const store = await place.open({ leaseMs: 300 });
    await until(async () => (await store.read(exportId)).parts.length > 3);
    writer.child.kill("SIGSTOP");
    await until(async () => store.isStalled(await store.read(exportId)));
    const next = await store.takeOver(exportId);
    writer.child.kill("SIGCONT");
    expect(await writer.next()).toEqual({ error: "lease_lost" });
    await next.commit({ warnings: ["successor"] });
    expect(await store.read(exportId)).toMatchObject({ lease: { epoch: 2 }, warnings: ["successor"] });
    await next.finish("cancelled");
  }, 30_000);

  it("do not both win a take-over", async () => {
    const store = await place.open();
    const writer = await store.create(draft());
    await writer.release();
    const others = Array.from({ length: 4 }, () => start(30_000, "take", writer.manifest.export_id));
    const answers = await Promise.all(others.map((other) => other.next()));
    const epochs = answers.map((answer) => answer.taken).filter((epoch) => epoch !== undefined);
    const refused = answers.filter((answer) => answer.error === "lease_held");
    expect(epochs.length + refused.length).toBe(4);
    expect(epochs.length).toBeGreaterThan(0);
    // Who comes after a release may win too, but never with an epoch that was used.
    expect(new Set(epochs).size).toBe(epochs.length);
  }, 30_000);

  it("say staging_full when a file can grow no more, and record the failure", async () => {
    const other = start(30_000, "fill", "", 64);
    expect(await other.next()).toEqual({ write: "staging_full" });
    expect(await other.next()).toMatchObject({ status: "failed" });
    const { exports } = await (await place.open()).list();
    expect(exports).toMatchObject([{ status: "failed", error: { code: "staging_full" }, parts: [] }]);
  }, 30_000);
});

/** Makes a lease look as if it had run out, while its holder believes in it. */
async function expireLease(exportId: string, at = Date.now() - 1000): Promise<void> {
  const path = join(place.root, exportId, "manifest.json");
  const then = new Date(at).toISOString();
  await writeFile(path, (await readFile(path, "utf8")).replace(/"until":"[^"]+"/, `"until":"${then}"`));
}
