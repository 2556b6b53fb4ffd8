import { Buffer } from "node:buffer";
import { execFileSync } from "node:child_process";
import fs, {
  chmod,
  link as hardLink,
  lstat,
  mkdir,
  readdir,
  readFile,
  rename,
  rm,
  symlink,
  truncate,
  utimes,
  writeFile,
} from "node:fs/promises";
import { syncBuiltinESMExports } from "node:module";
import { createServer, type Server } from "node:net";
import os from "node:os";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { addPart, codeOf, completedExport, draft, line, temporaryRoot, until } from "../test/support.ts";
import { newId } from "./ids.ts";
import { readChunks } from "./part.ts";
import type { StagingStore } from "./store.ts";
import type { ExportWriter } from "./writer.ts";

const realOpen = fs.open;

let place: Awaited<ReturnType<typeof temporaryRoot>>;
beforeEach(async () => {
  place = await temporaryRoot();
});
afterEach(async () => {
  await place.remove();
});

/** Every permission below the root as octal text. */
async function permissions(): Promise<Record<string, string>> {
  const found: Record<string, string> = {};
  for (const name of ["", ...(await readdir(place.root, { recursive: true }))]) {
    found[name.replace(/exp_\w+/, "exp")] = ((await lstat(join(place.root, name))).mode & 0o7777).toString(8);
  }
  return found;
}

describe("writing and reading", () => {
  it("gives back the lines that were written, part by part", async () => {
    const store = await place.open();
    const exportId = await completedExport(store);
    const reader = await store.openReader(exportId, newId("load"));
    const lines: string[] = [];
    for (const part of reader.manifest.parts) {
      for await (const batch of reader.lines(part)) lines.push(...batch.map((bytes) => `${bytes.toString()}\n`));
    }
    await reader.close();
    expect(lines).toEqual([1, 2, 3, 4, 5].map(line));
  });

  it("keeps a finished export for the processes that come later", async () => {
    const exportId = await completedExport(await place.open());
    const { exports, corrupt } = await (await place.open()).list();
    expect(corrupt).toEqual([]);
    expect(exports).toMatchObject([
      { export_id: exportId, status: "completed", lease: null, totals: { documents: 5, bytes: 415 } },
    ]);
    expect((await readdir(join(place.root, exportId))).sort()).toEqual([
      "manifest.json",
      "part-00000.ndjson",
      "part-00001.ndjson",
      "readers",
    ]);
  });

  it("shows a part under its name only when it is closed, and in the manifest only when it is committed", async () => {
    const store = await place.open();
    const writer = await store.create(draft(1));
    const directory = join(place.root, writer.manifest.export_id);
    const part = await writer.openPart();
    await part.write(Buffer.from(line(1)), 1);
    expect(await readdir(directory)).not.toContain("part-00000.ndjson");
    await part.close();
    expect(await readdir(directory)).toContain("part-00000.ndjson");
    expect((await store.read(writer.manifest.export_id)).parts).toEqual([]);
    await writer.release();
  });

  it("states the crc32 of the whole part however it was cut into chunks", async () => {
    const writer = await (await place.open()).create(draft());
    const part = await writer.openPart();
    await part.write(Buffer.from('{"a":1}\n'), 1);
    await part.write(Buffer.from('{"a":2}\n'), 1);
    expect(await part.close()).toEqual({ index: 0, documents: 2, bytes: 16, crc32: "195ac066" });
    await writer.release();
  });

  it("refuses a chunk that ends inside a line", async () => {
    const writer = await (await place.open()).create(draft());
    const part = await writer.openPart();
    await expect(part.write(Buffer.from('{"a":1}'), 1)).rejects.toThrow("ends in LF");
    await writer.release();
  });

  it("uses the number of a discarded part again", async () => {
    const writer = await (await place.open()).create(draft(1));
    await (await writer.openPart()).discard();
    await addPart(writer, 1, 1);
    await writer.finish("completed");
    expect(writer.manifest.parts.map((part) => part.index)).toEqual([0]);
  });

  it("removes open and unlisted parts at the end", async () => {
    const writer = await (await place.open()).create(draft());
    await addPart(writer, 1, 1);
    await (await writer.openPart()).close();
    await (await writer.openPart()).write(Buffer.from(line(2)), 1);
    await writer.finish("failed", { code: "snapshot_lost", message: "gone", retryable: false });
    expect((await readdir(join(place.root, writer.manifest.export_id))).sort()).toEqual([
      "manifest.json",
      "part-00000.ndjson",
      "readers",
    ]);
  });

  it("refuses to commit what a reader would refuse, and keeps what was there", async () => {
    const store = await place.open();
    const writer = await store.create(draft(1));
    await addPart(writer, 1, 1);
    const { parts, totals } = writer.manifest;
    const [first] = parts;
    if (first === undefined) throw new Error("no part");
    const attempts: Parameters<ExportWriter["commit"]>[0][] = [
      { totals: { ...totals, documents: 7 } },
      { parts: [] },
      { parts: [{ ...first, crc32: "00000000" }] },
      { parts: [...parts, { index: 1, documents: 1, bytes: 10, crc32: "00000000" }] },
      { parts: [...parts, first] },
      // @ts-expect-error: a wrong type, as a caller's bug would bring it
      { warnings: [5] },
      { warnings: ["x".repeat(9 * 1024 * 1024)] },
    ];
    for (const change of attempts) expect(await codeOf(writer.commit(change))).toBe("manifest_invalid");
    expect(await store.read(writer.manifest.export_id)).toMatchObject({ parts, totals, warnings: [] });
    await writer.release();
  });

  it("completes an export only with all the documents that it said it would hold", async () => {
    const writer = await (await place.open()).create(draft(2));
    await addPart(writer, 1, 1);
    expect(await codeOf(writer.finish("completed"))).toBe("manifest_invalid");
    await writer.finish("failed");
  });

  it("does commits in the order they were asked for", async () => {
    const store = await place.open();
    const writer = await store.create(draft());
    await Promise.all([1, 2, 3, 4, 5].map((number) => writer.commit({ warnings: [String(number)] })));
    expect((await store.read(writer.manifest.export_id)).warnings).toEqual(["5"]);
    await writer.release();
  });

  it("lists exports from the newest to the oldest", async () => {
    const store = await place.open();
    const ids: string[] = [];
    for (let count = 0; count < 3; count += 1) {
      const before = Date.now();
      await until(() => Date.now() > before);
      ids.unshift(await completedExport(store));
    }
    expect((await store.list()).exports.map((manifest) => manifest.export_id)).toEqual(ids);
  });
});

