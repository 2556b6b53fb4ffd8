import { mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { expect, it } from "vitest";
import { storeAtFirstUse } from "./at-first-use.ts";

it("opens one store, and tries again after a failure", async () => {
  const folder = await mkdtemp(join(tmpdir(), "at-first-use-"));
  try {
    const parent = join(folder, "parent");
    await writeFile(parent, "no directory yet");
    const store = storeAtFirstUse({
      STAGING_URL: pathToFileURL(join(parent, "root")).href,
      STAGING_MODE: "private",
      STAGING_TTL_HOURS: 1,
      STAGING_BYTES_MAX: undefined,
      STAGING_REQUIRE_MOUNT: false,
    });
    await expect(store()).rejects.toMatchObject({ code: "staging_unshared" });
    await rm(parent);
    await mkdir(parent, { mode: 0o700 });
    const opened = await store();
    expect(opened.root).toBe(join(parent, "root"));
    expect(await store()).toBe(opened);
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
});
