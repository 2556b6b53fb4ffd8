import { describe, expect, it } from "vitest";
import { defaultRoot, isMountPoint, mountPoints, rootFromUrl } from "./root.ts";
import { StagingError } from "./staging-error.ts";

describe("rootFromUrl", () => {
  it.each([
    ["file:///var/lib/es-to-pg/staging", "/var/lib/es-to-pg/staging"],
    ["file:///staging/", "/staging"],
    ["file://localhost/staging", "/staging"],
    ["file:///with%20space", "/with space"],
    ["file:///a/../staging", "/staging"],
  ])("takes %s as %s", (url, path) => {
    expect(rootFromUrl(url)).toBe(path);
  });

  it.each([
    "s3://bucket/staging",
    "https://host/staging",
    "/staging",
    "staging",
    "",
    "file://host/staging",
    "file:///",
    "file:///a?b",
    "file:///a#b",
    "file:///a%2Fb",
  ])("refuses %j with the form that is right", (url) => {
    expect(() => rootFromUrl(url)).toThrow(StagingError);
    expect(() => rootFromUrl(url)).toThrow(
      expect.objectContaining({ code: "staging_url_invalid", next: expect.stringContaining("file:///") }),
    );
  });
});

describe("defaultRoot", () => {
  it("is the user's state directory", () => {
    expect(defaultRoot({}, "linux", () => "/home/u")).toBe("/home/u/.local/state/es-to-pg/staging");
    expect(defaultRoot({ XDG_STATE_HOME: "/state" }, "linux", () => "/home/u")).toBe("/state/es-to-pg/staging");
    expect(defaultRoot({ XDG_STATE_HOME: "state" }, "linux", () => "/home/u")).toBe(
      "/home/u/.local/state/es-to-pg/staging",
    );
    expect(defaultRoot({}, "darwin", () => "/Users/u")).toBe("/Users/u/Library/Application Support/es-to-pg/staging");
  });
});

function homeless(): never {
  throw new Error("ENOENT");
}

it("asks for STAGING_URL where the user has no home", () => {
  expect(() => defaultRoot({}, "linux", homeless)).toThrow(
    expect.objectContaining({ code: "staging_url_invalid", next: expect.stringContaining("STAGING_URL") }),
  );
  expect(defaultRoot({ XDG_STATE_HOME: "/state" }, "linux", homeless)).toBe("/state/es-to-pg/staging");
});

describe("mount points", () => {
  it("are read from the kernel's table, with escaped characters", () => {
    const table = [
      "24 1 8:1 / / rw,relatime - ext4 /dev/root rw",
      "98 24 8:1 /var/data /staging rw - ext4 /dev/root rw",
      "99 24 0:5 / /mnt/with\\040space rw shared:7 - tmpfs tmpfs rw",
      "",
    ].join("\n");
    expect(mountPoints(table)).toEqual(["/", "/staging", "/mnt/with space"]);
  });

  it("tell a file system of its own from a directory in one", async () => {
    expect(await isMountPoint("/dev")).toBe(true);
    expect(await isMountPoint(import.meta.dirname)).toBe(false);
  });
});