/** Makes a special file by a program, because Node makes none. */
function made(program: string, path: string): void {
  execFileSync(program, [path]);
}

/** A socket in this place, made where its path is short enough for one. */
async function listen(path: string): Promise<void> {
  const server = createServer();
  servers.push(server);
  const beside = join(place.root, "..", "socket");
  await new Promise<void>((resolve) => server.listen(beside, resolve));
  await rename(beside, path);
}

const servers: Server[] = [];
afterEach(() => {
  for (const server of servers.splice(0)) server.close();
});

describe("damage", () => {
  it.each<[string, (path: string) => Promise<void>, string]>([
    [
      "cut",
      async (path) => writeFile(path, (await readFile(path)).subarray(0, -1)),
      "has 248 bytes, the manifest says 249",
    ],
    [
      "longer",
      async (path) => writeFile(path, `${await readFile(path, "utf8")}\n`),
      "has 250 bytes, the manifest says 249",
    ],
    [
      "altered",
      async (path) => writeFile(path, (await readFile(path, "utf8")).replace("products", "projects")),
      "crc32",
    ],
    ["missing", (path) => rm(path), "missing"],
    ["a directory", async (path) => (await rm(path), await mkdir(path)), "not a plain file"],
    [
      "a symbolic link",
      async (path) => (await rename(path, `${path}.away`), await symlink(`${path}.away`, path)),
      "symbolic link",
    ],
    [
      "a hard link",
      async (path) => (await rename(path, `${path}.away`), await hardLink(`${path}.away`, path)),
      "by a hard link",
    ],
    ["a pipe that nobody writes to", async (path) => (await rm(path), made("mkfifo", path)), "not a plain file"],
    ["a socket", async (path) => (await rm(path), await listen(path)), "not a plain file"],
    ["a link to a device", async (path) => (await rm(path), await symlink("/dev/zero", path)), "symbolic link"],
  ])("answers staging_corrupt when a part is %s", async (_what, damage, message) => {
    const store = await place.open();
    const exportId = await completedExport(store);
    await damage(join(place.root, exportId, "part-00000.ndjson"));
    const reader = await store.openReader(exportId, newId("load"));
    const [part] = reader.manifest.parts;
    if (part === undefined) throw new Error("no part");
    const reading = (async () => {
      for await (const batch of reader.lines(part)) void batch;
    })();
    await expect(reading).rejects.toMatchObject({ code: "staging_corrupt", message: expect.stringContaining(message) });
    await reader.close();
  });

  it.each<[string, (path: string) => Promise<void>]>([
    ["not JSON", (path) => writeFile(path, "{")],
    [
      "of another version",
      async (path) =>
        writeFile(path, (await readFile(path, "utf8")).replace('"manifest_version":1', '"manifest_version":2')),
    ],
    [
      "of another export",
      async (path) => writeFile(path, (await readFile(path, "utf8")).replace(/exp_.{26}/, newId("exp"))),
    ],
    ["too large", async (path) => writeFile(path, `${await readFile(path, "utf8")}${" ".repeat(8 * 1024 * 1024)}`)],
    [
      "contradicting itself",
      async (path) =>
        writeFile(path, (await readFile(path, "utf8")).replace('"totals":{"documents":5', '"totals":{"documents":6')),
    ],
    ["missing", (path) => rm(path)],
    ["a symbolic link", async (path) => (await rename(path, `${path}.away`), await symlink(`${path}.away`, path))],
    ["a hard link", async (path) => (await rename(path, `${path}.away`), await hardLink(`${path}.away`, path))],
    ["a directory", async (path) => (await rm(path), await mkdir(path))],
    ["a pipe that nobody writes to", async (path) => (await rm(path), made("mkfifo", path))],
    ["a socket", async (path) => (await rm(path), await listen(path))],
    ["full of holes", async (path) => truncate(path, 1e12)],
    [
      "nested deeper than a stack",
      async (path) =>
        writeFile(
          path,
          (await readFile(path, "utf8")).replace(
            '{"match_all":{}}',
            `${'{"a":['.repeat(100_000)}${"]}".repeat(100_000)}`,
          ),
        ),
    ],
  ])("lists an export as corrupt whose manifest is %s, and can remove it", async (_what, damage) => {
    const store = await place.open();
    const exportId = await completedExport(store);
    const whole = await completedExport(store);
    await damage(join(place.root, exportId, "manifest.json"));
    expect(await codeOf(store.read(exportId))).toBe("staging_corrupt");
    const { exports, corrupt } = await store.list();
    expect(exports.map((manifest) => manifest.export_id)).toEqual([whole]);
    expect(corrupt.map((entry) => entry.export_id)).toEqual([exportId]);
    await store.remove(exportId);
    expect(await readdir(place.root)).toEqual([whole]);
  });

  it("takes no memory for a line that never ends", async () => {
    const path = join(place.root, "part");
    await place.open();
    await writeFile(path, "");
    await truncate(path, 1e12);
    const part = { index: 0, documents: 1, bytes: 1e12, crc32: "00000000" };
    const reading = readChunks(path, part, { chunkBytesMax: 1_000, lineBytesMax: 100_000 }).next();
    await expect(reading).rejects.toMatchObject({
      code: "staging_corrupt",
      message: expect.stringContaining("a line of more than 100000 bytes"),
    });
  });

  it("says what is wrong also to a user whom no passwd entry names", async () => {
    const userInfo = vi.spyOn(os, "userInfo").mockImplementation(() => {
      throw new Error("uv_os_get_passwd returned ENOENT");
    });
    syncBuiltinESMExports();
    try {
      await writeFile(place.root, "no directory");
      await expect(place.open()).rejects.toMatchObject({
        code: "staging_unshared",
        details: { uid: process.getuid?.(), gid: process.getgid?.() },
      });
    } finally {
      userInfo.mockRestore();
      syncBuiltinESMExports();
    }
  });

  it("takes a root that is a link, and no link beneath it", async () => {
    await place.open();
    const linked = `${place.root}-link`;
    await symlink(place.root, linked);
    try {
      const exportId = await completedExport(await place.open({ url: pathToFileURL(linked).href }));
      expect((await (await place.open()).read(exportId)).status).toBe("completed");
    } finally {
      await rm(linked);
    }
  });

  it("does not follow a link in the place of an export", async () => {
    const store = await place.open();
    const exportId = await completedExport(store);
    const link = newId("exp");
    await symlink(join(place.root, exportId), join(place.root, link));
    expect(await codeOf(store.read(link))).toBe("staging_corrupt");
    expect(await codeOf(store.openReader(link, newId("load")))).toBe("staging_corrupt");
  });

  it("reads the whole of one file or says that it is damaged, while links and files change places", async () => {
    const store = await place.open();
    const exportId = await completedExport(store);
    const path = join(place.root, exportId, "part-00000.ndjson");
    const original = await readFile(path, "utf8");
    const secret = join(place.root, "..", "secret");
    await writeFile(secret, "s3cr3t ".repeat(100));
    const swapping = new AbortController();
    const swaps = (async () => {
      for (let turn = 0; !swapping.signal.aborted; turn++) {
        const beside = `${path}.${turn}`;
        if (turn % 3 === 0) await symlink(secret, beside);
        else if (turn % 3 === 1) await hardLink(secret, beside);
        else await writeFile(beside, original);
        await rename(beside, path);
      }
    })();
    const outcomes = new Set<unknown>();
    const reader = await store.openReader(exportId, newId("load"));
    for (let turn = 0; turn < 300; turn++) {
      const lines: string[] = [];
      const outcome = await codeOf(
        (async () => {
          for await (const batch of reader.lines(
            reader.manifest.parts[0] ?? { index: 0, documents: 0, bytes: 0, crc32: "" },
          ))
            lines.push(...batch.map(String));
        })(),
      );
      outcomes.add(outcome);
      expect(outcome !== "no error" || `${lines.join("\n")}\n` === original).toBe(true);
      expect(lines.join("")).not.toContain("s3cr3t");
    }
    swapping.abort();
    await swaps;
    await reader.close();
    expect([...outcomes].filter((outcome) => outcome !== "no error" && outcome !== "staging_corrupt")).toEqual([]);
  });

  it("does not follow a link in the place of the readers' directory", async () => {
    const store = await place.open();
    const exportId = await completedExport(store);
    const elsewhere = join(place.root, "..", "elsewhere");
    await mkdir(elsewhere);
    await rm(join(place.root, exportId, "readers"), { recursive: true });
    await symlink(elsewhere, join(place.root, exportId, "readers"));
    expect(await codeOf(store.openReader(exportId, newId("load")))).toBe("staging_corrupt");
    expect(await readdir(elsewhere)).toEqual([]);
  });
});

