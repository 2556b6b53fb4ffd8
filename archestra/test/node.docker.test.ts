/** What is done to the cluster's node, with a real Docker: a container stands in for the node, and keeps what it is sent. */
import { randomBytes } from "node:crypto";
import { afterAll, beforeAll, expect, it } from "vitest";
import { openCluster } from "../src/cluster.ts";
import { openShell } from "../src/process.ts";
import { readBundleSettings } from "../src/settings.ts";

/** The image that every image of this repository is built on. */
const image = "node:24-bookworm-slim";
const name = `data-transformer-node-${randomBytes(4).toString("hex")}`;
/** Keeps the archive that is imported, and lists an image once it has come. */
const ctr = `#!/bin/sh
case "$4" in
  import) cat >/tmp/image.tar ;;
  ls) [ ! -f /tmp/image.tar ] || echo "REF x sha256:$(sha256sum /tmp/image.tar | cut -d' ' -f1)" ;;
esac`;

const signal = new AbortController().signal;
const shell = openShell(process.env);
const docker = (...parameters: string[]) => shell.run(["docker", ...parameters], { signal });

beforeAll(async () => {
  await docker("run", "--detach", "--rm", "--name", name, "--entrypoint", "sleep", image, "600");
  const write = ["exec", "-i", name, "sh", "-c", "cat >/usr/local/bin/ctr && chmod +x /usr/local/bin/ctr"];
  await shell.run(["docker", ...write], { signal, input: ctr });
  await docker("network", "create", name);
});

afterAll(async () => {
  await docker("rm", "--force", name);
  await docker("network", "rm", name);
});

function nodeOf(values: Record<string, string> = {}) {
  const environment = { ARCHESTRA_NODE: name, ARCHESTRA_DATABASE_NETWORK: name, ...values };
  const cluster = openCluster(readBundleSettings(environment), { shell, signal });
  const { images, network } = cluster;
  if (images === undefined || network === undefined) throw new Error("a node in Docker has both");
  return { images, network, check: () => cluster.check() };
}

it("tells a node that runs from one that does not", async () => {
  await expect(nodeOf().check()).resolves.toBeUndefined();
  await expect(nodeOf({ ARCHESTRA_NODE: `${name}-other` }).check()).rejects.toMatchObject({
    code: "cluster_unreachable",
  });
});

it("joins the databases' network and leaves it", async () => {
  const { network } = nodeOf();
  expect(await network.isJoined()).toBe(false);
  await network.join();
  expect(await network.isJoined()).toBe(true);
  await network.leave();
  expect(await network.isJoined()).toBe(false);
  const missing = nodeOf({ ARCHESTRA_DATABASE_NETWORK: `${name}-other` });
  await expect(missing.network.join()).rejects.toMatchObject({ code: "network_missing" });
});

it("sends an image into the node whole", async () => {
  const { images } = nodeOf();
  expect(await images.hostId(image)).toMatch(/^sha256:[0-9a-f]{64}$/);
  expect(await images.hostId(`${name}:none`)).toBeUndefined();
  expect(await images.nodeDigest(image)).toBeUndefined();
  await images.load(image);
  expect(await images.nodeDigest(image)).toMatch(/^sha256:[0-9a-f]{64}$/);
  expect((await docker("exec", name, "tar", "--list", "--file", "/tmp/image.tar")).split("\n")).toContain(
    "manifest.json",
  );
  await expect(images.load(`${name}:none`)).rejects.toThrow("docker save");
});