describe("handles", () => {
  it.each([
    "",
    "..",
    "exp_../../../../etc/passwd000000",
    "exp_0123456789abcdefghijklmnop",
    "EXP_00000000000000000000000000",
  ])("refuses %j as an export id", async (exportId) => {
    const store = await place.open();
    expect(await codeOf(store.read(exportId))).toBe("invalid_export_id");
    expect(await codeOf(store.remove(exportId))).toBe("invalid_export_id");
    expect(await codeOf(store.takeOver(exportId))).toBe("invalid_export_id");
    expect(await codeOf(store.openReader(exportId, newId("load")))).toBe("invalid_export_id");
  });

  it("refuses a load id that is none, since it becomes a file's name", async () => {
    const store = await place.open();
    const exportId = await completedExport(store);
    expect(await codeOf(store.openReader(exportId, "../../x"))).toBe("invalid_load_id");
  });

  it("says of an unknown export whether the root is empty", async () => {
    const store = await place.open();
    const unknown = newId("exp");
    await expect(store.read(unknown)).rejects.toMatchObject({
      code: "unknown_export",
      message: expect.stringContaining("holds none at all"),
      next: expect.stringContaining("STAGING_URL"),
    });
    await completedExport(store);
    await expect(store.read(unknown)).rejects.toMatchObject({
      code: "unknown_export",
      message: expect.stringContaining("among the 1"),
    });
  });
});

describe("permissions", () => {
  it.each([
    ["private" as const, "600", "700"],
    ["group" as const, "640", "2770"],
  ])("makes files and directories for %s use whatever the umask", async (mode, file, directory) => {
    const umask = process.umask(0o077);
    try {
      const store = await place.open({ mode });
      const writer = await store.create(draft(1));
      await addPart(writer, 1, 1);
      const open = await writer.openPart();
      const reader = await store.openReader(writer.manifest.export_id, "load_00000000000000000000000000");
      expect(await permissions()).toEqual({
        "": directory,
        exp: directory,
        "exp/manifest.json": file,
        "exp/part-00000.ndjson": file,
        "exp/readers": directory,
        "exp/readers/load_00000000000000000000000000.json": file,
        "exp/writer-00001": directory,
        "exp/writer-00001/part-00001.ndjson": file,
      });
      await open.discard();
      await reader.close();
      await writer.release();
    } finally {
      process.umask(umask);
    }
  });

  it("names path, uid and mode when another user's export cannot be read", async () => {
    const store = await place.open();
    const exportId = await completedExport(store);
    const { seteuid } = process;
    const root = process.geteuid?.() === 0;
    if (root && seteuid !== undefined) {
      // Permissions do not bind root: become somebody else for a moment.
      await chmod(join(place.root, ".."), 0o755);
      await chmod(place.root, 0o755);
      seteuid(65_534);
    } else {
      await chmod(join(place.root, exportId), 0);
    }
    try {
      await expect(store.read(exportId)).rejects.toMatchObject({
        code: "staging_unshared",
        details: { root: place.root },
      });
      expect((await store.list()).corrupt).toMatchObject([{ export_id: exportId }]);
    } finally {
      if (root && seteuid !== undefined) seteuid(0);
      else await chmod(join(place.root, exportId), 0o700);
    }
  });

  it("answers staging_unshared when the root cannot be made", async () => {
    await writeFile(join(place.root, "..", "file"), "");
    const url = `${place.url}/../file/staging`;
    await expect(place.open({ url })).rejects.toMatchObject({
      code: "staging_unshared",
      details: { mode: "private", uid: process.getuid?.() },
    });
  });

  it("answers staging_unshared when the root has gone or cannot be written in any more", async () => {
    const store = await place.open();
    await rm(place.root, { recursive: true });
    expect(await codeOf(store.list())).toBe("staging_unshared");
    expect(await codeOf(store.usage())).toBe("staging_unshared");
    expect(await codeOf(store.create(draft()))).toBe("staging_unshared");
    expect(await codeOf(store.read(newId("exp")))).toBe("unknown_export");
    // A server that is asked whether it is ready makes the root again.
    await store.probe();
    expect((await store.list()).exports).toEqual([]);
  });

  it("makes one probe for all who ask at the same time", async () => {
    const store = await place.open();
    const probe = store.probe();
    expect(store.probe()).toBe(probe);
    await probe;
    expect(store.probe()).not.toBe(probe);
    await store.probe();
  });

  it("refuses a root that is no mount point when one is required", async () => {
    await expect(place.open({ requireMount: true })).rejects.toMatchObject({
      code: "staging_unshared",
      message: expect.stringContaining("STAGING_REQUIRE_MOUNT"),
    });
  });
});

describe("quota", () => {
  it("counts closed parts, open parts and manifests", async () => {
    const store = await place.open({ bytesMax: 1_000_000 });
    const writer = await store.create(draft());
    const { bytes: empty } = await store.usage();
    await addPart(writer, 1, 1);
    const open = await writer.openPart();
    await open.write(Buffer.alloc(1000, "\n"), 1000);
    const { bytes, bytesMax } = await store.usage();
    expect(bytesMax).toBe(1_000_000);
    expect(bytes - empty).toBeGreaterThanOrEqual(1000 + line(1).length);
    await writer.release();
  });

  it("opens no part beyond the quota and closes none that went beyond it", async () => {
    const store = await place.open({ bytesMax: 10_000 });
    const writer = await store.create(draft());
    const part = await writer.openPart();
    await part.write(Buffer.alloc(20_000, "\n"), 20_000);
    expect(await codeOf(writer.openPart())).toBe("staging_full");
    expect(await codeOf(part.close())).toBe("staging_full");
    expect(await readdir(join(place.root, writer.manifest.export_id))).not.toContain("part-00000.ndjson");
    // The discarded part has made room again.
    await addPart(writer, 1, 1);
    await writer.finish("failed", { code: "staging_full", message: "full", retryable: true });
  });

  it("makes room by sweeping before it refuses", async () => {
    const roomy = await place.open();
    const large = await roomy.create(draft());
    const part = await large.openPart();
    await part.write(Buffer.alloc(50_000, "\n"), 50_000);
    const info = await part.close();
    await large.commit({
      parts: [info],
      totals: { documents: 50_000, bytes: 50_000, compacted: 0, invalid_utf8: 0 },
    });
    await large.finish("failed");
    await age(large.manifest.export_id, 2);
    const store = await place.open({ bytesMax: 20_000, ttlHours: 1 });
    const writer = await store.create(draft());
    await addPart(writer, 1, 1);
    expect((await store.list()).exports.map((manifest) => manifest.export_id)).toEqual([writer.manifest.export_id]);
    await writer.release();
  });
});

/** Makes an export look as if it had ended `hours` ago. */
async function age(exportId: string, hours: number): Promise<void> {
  const path = join(place.root, exportId, "manifest.json");
  const then = new Date(Date.now() - hours * 3_600_000);
  const text = await readFile(path, "utf8");
  await writeFile(
    path,
    text.replace(/"(updated_at|finished_at|until)":"[^"]+"/g, (_, name: string) => `"${name}":"${then.toISOString()}"`),
  );
  await utimes(join(place.root, exportId), then, then);
}

describe("sweeping and removing", () => {
  it("removes what is finished, stalled or damaged and older than the time to live", async () => {
    const store = await place.open({ ttlHours: 24 });
    const [oldOne, youngOne, damaged, stalled] = [
      await completedExport(store),
      await completedExport(store),
      await completedExport(store),
      await store.create(draft()),
    ];
    await stalled.release();
    await writeFile(join(place.root, damaged, "manifest.json"), "{");
    for (const id of [oldOne, damaged, stalled.manifest.export_id]) await age(id, 25);
    await age(youngOne, 23);
    const { removed, bytes } = await store.sweep();
    expect(removed.sort()).toEqual([oldOne, damaged, stalled.manifest.export_id].sort());
    expect(bytes).toBeGreaterThan(3 * 415);
    expect(await readdir(place.root)).toEqual([youngOne]);
  });

  it("keeps everything with a time to live of 0", async () => {
    const store = await place.open({ ttlHours: 0 });
    await age(await completedExport(store), 24 * 365 * 10);
    expect((await store.sweep()).removed).toEqual([]);
  });

  it("keeps an old export that is being read, and one that is being written", async () => {
    const store = await place.open({ ttlHours: 1 });
    const read = await completedExport(store);
    const writer = await store.create(draft());
    await age(read, 2);
    const reader = await store.openReader(read, newId("load"));
    const sweeper = await place.open({ ttlHours: 1 });
    expect((await sweeper.sweep()).removed).toEqual([]);
    expect(await codeOf(sweeper.remove(read))).toBe("export_in_use");
    expect(await codeOf(sweeper.remove(writer.manifest.export_id))).toBe("export_in_use");
    await reader.close();
    expect((await sweeper.sweep()).removed).toEqual([read]);
    await writer.release();
    await sweeper.remove(writer.manifest.export_id);
    expect(await readdir(place.root)).toEqual([]);
  });

  it("goes on past what cannot be removed", async () => {
    const store = await place.open({ ttlHours: 1 });
    const old = await completedExport(store);
    await age(old, 2);
    // Below it a path is longer than a system call takes, so that only its own maker gets there, step by step.
    const deep = join(place.root, `.trash-${newId("exp")}-0`);
    await mkdir(deep);
    const step = "d".repeat(200);
    execFileSync("sh", ["-c", 'cd "$1" && while mkdir "$2" && cd "$2"; do :; done', "sh", deep, step], {
      stdio: "ignore",
    });
    const { removed } = await (await place.open({ ttlHours: 1, leaseMs: 1 })).sweep();
    execFileSync("rm", ["-rf", deep]);
    expect(removed).toEqual([old]);
  });

  it("may be done by several processes at once", async () => {
    const stores = await Promise.all([1, 2, 3, 4].map(() => place.open({ ttlHours: 1 })));
    const [first] = stores;
    if (first === undefined) throw new Error("no store");
    const ids: string[] = [];
    for (let count = 0; count < 10; count += 1) ids.push(await completedExport(first));
    for (const id of ids) await age(id, 2);
    const removed = (await Promise.all(stores.map((store) => store.sweep()))).flatMap((swept) => swept.removed);
    expect(removed.sort()).toEqual(ids.sort());
    expect(await readdir(place.root)).toEqual([]);
  });

  it("forgets a reader that has not renewed its lease", async () => {
    const store = await place.open({ ttlHours: 1, leaseMs: 1000 });
    const exportId = await completedExport(store);
    await age(exportId, 2);
    const readers = join(place.root, exportId, "readers");
    const loadId = newId("load");
    await writeFile(
      join(readers, `${loadId}.json`),
      JSON.stringify({ load_id: loadId, owner: "dead", lease_until: new Date(Date.now() - 1).toISOString() }),
    );
    expect((await store.sweep()).removed).toEqual([exportId]);
  });

  it("clears away what killed processes left, and nothing that is not its own", async () => {
    const store = await place.open({ ttlHours: 1, leaseMs: 50 });
    const old = new Date(Date.now() - 7_200_000);
    const future = new Date(Date.now() + 60_000);
    await mkdir(join(place.root, ".trash-exp_0-1", "x"), { recursive: true });
    await mkdir(join(place.root, ".new-exp_0"));
    await mkdir(join(place.root, ".new-exp_1"));
    await writeFile(join(place.root, ".probe-0"), "");
    await writeFile(join(place.root, ".starting-dead"), "");
    await writeFile(join(place.root, ".starting-live"), "");
    await writeFile(join(place.root, "notes.txt"), "mine");
    for (const name of [".new-exp_0", ".probe-0", ".starting-dead", "notes.txt"]) {
      await utimes(join(place.root, name), old, old);
    }
    await utimes(join(place.root, ".new-exp_1"), future, future);
    await until(async () => {
      await store.sweep();
      return (await readdir(place.root)).length === 3;
    });
    expect((await readdir(place.root)).sort()).toEqual([".new-exp_1", ".starting-live", "notes.txt"]);
  });

  it("clears away what a writer left that was killed after its last word", async () => {
    const store = await place.open({ leaseMs: 50 });
    const exportId = await completedExport(store);
    const directory = join(place.root, exportId);
    const whole = (await readdir(directory)).sort();
    await mkdir(join(directory, "writer-00001"));
    await writeFile(join(directory, "writer-00001", "part-00009.ndjson"), "");
    await mkdir(join(directory, ".fenced-1-0"));
    await writeFile(join(directory, "part-00009.ndjson"), "");
    await writeFile(join(directory, "cancel-requested"), "");
    await until(async () => {
      await store.sweep();
      return (await readdir(directory)).length === whole.length;
    });
    expect((await readdir(directory)).sort()).toEqual(whole);
    expect((await store.read(exportId)).status).toBe("completed");
  });

  it("tells a reader that its export is gone, not that it is damaged", async () => {
    const store = await place.open({ leaseMs: 60 });
    const exportId = await completedExport(store);
    const reader = await store.openReader(exportId, newId("load"));
    await rm(join(place.root, exportId), { recursive: true });
    const [part] = reader.manifest.parts;
    if (part === undefined) throw new Error("no part");
    const reading = (async () => {
      for await (const batch of reader.lines(part)) void batch;
    })();
    expect(await codeOf(reading)).toBe("unknown_export");
    expect(await codeOf(reader.refresh())).toBe("unknown_export");
    await reader.close();
  });
});

function idOf(writer: ExportWriter): string {
  return writer.manifest.export_id;
}

/** What a survey finds, with the handles of what works. */
async function surveyed(store: StagingStore): Promise<{ working: string[]; ended: object }> {
  const { working, ended } = await store.survey();
  return { working: working.map(({ export_id }) => export_id), ended };
}

/** Only what the file system's clock has gone past is remembered. */
function later(): void {
  vi.useFakeTimers({ toFake: ["Date"], now: Date.now() + 10_000 });
}

describe("survey", () => {
  afterEach(() => {
    vi.useRealTimers();
  });

  it("tells what works and counts what has ended", async () => {
    const store = await place.open();
    await completedExport(store);
    await completedExport(store);
    const failed = await store.create(draft());
    await failed.finish("failed", { code: "snapshot_lost", message: "gone", retryable: false });
    const cancelled = await store.create(draft());
    await cancelled.finish("cancelled");
    const writer = await store.create(draft());
    const expected = { working: [idOf(writer)], ended: { completed: 2, failed: 1, cancelled: 1 } };
    expect(await surveyed(store)).toEqual(expected);
    later();
    expect(await surveyed(store)).toEqual(expected);
    expect(await surveyed(store)).toEqual(expected);
    await writer.release();
  });

  it("leaves out what cannot be used, and counts it once it can", async () => {
    const store = await place.open();
    const exportId = await completedExport(store);
    const path = join(place.root, exportId, "manifest.json");
    const whole = await readFile(path);
    await truncate(path, 10);
    later();
    for (let look = 0; look < 2; look++) expect((await store.survey()).ended.completed).toBe(0);
    await writeFile(path, whole);
    expect((await store.survey()).ended.completed).toBe(1);
    await rm(path);
    expect((await store.survey()).ended.completed).toBe(0);
  });

  it("reads no manifest again that has ended and not changed", async () => {
    const store = await place.open();
    const ended = await completedExport(store);
    const writer = await store.create(draft());
    later();
    await surveyed(store);
    const opened: string[] = [];
    const open = vi.spyOn(fs, "open").mockImplementation(async (...given) => {
      opened.push(String(given[0]));
      return await realOpen(...given);
    });
    syncBuiltinESMExports();
    try {
      await surveyed(store);
    } finally {
      open.mockRestore();
      syncBuiltinESMExports();
    }
    expect(opened).toEqual([join(place.root, idOf(writer), "manifest.json")]);
    expect((await store.survey()).ended.completed).toBe(1);
    await store.remove(ended);
    expect((await store.survey()).ended.completed).toBe(0);
    await writer.release();
  });

  it("sees an ended export that another process has taken over since, and that it was left again", async () => {
    const [here, there] = [await place.open(), await place.open()];
    const writer = await there.create({ ...draft(), checkpoint: { points: [], point: 0, reading: [], next_slice: 0 } });
    await writer.finish("failed", { code: "interrupted", message: "stopped", retryable: true });
    later();
    for (let look = 0; look < 2; look++) {
      expect(await surveyed(here)).toEqual({ working: [], ended: { completed: 0, failed: 1, cancelled: 0 } });
    }
    const taken = await there.takeOver(idOf(writer));
    expect(await surveyed(here)).toEqual({ working: [idOf(writer)], ended: { completed: 0, failed: 0, cancelled: 0 } });
    await taken.release();
    const [left] = (await here.survey()).working;
    expect(left !== undefined && here.isStalled(left)).toBe(true);
    await (await here.takeOver(idOf(writer))).finish("cancelled", null, { checkpoint: null });
    expect((await surveyed(there)).ended).toEqual({ completed: 0, failed: 0, cancelled: 1 });
  });

  it("sees a manifest of the same size that was put in the place of another in the same moment", async () => {
    const store = await place.open();
    const exportId = await completedExport(store);
    const path = join(place.root, exportId, "manifest.json");
    const text = await readFile(path, "utf8");
    const { mtime, size } = await lstat(path);
    later();
    expect((await store.survey()).ended.completed).toBe(1);
    // No longer the file's JSON, and of the same length.
    await writeFile(`${path}.new`, text.replace("{", "["));
    await utimes(`${path}.new`, mtime, mtime);
    await rename(`${path}.new`, path);
    expect((await lstat(path)).size).toBe(size);
    expect((await store.survey()).ended.completed).toBe(0);
  });
});
